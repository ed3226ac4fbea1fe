"""Measure quality against cost, where strong and weak calls have prices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.metrics.probability import tie_groups
from router_models.metrics.routing import check_grades, from_zero
from router_models.types import FloatArray


def cost_quality(
    p_weak_ok: ArrayLike, weak: ArrayLike, strong: ArrayLike, weak_cost: ArrayLike, strong_cost: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return mean cost and mean quality per prompt along the routing curve.

    Parameters
    ----------
    p_weak_ok : array-like of float, (n,)
        P(the weak answer is acceptable).
    weak, strong : array-like of float, (n,)
        Both models' grades.
    weak_cost, strong_cost : array-like of float, (n,) or a number
        What a call costs, in any one unit.

    Returns
    -------
    tuple of arrays of float, (m + 1,) each
        Cost and quality, from no strong call to all.
    """
    p, w, s = check_grades(p_weak_ok, weak, strong)
    costs = [np.broadcast_to(np.asarray(c, dtype=np.float64), p.shape) for c in (weak_cost, strong_cost)]
    order, starts = tie_groups(p)
    dearer = np.add.reduceat((costs[1] - costs[0])[order], starts)[None]
    better = np.add.reduceat((s - w)[order], starts)[None]
    n = len(p)
    return costs[0].mean() + from_zero(dearer)[0] / n, w.mean() + from_zero(better)[0] / n


def aiq(cost: ArrayLike, quality: ArrayLike, greatest_cost: float | None = None) -> float:
    """Return the area under the non-decreasing concave hull of quality over cost, divided by the greatest cost.

    The hull is what mixing any two points reaches; past the best point it stays level up to `greatest_cost`.

    Parameters
    ----------
    cost, quality : array-like of float, (m,)
        The points of a curve.
    greatest_cost : float, optional
        Where the area ends; by default the dearest point. Pass one number to compare several routers.

    Returns
    -------
    float
        In units of quality.

    Raises
    ------
    DataError
        For lengths that differ, values that are not finite, or costs that are negative or all zero.

    References
    ----------
    Hu et al., "RouterBench: A benchmark for multi-LLM routing system", arXiv 2403.12031.
    """
    c, q = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if c.shape != q.shape or c.ndim != 1 or c.size == 0 or not (np.isfinite(c).all() and np.isfinite(q).all()):
        raise DataError(f"AIQ needs finite costs and qualities of equal length, got {c.shape} and {q.shape}")
    greatest = float(c.max()) if greatest_cost is None else greatest_cost
    if greatest <= 0 or c.min() < 0 or greatest < c.max():
        raise DataError(
            f"AIQ needs costs from 0 to a positive greatest cost, got {c.min():g} to {c.max():g}, {greatest:g}"
        )
    hull = _upper_hull(c, q)
    hull.append((greatest, hull[-1][1]))
    x, y = np.array(hull).T
    return float(np.trapezoid(y, x) / greatest)


def _upper_hull(c: FloatArray, q: FloatArray) -> list[tuple[float, float]]:
    """Return the concave non-decreasing upper hull, from the cheapest point to the best one."""
    hull: list[tuple[float, float]] = []
    order = np.lexsort((-q, c))
    for point in zip(c[order].tolist(), q[order].tolist(), strict=True):
        if hull and (point[0] == hull[-1][0] or point[1] <= hull[-1][1]):
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
