"""What a cascade's policy is judged on: prompts with every tier's estimates, costs and grades, and the replay of one.

The rules are `policy.Policy`'s: the cheapest tier whose router estimate reaches its `route_at` is tried, else the top
one; a tried tier's answer is abstained on below `abstain_below`, accepted from `accept_at` on, and otherwise the top
tier answers (one escalation), or in a chain the next tier whose router estimate reaches its own `route_at`, judged in
the same way. Every comparison is ≥ on calibrated estimates. Two tiers are a ladder of length two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.risk_control.ladder.replay import Replay
from router_models.types import BoolArray, FloatArray, IntArray, OperatingPoint


@dataclass(frozen=True, slots=True)
class CascadeEvidence:
    """n prompts on K ≥ 2 tiers, cheapest first.

    Parameters
    ----------
    tiers : tuple of str
        The K names, cheapest first.
    p_route : array of float
        (n, K-1), before generation: P(tier i's answer is acceptable), calibrated, for the tiers below the top.
    p_ok : array of float
        (n, K), after generation: P(this answer is acceptable), calibrated; where the top tier has no verifier, its
        router estimate or its mean grade.
    cost_usd : array of float
        (n, K): what calling that tier costs for that prompt, in US dollars.
    right : array of bool, optional
        (n, K): whether that answer was right; None for unlabelled traffic.
    slices : tuple of str, optional
        (n,): every prompt's slice, where each is to be promised by itself.
    lengths : array of float, optional
        (n,): characters of the prompt, for baselines that need no model; 0 where nothing is known of the texts.
    ungraded : array of bool, optional
        (n,): where nobody graded the last tier's answer, which counts as right then; None: nowhere.
    covered : array of bool, optional
        (n,): whether a certificate covers the prompt's conditions; where it does not the last tier answers, nothing is
        promised, and the prompt counts as no evidence. None: all are covered.
    faulty : array of bool, optional
        (n, K-1): where a lower tier's answer breaks the shape that its request declares: a rule sends it on, whatever
        its estimate. None: nowhere.
    """

    tiers: tuple[str, ...]
    p_route: FloatArray
    p_ok: FloatArray
    cost_usd: FloatArray
    right: BoolArray | None = None
    slices: tuple[str, ...] | None = None
    lengths: FloatArray | None = None
    ungraded: BoolArray | None = None
    covered: BoolArray | None = None
    faulty: BoolArray | None = None

    @classmethod
    def of(
        cls,
        tiers: tuple[str, ...],
        p_route: ArrayLike,
        p_ok: ArrayLike,
        cost_usd: ArrayLike,
        right: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> CascadeEvidence:
        """Validate and wrap; `cost_usd` may be (K,).

        Raises
        ------
        DataError
            For wrong shapes, NaN (but in labels of the last tier: not graded), estimates outside [0, 1], labels that
            are not 0 or 1, or a lower tier that costs no less than the top one on average (it could only lose).
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
        graded, ungraded = None, None
        if right is not None:
            grades = np.array(right, dtype=np.float64)
            if grades.shape == ok.shape and (missing := np.isnan(grades[:, -1])).any():
                ungraded, grades[missing, -1] = missing, 1.0
            if grades.shape != ok.shape or not ((grades == 0) | (grades == 1)).all():
                raise DataError(f"labels must be 0 or 1 of shape {ok.shape}, got shape {grades.shape}")
            graded = grades.astype(np.bool_)
        known = None if lengths is None else np.asarray(lengths, float)
        return cls(tiers, route, ok, cost, graded, lengths=known, ungraded=ungraded)

    def __len__(self) -> int:
        return len(self.p_ok)

    @property
    def grades(self) -> FloatArray:
        """The labels as numbers, (n, K): 1 right, 0 wrong; DataError for unlabelled traffic."""
        if self.right is None:
            raise DataError("these prompts carry no labels")
        return self.right.astype(np.float64)

    @property
    def harm(self) -> BoolArray:
        """Whether a lower tier's answer is wrong where the last one's is right, (n, K-1); DataError without labels."""
        right = self.grades >= 0.5
        return np.asarray(~right[:, :-1] & right[:, -1:], dtype=np.bool_)

    @property
    def prompt_lengths(self) -> FloatArray:
        """Characters of every prompt, (n,); 0 where nothing is known of the texts."""
        return np.zeros(len(self)) if self.lengths is None else self.lengths

    def take(self, rows: IntArray | BoolArray) -> CascadeEvidence:
        """Select prompts by index, repeats allowed, or by mask."""
        index = np.arange(len(self))[rows]
        return CascadeEvidence(
            self.tiers,
            self.p_route[index],
            self.p_ok[index],
            self.cost_usd[index],
            None if self.right is None else self.right[index],
            None if self.slices is None else tuple(self.slices[i] for i in index),
            None if self.lengths is None else self.lengths[index],
            None if self.ungraded is None else self.ungraded[index],
            None if self.covered is None else self.covered[index],
            None if self.faulty is None else self.faulty[index],
        )

    def counted(self) -> CascadeEvidence:
        """The prompts that count as evidence: those that are covered."""
        return replace(self.take(self.rows_counted), covered=None)

    @property
    def rows_counted(self) -> BoolArray:
        """Which prompts those are, (n,)."""
        return np.ones(len(self), dtype=np.bool_) if self.covered is None else self.covered

    def cut(self, slices: Sequence[str]) -> CascadeEvidence:
        """The same prompts with the slice of each; DataError where their number differs."""
        if len(slices) != len(self):
            raise DataError(f"{len(self)} prompts but {len(slices)} slice names")
        return replace(self, slices=tuple(slices))

    def only(self, name: str) -> CascadeEvidence:
        """The prompts of one slice, possibly none; the others' costs and estimates do not enter."""
        if self.slices is None:
            raise DataError("these prompts carry no slice names")
        return replace(self.take(np.array([s == name for s in self.slices], dtype=np.bool_)), slices=None)


CHAIN = "chain"
"""The setting of a certificate that says that its thresholds are a chain's."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All thresholds of a ladder: `route_at` and `accept_at` (K-1), `abstain_below` (K; -inf = never abstain).

    `chain`: whether what a tier's verifier rejects is sent to the next tier that the router would try, not to the top.
    """

    route_at: tuple[float, ...]
    accept_at: tuple[float, ...]
    abstain_below: tuple[float, ...]
    chain: bool = False

    @classmethod
    def from_named(cls, settings: Mapping[str, float], tiers: tuple[str, ...]) -> Thresholds:
        """The inverse of `named`."""
        return cls(
            tuple(settings[f"{tier}.route_at"] for tier in tiers[:-1]),
            tuple(settings[f"{tier}.accept_at"] for tier in tiers[:-1]),
            tuple(settings[f"{tier}.abstain_below"] for tier in tiers),
            bool(settings.get(CHAIN, 0.0)),
        )

    @classmethod
    def from_points(
        cls, points: Mapping[str, OperatingPoint], tiers: tuple[str, ...], *, chain: bool = False
    ) -> Thresholds:
        """The thresholds of a policy's points; a tier without one is never routed to and never abstained on."""
        never = OperatingPoint(np.inf, np.inf)
        found = [points.get(tier, never) for tier in tiers]
        return cls(
            tuple(point.route_at for point in found[:-1]),
            tuple(point.accept_at for point in found[:-1]),
            tuple(-np.inf if point.abstain_below is None else point.abstain_below for point in found),
            chain,
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
        """As a certificate keeps them: '<tier>.route_at' and so on, and whether they are of a chain."""
        out: dict[str, float] = {CHAIN: 1.0} if self.chain else {}
        for i, tier in enumerate(tiers):
            if i < len(self.route_at):
                out |= {f"{tier}.route_at": self.route_at[i], f"{tier}.accept_at": self.accept_at[i]}
            out[f"{tier}.abstain_below"] = self.abstain_below[i]
        return out


def replay_policy(
    data: CascadeEvidence,
    thresholds: Thresholds,
    covered: BoolArray | None = None,
    accept_at: FloatArray | None = None,
) -> Replay:
    """Run a policy's rules over every prompt; pure and vectorised.

    Parameters
    ----------
    data : CascadeEvidence
        The prompts.
    thresholds : Thresholds
        The policy's.
    covered : array of bool, optional
        (n,): where False nothing is promised of the prompt's slice, and the top tier answers at once, unjudged; so it
        does where the prompts say that they are not covered.
    accept_at : array of float, optional
        (n,): what each prompt's cheap answer must reach, in place of `thresholds.accept_at`, where every slice has a
        threshold of its own.
    """
    top = len(data.tiers) - 1
    n = len(data)
    tried, answered = np.full(n, top), np.full(n, top)
    called = np.zeros((n, top + 1), dtype=np.bool_)
    open_ = np.ones(n, dtype=np.bool_)
    for i in range(top):
        here = open_ & (data.p_route[:, i] >= thresholds.route_at[i])
        called[:, i] = here
        tried[here & (tried == top)] = i
        p = data.p_ok[:, i]
        below = here & (p < thresholds.abstain_below[i])
        accepted = here & (p >= (thresholds.accept_at[i] if accept_at is None else accept_at))
        accepted = accepted if data.faulty is None else accepted & ~data.faulty[:, i]
        answered[accepted] = i
        answered[below] = -1
        open_ &= ~(accepted | below if thresholds.chain else here)
    at_top = answered == top
    called[:, top] = at_top
    escalated = at_top & (tried < top)
    cost = np.asarray((data.cost_usd * called).sum(axis=1))
    answered[at_top & (data.p_ok[:, top] < thresholds.abstain_below[top])] = -1
    if data.covered is not None:
        covered = data.covered if covered is None else covered & data.covered
    if covered is None:
        return Replay(tried, escalated, answered, cost, top, called)
    return Replay(
        np.where(covered, tried, top),
        escalated & covered,
        np.where(covered, answered, top),
        np.where(covered, cost, data.cost_usd[:, top]),
        top,
        np.where(covered[:, None], called, np.arange(top + 1) == top),
    )


def _or_none(value: float) -> float | None:
    return None if value == -np.inf else value
