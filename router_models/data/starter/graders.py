"""Grade answers: one pure function per kind of answer, in a registry.

A grader is tolerant where a human grader would be (white space, a final full stop, fences, prose around a number,
case where the task does not require one) and strict where the form is the task. It never raises on any answer text;
a reference of the wrong shape is the author's mistake and raises TypeError.
"""

import re
from collections.abc import Callable, Mapping

from router_models.data.starter import answer_reading as reading
from router_models.data.starter.compare import agrees, same
from router_models.data.starter.program import marks_program
from router_models.data.starter.typed_graders import answers_yes_no, explains, listed, says, states

Reference = Mapping[str, object]
_LONGEST_PROSE_WORDS = 45
_FEWEST_LISTED, _LONGEST_LISTED_WORDS = 4, 3


def mentions(reference: Reference, answer: str) -> bool:
    """Accept a short first paragraph that names one of `accepted` as whole words and none of `rivals`.

    A list of four or more candidates is no answer.
    """
    paragraph = reading.unfenced(answer).split("\n\n")[0]
    text = reading.fold(paragraph)
    if len(text.split()) > _LONGEST_PROSE_WORDS or _is_list(paragraph):
        return False
    rivals = _strings(reference, "rivals") if "rivals" in reference else []
    return _names_any(text, _strings(reference, "accepted")) and not _names_any(text, rivals)


def _is_list(paragraph: str) -> bool:
    parts = [part.split() for part in re.split(r"[,;\n]", paragraph) if part.strip()]
    return len(parts) >= _FEWEST_LISTED and all(len(part) <= _LONGEST_LISTED_WORDS for part in parts)


def _names_any(text: str, phrases: list[str]) -> bool:
    return any(reading.names(text, phrase) is not None for phrase in phrases)


def number(reference: Reference, answer: str) -> bool:
    """Accept when the number the answer opens with, or else its last number, is `value` (to 1 in 10,000).

    Also when `value` is the only number in the answer that the prompt had not given ("120 minutes are 2 hours").
    """
    want = reference["value"]
    if not isinstance(want, int | float):
        raise TypeError(f"number grader: 'value' must be a number, got {want!r}")
    found = reading.first_number(answer)
    if found is not None:
        return _is_near(found, want)
    numbers = reading.numbers(answer)
    if numbers and _is_near(numbers[-1], want):
        return True
    given = reference.get("given")
    known = [value for value in given if isinstance(value, int | float)] if isinstance(given, list | tuple) else []
    new = {value for value in numbers if abs(value) not in known}
    return len(new) == 1 and _is_near(new.pop(), want)


def _is_near(found: float, want: int | float) -> bool:
    return found == want if isinstance(want, int) else abs(found - want) <= 1e-4 * max(1.0, abs(want))


def choice(reference: Reference, answer: str) -> bool:
    """Accept when `answer` is the only one of `options` that is named, or the one the reply opens with.

    `aliases` maps an option to other forms of it that count as naming it; options in `given` stood in the
    question and may be repeated.
    """
    text = reading.fold(reading.unfenced(answer))
    text = re.sub(r"\bnot (?:necessarily |really |an? |the )?\w+", "", text)  # "not negative" names nothing
    want = _string(reference, "answer")
    aliases = reference.get("aliases")
    forms = {
        option: [
            option,
            *(_strings(aliases, option) if isinstance(aliases, Mapping) and option in aliases else []),
        ]
        for option in _strings(reference, "options")
    }
    named = [option for option, phrases in forms.items() if _names_any(text, phrases)]
    given = _strings(reference, "given") if "given" in reference else []
    opening = re.sub(r"^\W*(?:(?:an?|the) )?\W*", "", text)
    return [option for option in named if option not in given] == [want] or any(
        reading.names(opening, phrase) == 0 for phrase in forms[want]
    )


def exact(reference: Reference, answer: str) -> bool:
    """Accept the text itself, perhaps quoted, with a final full stop, or after a short lead-in and a colon."""
    want = _string(reference, "text").strip()
    fold_case = reference.get("fold_case") is True
    for reading_ in reading.short_answers(answer):
        for candidate in (reading_, reading_.rstrip(".").rstrip(), reading.unwrapped(reading_.rstrip("."))):
            if candidate == want or (fold_case and candidate.casefold() == want.casefold()):
                return True
    return False


def verbatim(reference: Reference, answer: str) -> bool:
    """Accept a copy: the text character for character; only quotes or a fence around it are forgiven."""
    want = _string(reference, "text").strip()
    return want in (answer.strip(), reading.unwrapped(reading.unfenced(answer)), reading.unfenced(answer))


def number_words(reference: Reference, answer: str) -> bool:
    """Accept a number written out in English, whatever its hyphens, commas, case and "and"."""
    want = _spoken(_string(reference, "words"))
    return any(_spoken(reply) == want for reply in reading.short_answers(answer))


