"""How far judges agree with people on the answers that both have labelled. Pure.

A judge's labels are worth what people say they are. Compared are a judge's label and the majority of people's on the
same answer; draws among people are left out. A tie of a pairwise judge says that two answers are equally good, and not
how good: it is left out too, and of ties is counted how often people who graded both answers found them equally good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from router_models.errors import by_number
from router_models.metrics.intervals import Interval
from router_models.types import Action, FloatArray
from router_models.types.label_sources import by_judge
from serve_graph.records.feedback import Feedback

DRAWS = 4000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """A judge beside people: answers that both call right, the judge alone, people alone, both call wrong.

    `ties`: answers that people have labelled and the judge called a tie; `ties_graded`: those of which they graded the
    last tier's answer too, `ties_alike`: and both alike. Intervals are of Jeffreys' prior on the four
    shares (Dirichlet, 1/2 each), so that complete agreement on a few answers has a width too.
    """

    judge: str
    both_right: int = 0
    judge_alone: int = 0
    people_alone: int = 0
    both_wrong: int = 0
    ties: int = 0
    ties_graded: int = 0
    ties_alike: int = 0

    @property
    def n(self) -> int:
        """How many answers are compared."""
        return self.both_right + self.judge_alone + self.people_alone + self.both_wrong

    def agree(self) -> Interval | None:
        """The share of answers on which they agree; None without any."""
        return self._interval(lambda p: p[..., 0] + p[..., 3])

    def kappa(self) -> Interval | None:
        """Cohen's kappa: agreement beyond chance; None where both always say the same one word."""
        return self._interval(_kappa)

    def shown(self) -> dict[str, Any]:
        """As JSON-able data."""
        figures = {"agree": self.agree(), "kappa": self.kappa()}
        names = ("judge_alone", "people_alone", "both_wrong", "ties", "ties_graded", "ties_alike")
        counts = {name: getattr(self, name) for name in names}
        return {"judge": self.judge, "n": self.n, "both_right": self.both_right, **counts} | {
            name: None if one is None else {"value": one.value, "low": one.low, "high": one.high, "level": one.level}
            for name, one in figures.items()
        }

    def lines(self) -> list[str]:
        """In words."""
        if self.n == 0:
            return [
                f"{self.judge}: no answer that people have labelled has its label, {self.ties} "
                f"{by_number(self.ties, 'tie')}"
            ]
        agree, kappa = self.agree(), self.kappa()
        beyond = "not defined: both always say the same" if kappa is None else str(kappa)
        return [
            f"{self.judge}: {self.n} {by_number(self.n, 'answer')} labelled by people too, agreement {agree}, "
            f"Cohen's kappa {beyond} "
            f"({LEVEL:.0%} intervals)",
            f"  right to both {self.both_right}, to the judge alone {self.judge_alone}, to people alone "
            f"{self.people_alone}, wrong to both {self.both_wrong}; ties left out {self.ties}{self._ties()}",
        ]

    def _ties(self) -> str:
        """What people say of ties, where they graded both answers."""
        if not self.ties_graded:
            return ""
        return f", of which people graded both answers of {self.ties_graded} and found {self.ties_alike} equally good"

    def _interval(self, of: Any) -> Interval | None:
        counts = np.array([self.both_right, self.judge_alone, self.people_alone, self.both_wrong], dtype=np.float64)
        if not counts.any() or not np.isfinite(value := float(of(counts / counts.sum()))):
            return None
        drawn = np.random.default_rng(0).dirichlet(counts + 0.5, DRAWS)
        low, high = np.quantile(of(drawn), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return Interval(value, float(low), float(high), LEVEL)


def judge_agreements(labels: Iterable[Feedback]) -> list[JudgeAgreement]:
    """Every judge beside people, by these labels."""
    people: dict[str, int] = {}
    last: dict[str, int] = {}
    judges: dict[str, dict[str, Feedback]] = {}
    for label in labels:
        if label.value is None:
            continue
        if label.source == "human":
            people[label.decision] = people.get(label.decision, 0) + (1 if label.value else -1)
            if label.last_tier_right is not None:
                last[label.decision] = last.get(label.decision, 0) + (1 if label.last_tier_right else -1)
        elif by_judge(label.source):
            judges.setdefault(label.source, {})[label.decision] = label
    return [_beside(name, said, people, last) for name, said in sorted(judges.items())]


def _beside(name: str, said: dict[str, Feedback], people: dict[str, int], last: dict[str, int]) -> JudgeAgreement:
    ties = [of for of, label in said.items() if people.get(of) and label.detail.get("verdict") == "tie"]
    beside_last = [
        of for of in ties if said[of].detail.get("route") != Action.ESCALATED
    ]  # else beside what it rejected
    alike = [(people[of] > 0) == (last[of] > 0) for of in beside_last if last.get(of)]
    both = [(label, people[decision] > 0) for decision, label in said.items() if people.get(decision)]
    is_tie = [label.detail.get("verdict") == "tie" for label, _ in both]
    cells = Counter((bool(label.value), right) for (label, right), tie in zip(both, is_tie, strict=True) if not tie)
    return JudgeAgreement(
        name,
        both_right=cells[True, True],
        judge_alone=cells[True, False],
        people_alone=cells[False, True],
        both_wrong=cells[False, False],
        ties=len(ties),
        ties_graded=len(alike),
        ties_alike=sum(alike),
    )


def _kappa(shares: FloatArray) -> FloatArray:
    """Cohen's kappa of four shares along the last axis; NaN where chance alone gives full agreement."""
    judge, person = shares[..., 0] + shares[..., 1], shares[..., 0] + shares[..., 2]
    by_chance = judge * person + (1 - judge) * (1 - person)
    agree = shares[..., 0] + shares[..., 3]
    return np.divide(agree - by_chance, 1 - by_chance, out=np.full_like(agree, np.nan), where=by_chance < 1)
