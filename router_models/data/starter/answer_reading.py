"""Read a model's answer tolerantly: look past fences, quotes and introductory phrases.

Every function accepts any text and never raises.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

_FENCE = re.compile(r"```(?:[\w+-]*[^\S\n]*\n)?(.*?)(?:```|\Z)", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])[-\u2212]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?", re.ASCII)
_BARE_NUMBER = re.compile(
    r"[^\w$.\u2212-]*([-\u2212]?\$?[\d,]*\.?\d+)[ \t]*(?:[^\W\d]+|[%°€£])?[ \t]*[.*`\"')]*\s*(?:$|\n|\. )",
    re.ASCII,
)
_JSON_START = re.compile(r"(?:^|[:`])[^\S\n]*[{\[]", re.MULTILINE)  # on one line: \s* would make it quadratic
_WRAPPERS = "\"'`*“”„‘’«»"
_WORDS = {
    word: value
    for value, names in enumerate(
        (
            "zero none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
            "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
            "nineteen", "twenty",
        )
    )
    for word in names.split()
}  # fmt: skip


def fold(text: str) -> str:
    """Return `text` in lower case, without accents, every run of white space as one blank."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'").casefold())
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).split())


def unfenced(answer: str) -> str:
    """Return the contents of the first code fence, or the answer when there is none; stripped."""
    match = _FENCE.search(answer)
    return (match.group(1) if match else answer).strip()


def unwrapped(text: str) -> str:
    """Return `text` without the quotes, back-ticks or bold marks around it."""
    text = text.strip()
    while len(text) >= 2 and text[0] in _WRAPPERS and text[-1] in _WRAPPERS:
        text = text[1:-1].strip()
    return text


def first_number(answer: str) -> float | None:
    """Return the number an answer opens with when its first line or sentence is that number alone."""
    match = _BARE_NUMBER.match(answer)
    return _value(match.group(1)) if match else None


def numbers(answer: str) -> list[float]:
    """Return the numbers in the answer; number words (zero..twenty) count when there are no digits."""
    found = [_value(match.group()) for match in _NUMBER.finditer(answer)]
    if not found:
        found = [float(_WORDS[word]) for word in re.findall(r"[a-z]+", answer.casefold()) if word in _WORDS]
    return [value for value in found if value is not None]


def _value(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("$", "").replace("\u2212", "-"))
    except (ValueError, OverflowError):
        return None


def names(text: str, phrase: str) -> int | None:
    """Return where the folded `phrase` stands as whole words in the folded `text`, or None."""
    match = re.search(rf"(?<!\w){re.escape(fold(phrase))}(?!\w)", text)
    return match.start() if match else None


def short_answers(answer: str) -> Iterator[str]:
    """Yield the readings of a one-line answer: itself, what follows a colon or an "is", its last quoted part."""
    lines = [line.strip() for line in unfenced(answer).splitlines() if line.strip()]
    if not lines:
        return
    if len(lines) == 1 or lines[0].endswith(":"):
        line = lines[-1] if len(lines) <= 2 else ""
        yield unwrapped(line)
        head, colon, tail = line.partition(": ")
        if colon and len(head.split()) <= 8:
            yield unwrapped(tail)
        if " is " in line:
            yield unwrapped(line.rpartition(" is ")[2])
    quoted = re.findall(r"\"([^\"]+)\"|\*\*([^*]+)\*\*|`([^`]+)`|“([^“”]+)”", lines[0])
    if quoted:
        yield unwrapped(next(part for part in quoted[-1] if part))


def read_json(answer: str) -> tuple[bool, object]:
    """Return (True, value) for the first JSON object or array that opens a line or follows a colon.

    (False, None) when there is none; a value inside a call (`json.dumps({...})`) is code, not an answer.
    """
    decoder = json.JSONDecoder()
    for match in islice(_JSON_START.finditer(answer), 20):
        try:
            value, _ = decoder.raw_decode(answer, match.end() - 1)
        except (ValueError, RecursionError):
            continue
        return True, value
    return False, None
