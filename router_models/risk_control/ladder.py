"""A ladder of tiers on data: what a set of thresholds does to every prompt of a table.

The rules are `policy.Policy`'s: the cheapest tier whose router estimate reaches its `route_at` is tried, else the top
one; a tried tier's answer is abstained on below `abstain_below`, accepted from `accept_at` on, and otherwise the top
tier answers (one escalation). Every comparison is ≥ on calibrated estimates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_models.errors import DataError
from router_models.types import BoolArray, FloatArray, OperatingPoint


@dataclass(frozen=True, slots=True)
class Ladder:
    """n prompts on K tiers, cheapest first; all columns calibrated estimates.

    `p_route` (n, K-1): before generation, P(tier i's answer acceptable), for the tiers below the top. `p_ok` (n, K):
    after generation, P(this answer acceptable); where the top tier has no verifier, its router estimate or its mean
    grade. `cost_usd` (n, K): what calling that tier costs for that prompt. `right` (n, K): whether that answer was
    right, None for unlabelled traffic. `slices` (n,): every prompt's slice, where each is to be promised by itself.
    """

    tiers: tuple[str, ...]
    p_route: FloatArray
    p_ok: FloatArray
    cost_usd: FloatArray
    right: BoolArray | None = None
    slices: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        tiers: tuple[str, ...],
        p_route: ArrayLike,
        p_ok: ArrayLike,
        cost_usd: ArrayLike,
        right: ArrayLike | None = None,
    ) -> Ladder:
        """Validate and wrap; `cost_usd` may be (K,).

        Raises DataError for wrong shapes, NaN, estimates outside [0, 1], labels that are not 0 or 1, or a lower tier
        that costs no less than the top one on average (it could only lose).
        """
        k = len(tiers)
        route, ok = np.asarray(p_route, dtype=np.float64), np.asarray(p_ok, dtype=np.float64)
        if k < 2 or ok.ndim != 2 or ok.shape[1] != k or route.shape != (len(ok), k - 1) or len(ok) == 0:
            raise DataError(
                f"{k} tiers need p_route (n, {k - 1}) and p_ok (n, {k}) with n ≥ 1, got {route.shape} and {ok.shape}"
            )
        for name, a in (("p_route", route), ("p_ok", ok)):
            if not np.isfinite(a).all() or a.min() < 0 or a.max() > 1:
                raise DataError(f"{name} must hold calibrated probabilities in [0, 1] without NaN")
        cost = np.broadcast_to(np.asarray(cost_usd, dtype=np.float64), ok.shape)
        if not np.isfinite(cost).all() or cost.min() < 0:
            raise DataError("costs must be finite and not negative")
        means = cost.mean(axis=0)
        if means[-1] <= 0:
            raise DataError("the top tier costs nothing: there is nothing to save by routing")
        for tier, mean in zip(tiers[:-1], means[:-1], strict=True):
            if mean >= means[-1]:
                raise DataError(f"tier {tier!r} costs {mean:g} a prompt, no less than the top tier's {means[-1]:g}")
        graded = None
        if right is not None:
            grades = np.asarray(right, dtype=np.float64)
            if grades.shape != ok.shape or not ((grades == 0) | (grades == 1)).all():
                raise DataError(f"labels must be 0 or 1 of shape {ok.shape}, got shape {grades.shape}")
            graded = grades.astype(np.bool_)
        return cls(tiers, route, ok, cost, graded)

    def __len__(self) -> int:
        return len(self.p_ok)

    def take(self, rows: NDArray[np.int64]) -> Ladder:
        """Select prompts by index, repeats allowed."""
        right = None if self.right is None else self.right[rows]
        slices = None if self.slices is None else tuple(self.slices[i] for i in rows)
        return Ladder(self.tiers, self.p_route[rows], self.p_ok[rows], self.cost_usd[rows], right, slices)

    def cut(self, slices: Sequence[str]) -> Ladder:
        """The same prompts with the slice of each; DataError where their number differs."""
        if len(slices) != len(self):
            raise DataError(f"{len(self)} prompts but {len(slices)} slice names")
        return replace(self, slices=tuple(slices))

    def only(self, name: str) -> Ladder:
        """The prompts of one slice, possibly none; the others' costs and estimates do not enter."""
        if self.slices is None:
            raise DataError("these prompts carry no slice names")
        rows = np.flatnonzero([s == name for s in self.slices])
        return replace(self.take(rows.astype(np.int64)), slices=None)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All thresholds of a ladder: `route_at` and `accept_at` (K-1), `abstain_below` (K; -inf = never abstain)."""

    route_at: tuple[float, ...]
    accept_at: tuple[float, ...]
    abstain_below: tuple[float, ...]

    @classmethod
    def from_named(cls, settings: Mapping[str, float], tiers: tuple[str, ...]) -> Thresholds:
        """The inverse of `named`."""
        return cls(
            tuple(settings[f"{tier}.route_at"] for tier in tiers[:-1]),
            tuple(settings[f"{tier}.accept_at"] for tier in tiers[:-1]),
            tuple(settings[f"{tier}.abstain_below"] for tier in tiers),
        )

    def points(self, tiers: tuple[str, ...]) -> dict[str, OperatingPoint]:
        """As `policy.Policy` takes them. A tier that is never routed to gets no point."""
        points = {}
        for i, tier in enumerate(tiers[:-1]):
            if self.route_at[i] < np.inf:
                points[tier] = OperatingPoint(self.route_at[i], self.accept_at[i], _or_none(self.abstain_below[i]))
        if self.abstain_below[-1] > -np.inf:
            points[tiers[-1]] = OperatingPoint(np.inf, -np.inf, self.abstain_below[-1])
        return points

    def named(self, tiers: tuple[str, ...]) -> dict[str, float]:
        """As a certificate keeps them: '<tier>.route_at' and so on."""
        out: dict[str, float] = {}
        for i, tier in enumerate(tiers):
            if i < len(self.route_at):
                out |= {f"{tier}.route_at": self.route_at[i], f"{tier}.accept_at": self.accept_at[i]}
            out[f"{tier}.abstain_below"] = self.abstain_below[i]
        return out


@dataclass(frozen=True, slots=True)
class LadderReplay:
    """What became of each prompt, (n,): which tier answered (-1 = abstained), what all its calls cost."""

    answered_by: NDArray[np.int64]
    cost_usd: FloatArray

    @property
    def abstained(self) -> BoolArray:
        return self.answered_by < 0

    def wrong(self, right: BoolArray) -> BoolArray:
        """Whether the prompt was answered, and wrongly, (n,); `right` is (n, K)."""
        chosen = right[np.arange(len(self.answered_by)), np.maximum(self.answered_by, 0)]
        return np.asarray(~chosen & ~self.abstained, dtype=np.bool_)


def replay_ladder(data: Ladder, thresholds: Thresholds, covered: BoolArray | None = None) -> LadderReplay:
    """Run the ladder's rules over every prompt; pure and vectorised.

    Where `covered` (n,) is False nothing is promised of the prompt's slice: the top tier answers at once, unjudged.
    """
    top = len(data.tiers) - 1
    n = len(data)
    tried = np.full(n, top)
    for i in reversed(range(top)):
        tried[data.p_route[:, i] >= thresholds.route_at[i]] = i
    answered = np.full(n, top)
    cost = np.zeros(n)
    for i in range(top):
        here = tried == i
        p = data.p_ok[:, i]
        below = here & (p < thresholds.abstain_below[i])
        answered[here & (p >= thresholds.accept_at[i])] = i
        answered[below] = -1
        cost[here] += data.cost_usd[here, i]
    at_top = answered == top
    cost[at_top] += data.cost_usd[at_top, top]
    answered[at_top & (data.p_ok[:, top] < thresholds.abstain_below[top])] = -1
    if covered is None:
        return LadderReplay(answered, cost)
    return LadderReplay(np.where(covered, answered, top), np.where(covered, cost, data.cost_usd[:, top]))


def _or_none(value: float) -> float | None:
    return None if value == -np.inf else value
