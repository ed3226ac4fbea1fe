"""What a router's order is worth: quality against the share of strong calls, and against cost.

Scores are P(the weak answer is acceptable): the lowest go to the strong model first. Everything here is defined on the
curve share → quality. Two curves are drawn from the same scores: `routing_curve` through every distinct score with
tied prompts averaged (half of a tie has half its gain), and `routellm_curve` as RouteLLM's evaluation draws it (arXiv
2406.18665: eleven thresholds at the deciles, ≥ goes to strong, ties all move together) for comparison with its tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.metrics.probability import tie_groups
from router_models.types import FloatArray

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class RoutingCurve:
    """Quality (m,) at ascending shares of strong calls (m,) from 0 to 1; linear between the points.

    `weak` and `strong` are the mean qualities of the two models alone. Quality may exceed `strong`: a good router
    keeps the questions that only the weak model answers.
    """

    strong_share: FloatArray
    quality: FloatArray
    weak: float
    strong: float

    @property
    def pgr(self) -> FloatArray:
        """Performance gap recovered at each point: 0 = weak, 1 = strong."""
        return (self.quality - self.weak) / (self.strong - self.weak)

    def quality_at(self, share: ArrayLike) -> FloatArray:
        """Quality when this share goes to the strong model."""
        return np.interp(np.asarray(share, dtype=np.float64), self.strong_share, self.quality)


class RoutingSums:
    """One router's order over n prompts, ready for resampling: share, gain and cost at every distinct score.

    `points(weights)` gives (draws, m + 1) shares of strong calls and recovered gaps; `apgr` and `cpt` are
    `intervals.WeightedStatistic`s. A resample whose strong model is not better is NaN.
    """

    def __init__(self, p_weak_ok: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> None:
        p, w, s = _checked(p_weak_ok, weak, strong)
        self._order, self._starts = tie_groups(p)
        self._gain = (s - w)[self._order]

    def points(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Shares (draws, m + 1) and performance gap recovered (draws, m + 1), both starting at 0."""
        ordered = weights[:, self._order]
        count = np.add.reduceat(ordered, self._starts, axis=1)
        gain = np.add.reduceat(ordered * self._gain, self._starts, axis=1)
        share, gap = _from_zero(count), _from_zero(gain)
        total = gap[:, -1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            recovered = np.where(total > 0, gap / total, np.nan)
        return share / share[:, -1:], recovered

    def apgr(self, weights: FloatArray) -> FloatArray:
        """Average performance gap recovered of each resample, (draws,)."""
        share, recovered = self.points(weights)
        return np.asarray(np.trapezoid(recovered, share, axis=1), dtype=np.float64)

    def cpt(self, weights: FloatArray, x: float) -> FloatArray:
        """First share of strong calls at which x of the gap is recovered, of each resample, (draws,)."""
        share, recovered = self.points(weights)
        reached = recovered >= x - _ROUNDING
        last = np.argmax(reached, axis=1)
        rows = np.arange(len(last))
        before = np.maximum(last - 1, 0)
        rise = recovered[rows, last] - recovered[rows, before]
        part = np.where(rise > 0, (x - recovered[rows, before]) / np.where(rise > 0, rise, 1), 0.0)
        at = share[rows, before] + part * (share[rows, last] - share[rows, before])
        at = np.where(last == 0, 0.0, at)
        return np.asarray(np.where(reached.any(axis=1), at, np.nan), dtype=np.float64)


def routing_curve(p_weak_ok: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> RoutingCurve:
    """The exact curve of quality over the share of strong calls: one point per distinct score, tied prompts averaged.

    Equals the expectation over random orders of tied prompts, so a constant score gives the straight line.

    Parameters
    ----------
    p_weak_ok : array-like of float, (n,)
        The router's scores: P(the weak answer is acceptable).
    weak, strong : array-like of float, (n,)
        Grades of the two models' answers, in [0, 1].

    Returns
    -------
    RoutingCurve
        From nothing to everything sent to the strong model.

    Raises
    ------
    DataError
        For NaN, unequal lengths, or a strong model that is not better than the weak one.
    """
    p, w, s = _checked(p_weak_ok, weak, strong)
    share, recovered = RoutingSums(p, w, s).points(np.ones((1, len(p))))
    quality = w.mean() + recovered[0] * (s.mean() - w.mean())
    return RoutingCurve(share[0], quality, float(w.mean()), float(s.mean()))


def routellm_curve(p_weak_ok: ArrayLike, weak: ArrayLike, strong: ArrayLike, bins: int = 10) -> RoutingCurve:
    """The curve through thresholds at score deciles: strong if score ≥ t, and at the highest edge only above it.

    The score compared is the strong model's, 1 - p. Edges that coincide (ties) are used once.
    """
    p, w, s = _checked(p_weak_ok, weak, strong)
    score = 1 - p
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    to_strong = [score >= edge for edge in edges[:-1]] + [score > edges[-1]]
    share = np.array([float(mask.mean()) for mask in to_strong])
    quality = np.array([float(np.where(mask, s, w).mean()) for mask in to_strong])
    if len(edges) == 1:  # one score for all: the only thresholds are nobody and everybody
        share, quality = np.array([1.0, 0.0]), np.array([s.mean(), w.mean()])
    order = np.argsort(share, kind="stable")
    return RoutingCurve(share[order], quality[order], float(w.mean()), float(s.mean()))


def random_curve(weak: ArrayLike, strong: ArrayLike) -> RoutingCurve:
    """The straight line every report shows beside a router: APGR ½, CPT(x) = x."""
    return routing_curve(np.zeros(np.size(weak)), weak, strong)


def oracle_scores(weak: ArrayLike, strong: ArrayLike) -> FloatArray:
    """The best order, in [0, 1]: prompts only the strong model answers go first, those only the weak does go last."""
    gain = np.asarray(strong, dtype=np.float64) - np.asarray(weak, dtype=np.float64)
    spread = max(float(np.abs(gain).max()), 1e-12)
    return np.asarray(0.5 - gain / (2 * spread), dtype=np.float64)


def pgr(quality: float, weak: float, strong: float) -> float:
    """Performance gap recovered, (r - weak) / (strong - weak). Raises DataError where there is no gap."""
    if not strong > weak:
        raise DataError(_no_gap(weak, strong))
    return (quality - weak) / (strong - weak)


def apgr(curve: RoutingCurve) -> float:
    """Average performance gap recovered: (area - weak's area) / (strong's - weak's) over the share of strong calls.

    Parameters
    ----------
    curve : RoutingCurve
        Quality at every share of strong calls.

    Returns
    -------
    float
        ½ for random; above 1 is possible (the oracle keeps what only the weak model answers).
    """
    return float(np.trapezoid(curve.pgr, curve.strong_share) / np.ptp(curve.strong_share))


def cpt(curve: RoutingCurve, x: float) -> float:
    """Call-performance threshold: the first share of strong calls at which x of the gap is recovered.

    Parameters
    ----------
    curve : RoutingCurve
        Quality at every share of strong calls.
    x : float
        The part of the gap between weak and strong, for example 0.5.

    Returns
    -------
    float
        In [0, 1]; NaN where that never happens (x above 1 and a router that does not reach it).
    """
    recovered, share = curve.pgr, curve.strong_share
    reached = np.flatnonzero(recovered >= x - _ROUNDING)
    if reached.size == 0:
        return float("nan")
    i = int(reached[0])
    if i == 0:
        return float(share[0])
    part = (x - recovered[i - 1]) / (recovered[i] - recovered[i - 1])
    return float(share[i - 1] + part * (share[i] - share[i - 1]))


def cpt_interpolated(curve: RoutingCurve, x: float) -> float:
    """CPT by `np.interp` over quality, as RouteLLM computes it: wrong where quality is not monotone."""
    return float(np.interp(x, curve.pgr, curve.strong_share))


def cost_quality(
    p_weak_ok: ArrayLike, weak: ArrayLike, strong: ArrayLike, weak_cost: ArrayLike, strong_cost: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Mean cost and mean quality per prompt along the routing curve, (m + 1,) each; costs are (n,) or one number."""
    p, w, s = _checked(p_weak_ok, weak, strong)
    costs = [np.broadcast_to(np.asarray(c, dtype=np.float64), p.shape) for c in (weak_cost, strong_cost)]
    order, starts = tie_groups(p)
    dearer = np.add.reduceat((costs[1] - costs[0])[order], starts)[None]
    better = np.add.reduceat((s - w)[order], starts)[None]
    n = len(p)
    return costs[0].mean() + _from_zero(dearer)[0] / n, w.mean() + _from_zero(better)[0] / n


def aiq(cost: ArrayLike, quality: ArrayLike, greatest_cost: float | None = None) -> float:
    """Area under the non-decreasing concave hull of (cost, quality), from the cheapest point on, ÷ the greatest cost.

    RouterBench's figure (arXiv 2403.12031). The hull is what mixing any two points reaches; past the best point it
    stays level up to `greatest_cost` (default: the dearest point; pass one number to compare several routers).
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


def gap_of(weak: ArrayLike, strong: ArrayLike) -> float:
    """Strong's mean quality less weak's; raises DataError where that is not above 0: there is nothing to recover."""
    w, s = float(np.mean(np.asarray(weak))), float(np.mean(np.asarray(strong)))
    if not s > w:
        raise DataError(_no_gap(w, s))
    return s - w


def _upper_hull(c: FloatArray, q: FloatArray) -> list[tuple[float, float]]:
    """The concave non-decreasing upper hull, from the cheapest point to the best one."""
    hull: list[tuple[float, float]] = []
    for i in np.lexsort((-q, c)):
        point = (float(c[i]), float(q[i]))
        if hull and (point[0] == hull[-1][0] or point[1] <= hull[-1][1]):
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _from_zero(steps: FloatArray) -> FloatArray:
    """Running sums along the last axis with a leading 0."""
    return np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)


def _no_gap(weak: float, strong: float) -> str:
    return (
        f"the strong model ({strong:.4f}) is not better than the weak one ({weak:.4f}): there is no gap to recover. "
        "Check which column is which, or do not route between these two."
    )


def _checked(p: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    arrays = [np.asarray(a, dtype=np.float64) for a in (p, weak, strong)]
    if arrays[0].ndim != 1 or len({a.shape for a in arrays}) != 1 or arrays[0].size == 0:
        raise DataError(f"scores, weak and strong must be (n,) alike, got {', '.join(str(a.shape) for a in arrays)}")
    for name, a in zip(("scores", "weak grades", "strong grades"), arrays, strict=True):
        if not np.isfinite(a).all():
            raise DataError(f"{int((~np.isfinite(a)).sum())} of {len(a)} {name} are NaN or infinite")
    gap_of(arrays[1], arrays[2])
    return arrays[0], arrays[1], arrays[2]
