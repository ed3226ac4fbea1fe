"""How often the cheaper tier's answer was picked over the dearer one's, of the requests that chance drew. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from router_models.errors import by_number
from router_models.metrics.intervals import Interval, interval_of
from router_models.pricing.prices import plain_decimal
from router_models.types import DecisionRecord, FloatArray

SAMPLES = 4000
_RESULTS = ("cheap", "tie", "last")
Pair = tuple[str, str, str]
"""The cheaper tier, the dearer one, and who judges, as the configuration names it."""


@dataclass(slots=True)
class EnsembleResult:
    """What came of the requests that two tiers answered, under one judge.

    Each prompt counts once: of one that came several times each result counts for its share. Intervals are 95 %, of
    Jeffreys' prior on the three shares (Dirichlet, 1/2 each), so that the same result of a few prompts has a width,
    too.
    `asked_for`: picks of requests that asked for it, which are no random sample, and in no figure.
    """

    pair: Pair
    picks: Counter[str] = field(default_factory=Counter)
    by: Counter[str] = field(default_factory=Counter)
    not_picked: Counter[str] = field(default_factory=Counter)
    asked_for: int = 0
    usd: Decimal = field(default_factory=Decimal)
    _prompts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, prompt: str, found: Mapping[str, Any]) -> None:
        """Count one request's entry."""
        self.usd += Decimal(str(found.get("usd") or 0))
        if "picked" not in found:
            self.not_picked[str(found.get("why_not")).partition(":")[0]] += 1
            return
        if found.get("asked_for"):
            self.asked_for += 1
            return
        result = "tie" if found["tie"] else "cheap" if found["picked"] == self.pair[0] else "last"
        self.picks[result] += 1
        self.by[str(found["by"])] += 1
        self._prompts[prompt][result] += 1

    @property
    def prompts(self) -> int:
        """How many different prompts there are among the picks."""
        return len(self._prompts)

    def win_rate(self) -> Interval | None:
        """The cheaper tier's share of wins, a tie being half of one; None without any."""
        return self._interval(np.array([1.0, 0.5, 0.0]))

    def no_worse(self) -> Interval | None:
        """The share of prompts on which the cheaper tier's answer was better, or a tie; None without any."""
        return self._interval(np.array([1.0, 1.0, 0.0]))

    def shown(self) -> dict[str, Any]:
        """As JSON-able data."""
        figures = {"win_rate": self.win_rate(), "no_worse": self.no_worse()}
        return {
            "tiers": list(self.pair[:2]),
            "judge": self.pair[2],
            "picks": {result: self.picks[result] for result in _RESULTS},
            "prompts": self.prompts,
            **{name: one and {"value": one.value, "low": one.low, "high": one.high} for name, one in figures.items()},
            "by": dict(self.by),
            "not_picked": dict(self.not_picked),
            "asked_for": self.asked_for,
            "usd": plain_decimal(self.usd),
        }

    def lines(self) -> list[str]:
        """In words."""
        (cheap, last, judge), picks = self.pair, self.picks
        lines = [
            f"{cheap} against {last}, {judge} picking: {picks.total()} {by_number(picks.total(), 'pick')} of "
            f"{self.prompts} {by_number(self.prompts, 'prompt')}: "
            f"{picks['cheap']} {cheap}, {picks['tie']} {by_number(picks['tie'], 'tie')}, {picks['last']} {last}"
        ]
        for what, one in ((f"win rate of {cheap}, ties half", self.win_rate()), ("no worse", self.no_worse())):
            if one is not None:
                lines.append(f"  {what}: {100 * one.value:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f})")
        if self.by:
            lines.append("  picked by: " + ", ".join(f"{n} {who}" for who, n in self.by.most_common()))
        if self.not_picked:
            said = ", ".join(f"{n} {why}" for why, n in self.not_picked.most_common())
            lines.append(f"  not picked, and in no figure: {said}")
        if self.asked_for:
            lines.append(f"  {self.asked_for} picks were asked for by their callers, and are in no figure")
        return [*lines, f"  spent: ${plain_decimal(self.usd)}"]

    def _interval(self, worth: FloatArray) -> Interval | None:
        if not self._prompts:
            return None
        each = [[one[result] / one.total() for result in _RESULTS] for one in self._prompts.values()]
        counts = np.asarray(each).sum(axis=0)
        shares = np.random.default_rng(0).dirichlet(counts + 0.5, SAMPLES)
        return interval_of(float(counts @ worth / counts.sum()), shares @ worth)


def ensemble_results(records: Iterable[DecisionRecord]) -> list[EnsembleResult]:
    """Sum up the requests among these that two tiers were to answer, those with the most picks first."""
    found: dict[Pair, EnsembleResult] = {}
    for record in records:
        entry = record.evidence.get("ensemble")
        if not entry or "tiers" not in entry:
            continue
        cheap, last = map(str, entry["tiers"])
        pair = cheap, last, str(entry["judge"])
        found.setdefault(pair, EnsembleResult(pair)).add(record.prompt_sha256, entry)
    return sorted(found.values(), key=lambda one: -one.picks.total())
