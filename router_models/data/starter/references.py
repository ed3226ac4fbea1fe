"""Check tasks before anything is asked: every grader gets the reference that it reads."""

import math
from collections.abc import Callable, Mapping

from router_models.data.starter.graders import GRADERS
from router_models.data.starter.task import UNGRADED, Task

_MOST_TOKENS = 2**31 - 1


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_strings(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_aliases(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_strings(forms) for forms in value.values())


def _is_cases(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(case, list | tuple) and len(case) == 2 and isinstance(case[0], list | tuple) for case in value
    )


def _is_groups(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(_is_strings(group) for group in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


_STRING = (_is_string, "a string")
_STRINGS = (_is_strings, "a list of strings")
_OBJECT = (_is_mapping, "an object")
_GROUPS = (_is_groups, "a list of lists of strings")
_ANYTHING = (lambda value: True, "a value")
_Kind = tuple[Callable[[object], bool], str]
_NEEDED: Mapping[str, Mapping[str, _Kind]] = {
    "mentions": {"accepted": _STRINGS},
    "number": {"value": (_is_number, "a number")},
    "choice": {"answer": _STRING, "options": _STRINGS},
    "exact": {"text": _STRING},
    "verbatim": {"text": _STRING},
    "number_words": {"words": _STRING},
    "sequence": {"items": _STRINGS},
    "json": {"value": _ANYTHING},
    "date": {"date": _STRING},
    "letter": {"options": _OBJECT, "answer": _STRING},
    "program": {"function": _STRING, "cases": (_is_cases, "a list of [arguments, result] pairs")},
    "sentence": {"words": _STRINGS},
    "record": {"fields": _OBJECT},
    "fields": {"fields": _OBJECT},
    "states": {"accepted": _STRINGS},
    "says": {"text": _STRING},
    "yes_no": {"answer": _STRING, "options": _STRINGS, "about": _STRINGS},
    "listed": {"members": _GROUPS, "count": (_is_count, "a whole number from 1")},
    "explains": {"groups": _GROUPS},
}
_ALLOWED: Mapping[str, Mapping[str, _Kind]] = {
    "fields": {"at_least": (_is_share, "a number above 0, up to 1")},
    "mentions": {"rivals": _STRINGS},
    "number": {"given": (lambda value: isinstance(value, list | tuple), "a list")},
    "states": {"rivals": _STRINGS},
    "choice": {"given": _STRINGS, "aliases": (_is_aliases, "an object of lists of strings")},
}


def check_task(task: Task) -> None:
    """Check that a task can be asked and its answers graded.

    Parameters
    ----------
    task : Task
        The task.

    Raises
    ------
    ValueError
        Naming what is wrong: an empty prompt, an unknown grader, a reference that its grader cannot read.
    """
    if not task.prompt.strip():
        raise ValueError("'prompt' holds no text")
    if task.max_tokens is not None and not 1 <= task.max_tokens <= _MOST_TOKENS:
        raise ValueError(f"'max_tokens' must be 1 or more and fit 32 bits, got {task.max_tokens}")
    if task.grader == UNGRADED:
        return
    if task.grader not in GRADERS:
        raise ValueError(f"unknown grader {task.grader!r}; there are: {', '.join(GRADERS)}")
    needed, allowed = _NEEDED[task.grader], _ALLOWED.get(task.grader, {})
    for key, (fits, what) in {**needed, **allowed}.items():
        if key not in task.reference and key in allowed:
            continue
        if key not in task.reference or not fits(task.reference[key]):
            found = f"got {task.reference[key]!r:.60}" if key in task.reference else "it is missing"
            raise ValueError(f"the reference of grader {task.grader!r} needs {key!r}: {what}; {found}")
    if "options" in needed and task.reference["answer"] not in task.reference["options"]:  # type: ignore[operator]
        raise ValueError(f"the reference's 'answer' {task.reference.get('answer')!r:.60} is none of its 'options'")
