"""Measure a router's order: quality against the share of strong calls.

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
    """Hold quality at ascending shares of strong calls; linear between the points.

    Quality may exceed `strong`: a good router keeps the questions that only the weak model answers.

    Parameters
    ----------
    strong_share : array of float, (m,)
        Ascending from 0 to 1.
    quality : array of float, (m,)
        The mean grade at each share.
    weak, strong : float
        The mean grades of the two models alone.
    """

    strong_share: FloatArray
    quality: FloatArray
    weak: float
    strong: float

    @property
    def pgr(self) -> FloatArray:
        """Return the performance gap recovered at each point: 0 = weak, 1 = strong."""
        return (self.quality - self.weak) / (self.strong - self.weak)

    def quality_at(self, share: ArrayLike) -> FloatArray:
        """Return the quality at given shares of strong calls."""
        return np.interp(np.asarray(share, dtype=np.float64), self.strong_share, self.quality)


class RoutingSums:
    """Prepare one router's order over n prompts for resampling.

    `apgr` and `cpt` are statistics for `intervals.bootstrap`. A resample whose strong model is not better is NaN.

    Parameters
    ----------
    p_weak_ok : array-like of float, (n,)
        P(the weak answer is acceptable).
    weak, strong : array-like of float, (n,)
        Both models' grades.
    """

    def __init__(self, p_weak_ok: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> None:
        p, w, s = check_grades(p_weak_ok, weak, strong)
        self._order, self._starts = tie_groups(p)
        self._gain = (s - w)[self._order]

    def points(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return shares of strong calls and the performance gap recovered, both (draws, m + 1) and starting at 0."""
        ordered = weights[:, self._order]
        count = np.add.reduceat(ordered, self._starts, axis=1)
        gain = np.add.reduceat(ordered * self._gain, self._starts, axis=1)
        share, gap = from_zero(count), from_zero(gain)
        total = gap[:, -1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            recovered = np.where(total > 0, gap / total, np.nan)
        return share / share[:, -1:], recovered

    def apgr(self, weights: FloatArray) -> FloatArray:
        """Return the average performance gap recovered of each resample, (draws,)."""
        share, recovered = self.points(weights)
        return np.asarray(np.trapezoid(recovered, share, axis=1), dtype=np.float64)

    def cpt(self, weights: FloatArray, x: float) -> FloatArray:
        """Return the first share of strong calls at which x of the gap is recovered, of each resample, (draws,)."""
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
    """Return the exact curve of quality over the share of strong calls; tied prompts are averaged.

    The curve has one point per distinct score. It equals the expectation over random orders of tied prompts, so a
    constant score gives the straight line.

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
    p, w, s = check_grades(p_weak_ok, weak, strong)
    share, recovered = RoutingSums(p, w, s).points(np.ones((1, len(p))))
    quality = w.mean() + recovered[0] * (s.mean() - w.mean())
    return RoutingCurve(share[0], quality, float(w.mean()), float(s.mean()))


def routellm_curve(p_weak_ok: ArrayLike, weak: ArrayLike, strong: ArrayLike, bins: int = 10) -> RoutingCurve:
    """Return the curve through thresholds at score deciles, as RouteLLM's evaluation draws it.

    The score compared is the strong model's, 1 - p: strong if score ≥ threshold, and at the highest edge only above
    it. Edges that coincide (ties) are used once.

    Parameters
    ----------
    p_weak_ok : array-like of float, (n,)
        P(the weak answer is acceptable).
    weak, strong : array-like of float, (n,)
        Both models' grades.
    bins : int
        The number of quantile bins; 10 = deciles.

    Returns
    -------
    RoutingCurve

    References
    ----------
    Ong et al., "RouteLLM: Learning to route LLMs with preference data", arXiv 2406.18665.
    """
    p, w, s = check_grades(p_weak_ok, weak, strong)
    score = 1 - p
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    to_strong = [score >= edge for edge in edges[:-1]] + [score > edges[-1]]
    share = np.array([float(mask.mean()) for mask in to_strong])
    quality = np.array([float(np.where(mask, s, w).mean()) for mask in to_strong])
    if len(edges) == 1:  # one score for all: the only thresholds send none or all
        share, quality = np.array([1.0, 0.0]), np.array([s.mean(), w.mean()])
    order = np.argsort(share, kind="stable")
    return RoutingCurve(share[order], quality[order], float(w.mean()), float(s.mean()))


def random_curve(weak: ArrayLike, strong: ArrayLike) -> RoutingCurve:
    """Return the straight line of random routing: APGR ½, CPT(x) = x."""
    return routing_curve(np.zeros(np.size(weak)), weak, strong)


def oracle_scores(weak: ArrayLike, strong: ArrayLike) -> FloatArray:
    """Return the best order, as scores in [0, 1].

    Prompts that only the strong model answers are lowest and go to it first, those that only the weak one answers
    last.

    Parameters
    ----------
    weak, strong : array-like of float, (n,)
        Both models' grades.

    Returns
    -------
    array of float, (n,)
    """
    gain = np.asarray(strong, dtype=np.float64) - np.asarray(weak, dtype=np.float64)
    spread = max(float(np.abs(gain).max()), 1e-12)
    return np.asarray(0.5 - gain / (2 * spread), dtype=np.float64)


def pgr(quality: float, weak: float, strong: float) -> float:
    """Return the performance gap recovered, (quality - weak) / (strong - weak); DataError where there is no gap."""
    if not strong > weak:
        raise DataError(_no_gap(weak, strong))
    return (quality - weak) / (strong - weak)


def apgr(curve: RoutingCurve) -> float:
    """Return the average performance gap recovered (APGR) over the share of strong calls.

    (area - weak's area) / (strong's area - weak's area).

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
    """Return the call-performance threshold: the first share of strong calls at which x of the gap is recovered.

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
    """Return CPT by `np.interp` over quality, as RouteLLM computes it: wrong where quality is not monotone."""
    return float(np.interp(x, curve.pgr, curve.strong_share))


def gap_of(weak: ArrayLike, strong: ArrayLike) -> float:
    """Return strong's mean grade less weak's.

    Parameters
    ----------
    weak, strong : array-like of float, (n,)
        Both models' grades.

    Returns
    -------
    float
        Above 0.

    Raises
    ------
    DataError
        Where strong is not better: there is no gap to recover.
    """
    w, s = float(np.mean(np.asarray(weak))), float(np.mean(np.asarray(strong)))
    if not s > w:
        raise DataError(_no_gap(w, s))
    return s - w


def from_zero(steps: FloatArray) -> FloatArray:
    """Return running sums along the last axis with a leading 0."""
    return np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)


def _no_gap(weak: float, strong: float) -> str:
    return (
        f"the strong model ({strong:.4f}) is not better than the weak one ({weak:.4f}): there is no gap to recover. "
        "Check which column is which, or do not route between these two."
    )


def check_grades(p: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return scores and both models' grades as float64 (n,); DataError where they are unusable or there is no gap."""
    arrays = [np.asarray(a, dtype=np.float64) for a in (p, weak, strong)]
    if arrays[0].ndim != 1 or len({a.shape for a in arrays}) != 1 or arrays[0].size == 0:
        raise DataError(f"scores, weak and strong must be (n,) alike, got {', '.join(str(a.shape) for a in arrays)}")
    for name, a in zip(("scores", "weak grades", "strong grades"), arrays, strict=True):
        if not np.isfinite(a).all():
            raise DataError(f"{int((~np.isfinite(a)).sum())} of {len(a)} {name} are NaN or infinite")
    gap_of(arrays[1], arrays[2])
    return arrays[0], arrays[1], arrays[2]
