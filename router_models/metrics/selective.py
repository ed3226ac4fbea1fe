"""Measure the errors among the best-scored answers (selective prediction), as statistics of resamples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.metrics.intervals import WeightedStatistic
from router_models.metrics.probability import tie_groups
from router_models.types import FloatArray


def risk_area_weighted(scores: ArrayLike, right: ArrayLike) -> WeightedStatistic:
    """Return the area under the risk-coverage curve (AURC) as a statistic of resamples.

    It is the share wrong among the kept, averaged over how many are kept. Tied scores are kept together, as a
    threshold would. A constant score gives the overall share wrong.

    Parameters
    ----------
    scores : array-like of float, (n,)
        Higher is more likely to be right.
    right : array-like of float, (n,)
        Grades in [0, 1].

    Returns
    -------
    callable
        Weights (draws, n) → (draws,) in [0, 1]; lower is better.
    """
    order, starts, wrong = _from_the_top(scores, right)

    def statistic(weights: FloatArray) -> FloatArray:
        kept, errors, step = _cumulated(weights, order, starts, wrong)
        risk = errors / np.where(kept > 0, kept, 1)
        return np.asarray((risk * step).sum(axis=1) / kept[:, -1], dtype=np.float64)

    return statistic


def kept_within_weighted(scores: ArrayLike, right: ArrayLike, epsilon: float) -> WeightedStatistic:
    """Return the largest share of answers that a threshold keeps within an error budget, as a statistic of resamples.

    The threshold is chosen on the sample itself: an upper bound of what a certificate can reach, not a guarantee.

    Parameters
    ----------
    scores : array-like of float, (n,)
        Higher is more likely to be right.
    right : array-like of float, (n,)
        Grades in [0, 1].
    epsilon : float
        The share of the kept answers that may be wrong, in (0, 1).

    Returns
    -------
    callable
        Weights (draws, n) → (draws,) in [0, 1]; 0 where no threshold keeps the budget.

    Raises
    ------
    DataError
        Where `epsilon` is not in (0, 1).
    """
    if not 0 < epsilon < 1:
        raise DataError(f"an error budget lies in (0, 1), got {epsilon!r}")
    order, starts, wrong = _from_the_top(scores, right)

    def statistic(weights: FloatArray) -> FloatArray:
        kept, errors, _ = _cumulated(weights, order, starts, wrong)
        return np.asarray(np.where(errors <= epsilon * kept, kept, 0.0).max(axis=1) / kept[:, -1], dtype=np.float64)

    return statistic


def _from_the_top(scores: ArrayLike, right: ArrayLike) -> tuple[np.ndarray, np.ndarray, FloatArray]:
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if s.ndim != 1 or s.shape != t.shape or s.size == 0:
        raise DataError(f"need as many scores as grades, in one dimension and at least one: {s.shape} and {t.shape}")
    if np.isnan(s).any() or np.isnan(t).any():
        raise DataError(f"{int((np.isnan(s) | np.isnan(t)).sum())} of {len(s)} rows hold NaN")
    order, starts = tie_groups(-s)
    return order, starts, 1.0 - t[order]


def _cumulated(
    weights: FloatArray, order: np.ndarray, starts: np.ndarray, wrong: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return per draw and distinct score from the top: answers so far, wrong ones so far, answers at this score."""
    ordered = weights[:, order]
    step = np.add.reduceat(ordered, starts, axis=1)
    errors = np.cumsum(np.add.reduceat(ordered * wrong, starts, axis=1), axis=1)
    return np.cumsum(step, axis=1), errors, step
