"""What a version would have made of kept decisions: flips, grades, cost, by slice. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv

from router_models.metrics.intervals import Interval
from serve_graph.learning.agreement import DRAWS, LEVEL
from serve_graph.records.feedback import Feedback


@dataclass(frozen=True, slots=True)
class ReplayedDecision:
    """One decision as it was served, and as the version decides it.

    `before`, `after`: tier and outcome. `missing`: why the latter is not known to its end; None: it is. `usd`: what
    was paid, and what would have been. `right`: grades of both answers, None where nobody gave one. `slice_name`: the
    request's; `prompt`: its text.
    `grader`: who graded: `label`, or the program of a known task.
    """

    decision: str
    before: tuple[str, str]
    after: tuple[str, str]
    missing: str | None
    usd: tuple[float, float]
    right: tuple[float | None, float | None]
    slice_name: str
    prompt: str
    grader: str = ""

    @property
    def is_flip(self) -> bool:
        """Whether another tier's answer is shown."""
        return self.before[0] != self.after[0]


@dataclass(frozen=True, slots=True)
class ReplayedPart:
    """Some decisions together. Right and cost are of those whose path is known, right of those graded on both sides.

    `gained`, `lost`: requests that the version answers right where they were answered wrong, and the other way round.
    """

    name: str
    n: int
    flips: int
    missing: int
    graded: int
    gained: int
    lost: int
    usd: tuple[float, float]

    @classmethod
    def of(cls, name: str, found: Sequence[ReplayedDecision]) -> ReplayedPart:
        """Sum up decisions."""
        known = [one for one in found if one.missing is None]
        pairs = [one.right for one in known if None not in one.right]
        change = Counter(np.sign((after or 0.0) - (before or 0.0)) for before, after in pairs)
        mean = tuple(float(np.mean([one.usd[side] for one in known])) if known else 0.0 for side in (0, 1))
        flips = sum(one.is_flip for one in known)
        return cls(
            name, len(found), flips, len(found) - len(known), len(pairs), change[1.0], change[-1.0], (mean[0], mean[1])
        )

    @property
    def known(self) -> int:
        return self.n - self.missing

    def flip_share(self) -> Interval | None:
        """The share that another tier answers, with Jeffreys' interval; None without any."""
        n, k = self.known, self.flips
        if not n:
            return None
        low = float(betaincinv(k + 0.5, n - k + 0.5, (1 - LEVEL) / 2)) if k else 0.0
        high = float(betaincinv(k + 0.5, n - k + 0.5, (1 + LEVEL) / 2)) if k < n else 1.0
        return Interval(k / n, low, high, LEVEL)

    def difference(self) -> Interval | None:
        """The share of right answers that it gains, with the interval of Jeffreys' prior on gained, same and lost."""
        if not self.graded:
            return None
        counts = np.array([self.gained, self.graded - self.gained - self.lost, self.lost], dtype=np.float64)
        drawn = np.random.default_rng(0).dirichlet(counts + 0.5, DRAWS)
        low, high = np.quantile(drawn[:, 0] - drawn[:, 2], ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return Interval((self.gained - self.lost) / self.graded, float(low), float(high), LEVEL)

    def shown(self) -> dict[str, Any]:
        """As JSON-able data."""
        counts = {name: getattr(self, name) for name in ("n", "flips", "missing", "graded", "gained", "lost")}
        intervals = {"flip_share": self.flip_share(), "right_difference": self.difference()}
        return {"name": self.name, **counts, "usd_before": self.usd[0], "usd_after": self.usd[1]} | {
            name: None if one is None else {"value": one.value, "low": one.low, "high": one.high, "level": one.level}
            for name, one in intervals.items()
        }


@dataclass(frozen=True, slots=True)
class DecisionReplay:
    """A version replayed on kept decisions. `left_out`: how many could not be replayed, by why."""

    version: str
    decisions: tuple[ReplayedDecision, ...]
    left_out: Counter[str]

    def whole(self) -> ReplayedPart:
        """All of them."""
        return ReplayedPart.of("all", self.decisions)

    def slices(self) -> list[ReplayedPart]:
        """Each slice, the largest first."""
        parts: dict[str, list[ReplayedDecision]] = {}
        for one in self.decisions:
            parts.setdefault(one.slice_name, []).append(one)
        found = [ReplayedPart.of(name, ones) for name, ones in parts.items()]
        return sorted(found, key=lambda part: (-part.n, part.name))

    def missing(self) -> Counter[tuple[str, str]]:
        """How many decisions are not known to their end, by the tier whose answer they lack, and why."""
        return Counter((one.after[0], one.missing) for one in self.decisions if one.missing is not None)

    def graders(self) -> Counter[str]:
        """How many decisions are graded on both sides, by whom."""
        return Counter(one.grader for one in self.decisions if one.missing is None and None not in one.right)

    def flips(self) -> Counter[tuple[tuple[str, str], tuple[str, str]]]:
        """How many decisions another tier answers, by tier and outcome before and after."""
        return Counter((one.before, one.after) for one in self.decisions if one.missing is None and one.is_flip)

    def shown(self) -> dict[str, Any]:
        """As JSON-able data, without prompts."""
        return {
            "version": self.version,
            "all": self.whole().shown(),
            "slices": [part.shown() for part in self.slices()],
            "flips": [
                {"before": list(before), "after": list(after), "n": n} for (before, after), n in self.flips().items()
            ],
            "missing": [{"tier": tier, "why": why, "n": n} for (tier, why), n in self.missing().items()],
            "graders": dict(self.graders()),
            "left_out": dict(self.left_out),
        }


def grades_by_labels(labels: Iterable[Feedback], tier: str, last_tier: str) -> dict[str, float]:
    """Whose answer to a request is right, by tier, as people's and programs' labels of it say; draws say nothing."""
    votes: Counter[str] = Counter()
    for label in labels:
        if label.source not in ("human", "programmatic") or label.value is None:
            continue
        votes[tier] += 1 if label.value else -1
        if label.last_tier_right is not None and tier != last_tier:
            votes[last_tier] += 1 if label.last_tier_right else -1
    return {name: float(n > 0) for name, n in votes.items() if n}
