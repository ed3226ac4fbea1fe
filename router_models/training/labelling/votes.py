"""What several people's labels come to: a majority, an adjudication, and how far they agree.

Whatever nobody decides counts against the certificate: a skipped or disputed cheap answer as wrong, the last tier's as
right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from router_models.training.labelling.plan import LabelTask
from router_models.training.labelling.records import LabelRecord
from router_models.types import FloatArray

Item = tuple[str, str]
"""An answer: the row's key and the tier."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What was said of one answer: by whom, and what it comes to (None: skipped by all, or a draw)."""

    said: Mapping[str, bool]
    right: bool | None

    @property
    def disputed(self) -> bool:
        """Whether people disagree and nobody has settled it."""
        return self.right is None and len(set(self.said.values())) > 1


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two labellers agree on the answers that both labelled."""

    labellers: tuple[str, str]
    n: int
    agree: float
    kappa: float | None


def votes_of(records: Iterable[LabelRecord]) -> dict[Item, Vote]:
    """Every answer of which something was said: each labeller's last word, then an adjudication over a majority."""
    said: dict[Item, dict[str, bool]] = {}
    settled: dict[Item, bool] = {}
    for record in records:
        item = (record.row, record.tier)
        mine = said.setdefault(item, {})
        if record.adjudicated:
            if record.right is not None:
                settled[item] = record.right
        elif record.right is None:
            mine.pop(record.labeller, None)
        else:
            mine[record.labeller] = record.right
    return {item: Vote(by, settled.get(item, _majority(list(by.values())))) for item, by in said.items()}


def marks_by(task: LabelTask, votes: Mapping[Item, Vote]) -> FloatArray:
    """What every row of a task shows, (n,): 1 where the risk happened, 0 where it did not, NaN without a label."""
    marks = np.full(len(task.questions), np.nan)
    cheap, last = task.plan.tiers[0], task.plan.tiers[-1]
    for i, question in enumerate(task.questions):
        if question.alike:
            marks[i] = 0.0
        elif all((question.key, tier) in votes for tier in question.answers):
            wrong = not (votes[question.key, cheap].right or False)
            worse = not task.plan.harm or votes[question.key, last].right is not False
            marks[i] = float(wrong and worse)
    return marks


def agreements(votes: Mapping[Item, Vote]) -> tuple[Agreement, ...]:
    """Every pair of labellers who labelled the same answers, with Cohen's kappa."""
    names = sorted({name for vote in votes.values() for name in vote.said})
    found = []
    for pair in combinations(names, 2):
        both = [(vote.said[pair[0]], vote.said[pair[1]]) for vote in votes.values() if set(pair) <= vote.said.keys()]
        if both:
            first, second = [a for a, _ in both], [b for _, b in both]
            alike = float(np.mean([a == b for a, b in both]))
            found.append(Agreement(pair, len(both), alike, cohens_kappa(first, second)))
    return tuple(found)


def cohens_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Agreement beyond chance (Cohen 1960): 1 is complete, 0 is chance; None where both always say the same one word.

    Parameters
    ----------
    first, second : sequence of bool
        Two people's labels of the same answers, in the same order.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.size == 0 or a.shape != b.shape:
        return None
    by_chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return None if by_chance >= 1 else float(((a == b).mean() - by_chance) / (1 - by_chance))


def _majority(said: Sequence[bool]) -> bool | None:
    balance = sum(1 if right else -1 for right in said)
    return None if balance == 0 else balance > 0
