"""Tests of paired requests: quality and harm, both ways, on differences in their order of arrival.

Each difference D lies in [-1, 1], positive where the candidate is better, and is 0 where both versions gave the same
answer. Two wealth processes of `risk_control.paired` bet on it:

- *within the margin*, against "E[D] ≤ -m": reaching 1/α says that the candidate is not worse by m or more;
- *beyond the margin*, against "E[D] ≥ -m", on -D: reaching 1/α_r says that it is worse by more than m.

The two claims complete each other, so that one is false at least, and a candidate that is as good as the stable
version is hardly ever rolled back. Against "E[D] ≥ 0" it would be with probability up to α_r in every rollout, and one
that is worse by less than the margin surely, if only it is watched for long enough.

A tie (the grader's word depends on which answer stands first) is the mean of both orders' differences: 0 where it goes
by place, a half where it sees one in one order only. A grader that cannot tell answers apart makes nothing but ties,
and any candidate would be within the margin: where more than half of what it was asked are ties, and quality is not
proved with every tie counted as lost either, promotion is blocked.

What is not known of a pair counts against the candidate in the first (its grade 0, the stable version's 1), for it in
the second: both processes are then lower than with the grades, never higher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.errors import DataError
from router_models.monitoring.canary.costs import cost_findings
from router_models.monitoring.canary.findings import CanaryFinding
from router_models.monitoring.canary.observations import PairedRequest
from router_models.monitoring.canary_limits import CanaryLimits
from router_models.monitoring.promise_watch import OVERALL
from router_models.risk_control.paired import log_wealth
from router_models.types import BoolArray, FloatArray

TIES_BELIEVED = 0.5
"""The share of ties among the pairs that were judged up to which ties are taken for what they say."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What n pairs show of one figure: the least and the greatest difference that the grades permit, (n,) each."""

    low: FloatArray
    high: FloatArray

    @property
    def undetermined(self) -> int:
        """How many pairs' differences are not known."""
        return int((self.low < self.high).sum())

    def at(self, rows: BoolArray) -> Differences:
        """Those of some pairs."""
        return Differences(self.low[rows], self.high[rows])


def quality_of(pairs: Sequence[PairedRequest]) -> Differences:
    """Right less right, candidate less stable."""
    return _differences(pairs, [(p.candidate_right, p.stable_right) for p in pairs])


def harm_of(pairs: Sequence[PairedRequest]) -> Differences:
    """Harm less harm, stable less candidate: positive where the candidate avoids it."""
    return _differences(pairs, [(p.stable_harm, p.candidate_harm) for p in pairs])


def _differences(pairs: Sequence[PairedRequest], values: Sequence[tuple[float | None, float | None]]) -> Differences:
    """What is gained less what is lost; 0 of pairs that are alike, and of ties of which nothing else is known."""
    rows = np.array(
        [not (p.alike or (p.tie and both == (None, None))) for p, both in zip(pairs, values, strict=True)],
        dtype=np.bool_,
    )
    differing = [values[i] for i in np.flatnonzero(rows)]
    (gained, gained_most), (lost, lost_most) = (_bounds([pair[i] for pair in differing]) for i in (0, 1))
    low, high = np.zeros(len(pairs)), np.zeros(len(pairs))
    low[rows], high[rows] = gained - lost_most, gained_most - lost
    return Differences(low, high)


def _bounds(values: Sequence[float | None]) -> tuple[FloatArray, FloatArray]:
    """The least and the greatest that each may be: itself, or 0 and 1 where it is not known."""
    known = np.array([v is not None for v in values], dtype=np.bool_)
    least = np.array([0.0 if v is None else v for v in values], dtype=np.float64)
    if not np.isfinite(least).all() or (least < 0).any() or (least > 1).any():
        raise DataError("grades of paired requests must lie in [0, 1] without NaN; None where there is none")
    return least, np.where(known, least, 1.0)


def pair_findings(pairs: Sequence[PairedRequest], quality: Differences, limits: CanaryLimits) -> list[CanaryFinding]:
    """Every test of pairs in their order of arrival; DataError for grades outside [0, 1] or costs below 0."""
    found = _both_ways("quality", quality, limits.margin, limits)
    found.append(_ties(pairs, limits))
    slices = [("quality_worse", quality, limits.margin)]
    if limits.harm_margin is not None:
        harm = harm_of(pairs)
        found += _both_ways("harm", harm, limits.harm_margin, limits)
        slices.append(("harm_worse", harm, limits.harm_margin))
    found += cost_findings(pairs, limits)
    for name, rows, alpha in _slices(pairs, limits):
        found += [_worse(kind, name, seen.at(rows), margin, alpha) for kind, seen, margin in slices]
    return found


def _both_ways(name: str, seen: Differences, margin: float, limits: CanaryLimits) -> list[CanaryFinding]:
    return [
        _within(name, seen, margin, limits),
        _worse(f"{name}_worse", OVERALL, seen, margin, limits.alpha_rollback),
    ]


def _ties(pairs: Sequence[PairedRequest], limits: CanaryLimits) -> CanaryFinding:
    """Whether the grader tells answers apart; of all pairs so far, so that later ones may lift what it blocks."""
    ties = sum(p.tie for p in pairs)
    # nobody was asked of the same answer by another path: both its grades are 1/2
    judged = ties + sum(
        not (p.alike or p.tie)
        and None not in (p.stable_right, p.candidate_right)
        and (p.stable_right, p.candidate_right) != (0.5, 0.5)
        for p in pairs
    )
    share, blocks = ties / max(judged, 1), False
    if share > TIES_BELIEVED:
        lost = quality_of(
            [replace(p, tie=False, stable_right=None, candidate_right=None) if p.tie else p for p in pairs]
        )
        blocks = not _within("quality", lost, limits.margin, limits).reached
    return CanaryFinding("ties", OVERALL, share, TIES_BELIEVED, blocks, judged, "block")


def _within(name: str, seen: Differences, margin: float, limits: CanaryLimits) -> CanaryFinding:
    wealth = log_wealth(seen.low, margin)
    return CanaryFinding.of_wealth(name, OVERALL, wealth, limits.alpha, "promote", seen.low)


def _worse(name: str, scope: str, seen: Differences, margin: float, alpha: float) -> CanaryFinding:
    wealth = log_wealth(-seen.high, -margin)
    return CanaryFinding.of_wealth(name, scope, wealth, alpha, "roll_back", seen.high)


def _slices(pairs: Sequence[PairedRequest], limits: CanaryLimits) -> Iterator[tuple[str, BoolArray, float]]:
    """The slices that are tested: name, which pairs, and the probability that its tests may spend."""
    places: dict[str, list[int]] = {name: [] for name in limits.slices}
    for i, pair in enumerate(pairs):
        for name in dict.fromkeys(pair.slices):
            if not limits.slices or name in places:
                places.setdefault(name, []).append(i)
    for j, (name, at) in enumerate(places.items(), start=1):
        rows = np.zeros(len(pairs), dtype=np.bool_)
        rows[at] = True
        share = 1 / len(limits.slices) if limits.slices else 6 / (math.pi * j) ** 2
        yield name, rows, share * limits.alpha_rollback
