"""How much of a JSON answer stands in the text that it was made from: numbers, dates and words, however written.

Invoices, forms and letters say `1.234,50` and `5. März 2026` where the answer has `1234.5` and `2026-03-05`. What an
answer says and its document does not was made up, or misread; nobody needs the truth to see it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import date
from itertools import islice

from router_models.types import Completion, Query

DOCUMENT_CHARS = 20_000
MOST_FIELDS = 200
_NUMBER = re.compile(r"\d[\d.,'’]*\d|\d", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WORD = re.compile(r"\w+")
_MONTHS = (
    "january januar", "february februar", "march märz", "april", "may mai", "june juni", "july juli", "august",
    "september", "october oktober", "november", "december dezember",
)  # fmt: skip


def field_agreement(query: Query, completion: Completion) -> float:
    """Return the share of the values of a JSON answer that the request's text says, in whatever way of writing.

    Numbers are read as English and as German writes them, dates in ISO's form also as numbers and with a month's
    name; texts count by their words. True, false and null say nothing, and count for nothing.

    Parameters
    ----------
    query : Query
        The request; of its text the last `DOCUMENT_CHARS` characters are read.
    completion : Completion
        The answer, whole.

    Returns
    -------
    float
        In [0, 1]; 0 where JSON was asked for and the answer is none; NaN where none was asked for, and without
        values.
    """
    declared = query.parameters.get("response_format")
    if not isinstance(declared, dict) or declared.get("type") not in ("json_object", "json_schema"):
        return math.nan
    try:
        value = json.loads(completion.text)
        found = list(islice(_values(value), MOST_FIELDS))
    except (ValueError, RecursionError):
        return 0.0
    if not found:
        return math.nan
    text = query.text[-DOCUMENT_CHARS:]
    words, numbers = _words(text), frozenset(_readings(text))
    return sum(_is_said(one, words, numbers) for one in found) / len(found)


def _values(value: object) -> Iterator[str | int | float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield value


def _is_said(value: str | int | float, words: str, numbers: frozenset[float]) -> bool:
    if not isinstance(value, str):
        try:
            number = abs(float(value))
        except OverflowError:  # an integer beyond floats
            return False
        return math.isfinite(number) and round(number, 6) in numbers
    if _ISO_DATE.fullmatch(value.strip()):
        return any(form in words for form in _dates(value.strip()))
    return _words(value) in words


def _dates(iso: str) -> Iterator[str]:
    """Yield the ways in which a day may be written, as `_words` leaves them; none for a day that does not exist."""
    yield _words(iso)
    try:
        day = date.fromisoformat(iso)
    except ValueError:
        return
    for d in {f"{day.day}", f"{day.day:02}"}:
        for m in {f"{day.month}", f"{day.month:02}"}:
            for y in (f"{day.year}", f"{day.year % 100:02}"):
                yield from (f" {d} {m} {y} ", f" {m} {d} {y} ")
        for name in _MONTHS[day.month - 1].split():
            for month in (name, name[:3]):
                yield from (f" {d} {month} {day.year} ", f" {month} {d} {day.year} ")


def _words(text: str) -> str:
    """Return the words of a text in lower case, each between blanks."""
    return f" {' '.join(_WORD.findall(text.casefold().replace('_', ' ')))} "


def _readings(text: str) -> Iterator[float]:
    """Yield every number of a text, in English and in German reading where these differ."""
    for match in _NUMBER.finditer(text):
        plain = match.group().replace("'", "").replace("’", "")
        for thousands, point in ((",", "."), (".", ",")):
            whole, _, rest = plain.partition(point)
            digits = f"{whole.replace(thousands, '')}.{rest or 0}"
            try:
                yield round(float(digits), 6)
            except ValueError:
                continue