def _spoken(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", text.casefold()) if word != "and"]


def sequence(reference: Reference, answer: str) -> bool:
    """Accept the `items` in order, separated by commas, blanks or lines, perhaps bracketed or numbered."""
    want = [item.casefold() for item in _strings(reference, "items")]
    text = reading.unfenced(answer)
    blocks = [
        text,
        text.rpartition(":")[2],
        text.rpartition(" is ")[2],
        *[line.rpartition(":")[2] for line in text.splitlines()[:1]],
    ]
    return any(_items(block) == want for block in blocks)


def _items(block: str) -> list[str]:
    separator = r"[,;\n]" if re.search(r"[,;\n]", block.strip()) else r"\s+"
    items = []
    for part in re.split(separator, block.strip().strip("[]().")):
        item = re.sub(r"^\s*(?:[-*•]\s+|\d{1,2}[.)]\s+|and\s+)", "", part)
        items.append(reading.unwrapped(item.strip().rstrip(".")).casefold())
    return [item for item in items if item]


def json_equal(reference: Reference, answer: str) -> bool:
    """Accept the first JSON value in the answer when it equals `value`.

    With `loose`, scalars are compared as trimmed text in any case, so that 42 and "42" are the same.
    """
    found, value = reading.read_json(answer)
    return found and same(value, reference["value"], loose=reference.get("loose") is True)


def date(reference: Reference, answer: str) -> bool:
    """Accept when the last date written YYYY-MM-DD in the answer is `date`."""
    want = _string(reference, "date")
    found = re.findall(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)", answer, re.ASCII)
    return bool(found) and found[-1] == want


def letter(reference: Reference, answer: str) -> bool:
    """Accept the right option's letter ("B", "(B)", "B) text", "The answer is B") or its text alone."""
    options = reference["options"]
    if not isinstance(options, Mapping):
        raise TypeError(f"letter grader: 'options' must be an object, got {options!r}")
    want = _string(reference, "answer")
    text = reading.unwrapped(reading.unfenced(answer))
    opened = re.match(r"\W*([A-E])(?![\w'’])", text)
    stated = re.findall(r"(?:answer|option|choice)(?:\s+is)?:?\s*\W{0,3}([A-E])(?!\w)", text, re.IGNORECASE)
    if opened and not re.match(r"\W*A\s+[a-z]", text):
        return opened.group(1) == want
    if stated:
        return str(stated[-1]).upper() == want
    named = [key for key, option in options.items() if reading.names(reading.fold(text), str(option)) is not None]
    return named == [want]


def marks_sentence(reference: Reference, answer: str) -> bool:
    """Accept one or two finished sentences, 4 to 45 words, that use every one of `words`; not the request itself."""
    text = reading.unwrapped(reading.unfenced(answer)).strip()
    used = reading.fold(text)
    ends = len(re.findall(r"[.!?](?=[\s\"'”]|$)", text))
    if re.match(r"\W*(?:write|make) (?:an?|one)(?: short)? sentence\b", used):
        return False
    finished = bool(re.search(r"[.!?][\"'”]?$", text)) and 1 <= ends <= 2
    forms = [(word, f"{word}s", f"{word}'s") for word in _strings(reference, "words")]
    return finished and 4 <= len(used.split()) <= _LONGEST_PROSE_WORDS and all(_names_any(used, [*f]) for f in forms)


def record(reference: Reference, answer: str) -> bool:
    """Accept a JSON object that holds every one of `fields` with its value; other keys may stand beside them.

    Keys and values are compared in any case, numbers as text.
    """
    fields = reference["fields"]
    if not isinstance(fields, Mapping):
        raise TypeError(f"record grader: 'fields' must be an object, got {fields!r}")
    found, value = reading.read_json(answer)
    if not found or not isinstance(value, dict):
        return False
    given = {str(key).casefold(): str(item).strip().casefold() for key, item in value.items()}
    return all(given.get(str(key).casefold()) == str(item).casefold() for key, item in fields.items())


def fields(reference: Reference, answer: str) -> bool:
    """Accept a JSON object that agrees with `fields` in all of them, or in the share `at_least` of them.

    Numbers are compared as numbers, also where one side is text ("12.50" is 12.5), to 1e-6; other texts in any case
    and with any white space; objects and lists part by part. Keys are exact: a schema declares them.
    """
    wanted = reference["fields"]
    if not isinstance(wanted, Mapping):
        raise TypeError(f"fields grader: 'fields' must be an object, got {wanted!r}")
    found, value = reading.read_json(answer)
    if not found or not isinstance(value, dict):
        return False
    share = reference.get("at_least", 1.0)
    agreeing = sum(key in value and agrees(value[key], item) for key, item in wanted.items())
    return agreeing >= (share if isinstance(share, int | float) else 1.0) * len(wanted) - 1e-9


GRADERS: Mapping[str, Callable[[Reference, str], bool]] = {
    "mentions": mentions,
    "number": number,
    "choice": choice,
    "exact": exact,
    "verbatim": verbatim,
    "number_words": number_words,
    "sequence": sequence,
    "json": json_equal,
    "date": date,
    "letter": letter,
    "program": marks_program,
    "sentence": marks_sentence,
    "record": record,
    "fields": fields,
    "states": states,
    "says": says,
    "yes_no": answers_yes_no,
    "listed": listed,
    "explains": explains,
}


def _string(reference: Reference, key: str) -> str:
    value = reference[key]
    if not isinstance(value, str):
        raise TypeError(f"{key!r} must be a string, got {value!r}")
    return value


def _strings(reference: Reference, key: str) -> list[str]:
    value = reference[key]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{key!r} must be a list of strings, got {value!r}")
    return [str(item) for item in value]
