"""Name who said right or wrong: a person, a program, or a judge (a model), and which judge.

A label's source is `human`, `programmatic`, `judge` or `judge:<name>`; an empty string where nobody said. What several
labels rest on together is one of those, `human and programmatic`, or `unstated` where some of them say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

UNSTATED = "unstated"
ACCEPTED_SOURCES = "human, programmatic, judge or judge:NAME"
_NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", UNSTATED})


class LabelSource(StrEnum):
    """Who said right or wrong. A judge's labels certify agreement with the judge, and the summary says so.

    A judge may have a name (`judge:<name>`), and a certificate may rest on several (`combined_source`).
    """

    HUMAN = "human"
    PROGRAMMATIC = "programmatic"
    JUDGE = "judge"


_ORDER = (LabelSource.HUMAN, LabelSource.PROGRAMMATIC, UNSTATED)


def parsed_source(text: str) -> str:
    """Return a source as it is stored: kinds in lower case, a judge's name as it is written, '' where none is said.

    Raises
    ------
    ValueError
        For anything else, with what is accepted.
    """
    kind, colon, name = (part.strip() for part in text.partition(":"))
    kind = kind.casefold()
    if not colon and kind in _NOTHING:
        return ""
    if not colon and kind in tuple(LabelSource):
        return kind
    if kind == LabelSource.JUDGE and name:
        return f"{LabelSource.JUDGE}:{' '.join(name.split())}"
    raise ValueError(f"{text!r} does not say whose label it is: write {ACCEPTED_SOURCES}, or leave it empty")


def by_judge(source: str) -> bool:
    """Return whether a judge gave the label."""
    return source.partition(":")[0] == LabelSource.JUDGE


def judge_of(source: str) -> str:
    """Return how a judge is called in a sentence: `judge gpt-4o`, or `the judge` where it has no name."""
    name = source.partition(":")[2]
    return f"judge {name}" if name else "the judge"


def combined_source(sources: Iterable[str]) -> str:
    """Return what labels of these sources rest on together.

    Raises
    ------
    ValueError
        Where a judge's labels are mixed with anybody else's, another judge's included: agreement with whom would be
        certified cannot be said.
    """
    found = sorted({source or UNSTATED for source in sources})
    judges = [source for source in found if by_judge(source)]
    if judges and len(found) > 1:
        raise ValueError(f"labels of {' and of '.join(found)} are mixed")
    return judges[0] if judges else " and ".join(source for source in _ORDER if source in found)
