"""Tasks are checked before they are asked: a reference that passes can be graded against any answer."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router_models.data.starter import Task, check_task, generate, grade
from router_models.data.starter.generate import typed
from router_models.data.starter.graders import GRADERS

TASK = Task("t", "What is the colour of the cat?", "notes", 1, "en", "mentions", {"accepted": ["brown"]}, "brown", 8)
KEYS = ("accepted", "rivals", "value", "given", "answer", "options", "aliases", "text", "words", "items", "loose",
        "fold_case", "date", "fields", "at_least", "members", "count", "groups", "about")  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS, max_size=3)
PURE = sorted(set(GRADERS) - {"program"})


def test_every_starter_task_passes() -> None:
    for task in (*generate(400, seed=7), *typed(200, seed=7)):
        check_task(task)


@pytest.mark.parametrize(
    ("grader", "reference", "message"),
    [
        ("regex", {}, "unknown grader 'regex'; there are: mentions, number"),
        ("mentions", {}, "'accepted': a list of strings; it is missing"),
        ("mentions", {"accepted": "brown"}, "'accepted': a list of strings; got 'brown'"),
        ("mentions", {"accepted": ["a"], "rivals": [1]}, "'rivals': a list of strings"),
        ("number", {"value": "1"}, "'value': a number"),
        ("number", {"value": True}, "'value': a number"),
        ("number", {"value": float("nan")}, "'value': a number"),
        ("choice", {"answer": "x", "options": ["a", "b"]}, "'answer' 'x' is none of its 'options'"),
        ("letter", {"answer": "C", "options": {"A": "x"}}, "'answer' 'C' is none of its 'options'"),
        ("letter", {"answer": "A", "options": ["x"]}, "'options': an object"),
        ("json", {}, "'value': a value; it is missing"),
        ("yes_no", {"answer": "maybe", "options": ["yes", "no"], "about": []}, "none of its 'options'"),
        ("listed", {"members": [["a"]], "count": 0}, "'count': a whole number from 1"),
        ("listed", {"members": ["a"], "count": 1}, "'members': a list of lists of strings"),
        ("explains", {"groups": []}, "'groups': a list of lists of strings"),
        ("record", {"fields": []}, "'fields': an object"),
        ("fields", {"fields": {"a": 1}, "at_least": 0}, "'at_least': a number above 0, up to 1"),
        ("program", {"function": "f", "cases": [[1, 2]]}, r"'cases': a list of \[arguments, result\] pairs"),
    ],
)
def test_a_reference_that_its_grader_cannot_read_is_named(
    grader: str, reference: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_task(replace(TASK, grader=grader, reference=reference))


@pytest.mark.parametrize(("change", "message"), [({"prompt": " \n"}, "'prompt'"), ({"max_tokens": 0}, "'max_tokens'")])
def test_a_task_that_cannot_be_asked_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_task(replace(TASK, **change))


@example("date", {"date": "", "options": {}, "answer": []}, "")
@given(st.sampled_from(PURE), st.dictionaries(st.sampled_from(KEYS), VALUES), st.text(max_size=30))
def test_no_reference_that_passes_makes_a_grader_raise(grader: str, reference: dict[str, Any], answer: str) -> None:
    task = replace(TASK, grader=grader, reference=reference)
    try:
        check_task(task)
    except ValueError:
        return
    assert grade(task, answer) in (True, False)


WELL_FORMED = {
    "mentions": {"accepted": st.lists(st.text(max_size=4)), "rivals": st.lists(st.text(max_size=4))},
    "number": {"value": st.integers() | st.floats(allow_nan=False, allow_infinity=False)},
    "exact": {"text": st.text(max_size=6)},
    "verbatim": {"text": st.text(max_size=6)},
    "number_words": {"words": st.text(max_size=6)},
    "sequence": {"items": st.lists(st.text(max_size=4), max_size=3)},
    "json": {"value": VALUES},
    "date": {"date": st.text(max_size=10)},
    "sentence": {"words": st.lists(st.text(max_size=4), max_size=3)},
    "states": {"accepted": st.lists(st.text(max_size=4)), "rivals": st.lists(st.text(max_size=4))},
    "says": {"text": st.text(max_size=6)},
    "listed": {
        "members": st.lists(st.lists(st.text(max_size=4), max_size=2), min_size=1),
        "count": st.integers(1, 3),
    },
    "explains": {"groups": st.lists(st.lists(st.text(max_size=4), max_size=2), min_size=1)},
    "record": {"fields": st.dictionaries(st.text(max_size=4), VALUES, max_size=3)},
}


@given(st.data(), st.text(max_size=40) | st.from_regex(r"[\[{\"0-9a-c,:. }\]]{0,30}", fullmatch=True))
@pytest.mark.parametrize("grader", WELL_FORMED)
def test_a_well_formed_reference_passes_and_grades_any_answer(grader: str, data: st.DataObject, answer: str) -> None:
    task = replace(TASK, grader=grader, reference=data.draw(st.fixed_dictionaries(WELL_FORMED[grader])))
    check_task(task)
    assert grade(task, answer) in (True, False)
