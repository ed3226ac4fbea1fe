"""Compute bootstrap intervals of routing figures that `metrics` returns as numbers."""

from __future__ import annotations

import numpy as np

from router_models.metrics import Interval, RoutingSums, aiq, bootstrap_values, cost_quality, interval_of
from router_models.types import FloatArray, IntArray

AIQ_DRAWS = 2000
HULL_POINTS = 60


def pgr_at(sums: RoutingSums, weights: FloatArray, share: float) -> FloatArray:
    """Return the performance gap recovered when a share goes to strong, of each resample, (draws,)."""
    shares, recovered = sums.points(weights)
    return np.array([np.interp(share, x, y) for x, y in zip(shares, recovered, strict=True)], dtype=np.float64)


def aiq_interval(
    p: FloatArray,
    w: FloatArray,
    s: FloatArray,
    costs: tuple[FloatArray, FloatArray],
    seed: int,
    groups: IntArray | None = None,
) -> Interval:
    """Return AIQ with a bootstrap interval; `costs` = (weak, strong), (n,) each. `groups` are drawn whole.

    Resamples read their curve at HULL_POINTS shares of the prompts.
    """
    weak_cost, strong_cost = costs
    greatest = float(strong_cost.mean())
    cost, quality = cost_quality(p, w, s, weak_cost, strong_cost)
    value = aiq(cost, quality, max(greatest, float(cost.max())))
    order = np.argsort(p, kind="stable")
    _, group = np.unique(p[order], return_inverse=True)
    ends = np.flatnonzero(np.append(np.diff(group) > 0, True))  # a threshold cannot part tied scores
    picked = ends[np.unique(np.linspace(0, len(ends) - 1, HULL_POINTS).round().astype(int))]
    dearer, better = (strong_cost - weak_cost)[order], (s - w)[order]

    def statistic(weights: FloatArray) -> FloatArray:
        total = weights.sum(axis=1, keepdims=True)
        ordered = weights[:, order]
        paid = _from(weights @ weak_cost, np.cumsum(ordered * dearer, axis=1)[:, picked], total)
        qualities = _from(weights @ w, np.cumsum(ordered * better, axis=1)[:, picked], total)
        return np.array([aiq(c, q, max(greatest, float(c.max()))) for c, q in zip(paid, qualities, strict=True)])

    return interval_of(value, bootstrap_values(statistic, len(p), draws=AIQ_DRAWS, seed=seed, groups=groups))


def _from(base: FloatArray, steps: FloatArray, total: FloatArray) -> FloatArray:
    return np.hstack([base[:, None], base[:, None] + steps]) / total
