"""Measure probabilities and rankings: calibration, discrimination, selective accuracy.

Each figure exists on the sample and, as `…_weighted`, for `intervals.bootstrap`: weights (draws, n) → (draws,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from router_models.errors import DataError
from router_models.metrics.intervals import WeightedStatistic
from router_models.types import FloatArray


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Hold one bin of a reliability diagram: neighbouring probabilities and the share right among them.

    Parameters
    ----------
    n : int
        Probabilities in the bin.
    mean_p : float
        Their mean.
    share_right : float
        The share of right answers.
    low, high : float
        Its 95 % Clopper-Pearson interval.
    """

    n: int
    mean_p: float
    share_right: float
    low: float
    high: float


def brier(p: ArrayLike, y: ArrayLike) -> float:
    """Return the mean squared error of probabilities (the Brier score).

    Parameters
    ----------
    p : array-like of float, (n,)
        Probabilities.
    y : array-like of float, (n,)
        Grades in [0, 1].

    Returns
    -------
    float
        At least 0; lower is better.
    """
    return float(brier_weighted(p, y)(np.ones((1, np.size(p))))[0])


def brier_weighted(p: ArrayLike, y: ArrayLike) -> WeightedStatistic:
    """Return `brier` as a statistic of resamples."""
    q, t = paired_grades(p, y)
    return _weighted_mean((q - t) ** 2)


def log_loss(p: ArrayLike, y: ArrayLike) -> float:
    """Return the mean log-loss, -[y ln p + (1-y) ln(1-p)], in nats.

    Parameters
    ----------
    p : array-like of float, (n,)
        Probabilities; clipped to [1e-15, 1 - 1e-15].
    y : array-like of float, (n,)
        Grades in [0, 1]; may be fractional.

    Returns
    -------
    float
        At least 0; lower is better.
    """
    return float(log_loss_weighted(p, y)(np.ones((1, np.size(p))))[0])


def log_loss_weighted(p: ArrayLike, y: ArrayLike) -> WeightedStatistic:
    """Return `log_loss` as a statistic of resamples."""
    q, t = paired_grades(p, y)
    q = np.clip(q, 1e-15, 1 - 1e-15)
    return _weighted_mean(-(t * np.log(q) + (1 - t) * np.log1p(-q)))


def auc(scores: ArrayLike, right: ArrayLike) -> float:
    """Return P(a right answer scores above a wrong one), ties counting half.

    Parameters
    ----------
    scores : array-like of float, (n,)
        Any scale; higher is more likely to be right.
    right : array-like of float, (n,)
        Grades in [0, 1]; fractional ones count as that much right.

    Returns
    -------
    float
        In [0, 1]; ½ for scores that carry no information.

    Raises
    ------
    DataError
        Where every grade is the same.
    """
    return float(auc_weighted(scores, right)(np.ones((1, np.size(scores))))[0])


def auc_weighted(scores: ArrayLike, right: ArrayLike) -> WeightedStatistic:
    """Return `auc` as a statistic of resamples; NaN for a resample that holds one class only."""
    s, t = paired_grades(scores, right)
    if t.min() == t.max():
        raise DataError(f"every grade is {t[0]:g}: an AUC needs right and wrong answers")
    if set(np.unique(t)) == {0.0, 1.0}:
        return _auc_of_two_classes(s, t > 0)
    order, starts = tie_groups(s)

    def statistic(weights: FloatArray) -> FloatArray:
        w = weights[:, order]
        right_in = np.add.reduceat(w * t[order], starts, axis=1)
        wrong_in = np.add.reduceat(w * (1 - t[order]), starts, axis=1)
        below = np.cumsum(wrong_in, axis=1) - wrong_in / 2
        pairs = right_in.sum(axis=1) * wrong_in.sum(axis=1)
        won = (right_in * below).sum(axis=1)
        return np.asarray(np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan), dtype=np.float64)

    return statistic


def _auc_of_two_classes(s: FloatArray, is_right: NDArray[np.bool_]) -> WeightedStatistic:
    """Count, for every right answer, the wrong ones below it: a fifth of the arithmetic of fractional grades."""
    wrong, right = np.flatnonzero(~is_right), np.flatnonzero(is_right)
    wrong = wrong[np.argsort(s[wrong], kind="stable")]
    lower, upper = (np.searchsorted(s[wrong], s[right], side=side) for side in ("left", "right"))
    tied = bool((lower != upper).any())

    def statistic(weights: FloatArray) -> FloatArray:
        below = np.zeros((len(weights), len(wrong) + 1))
        np.cumsum(weights[:, wrong], axis=1, out=below[:, 1:])
        of_right = weights[:, right]
        won = np.einsum("ij,ij->i", of_right, below[:, lower])
        if tied:
            won = (won + np.einsum("ij,ij->i", of_right, below[:, upper])) / 2
        pairs = of_right.sum(axis=1) * below[:, -1]
        return np.asarray(np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan), dtype=np.float64)

    return statistic


def reliability(p: ArrayLike, y: ArrayLike, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Return a reliability diagram: bins of about equally many neighbouring probabilities (ties stay together).

    For display only: binned figures are biased, so never base a decision on them.

    Parameters
    ----------
    p : array-like of float, (n,)
        Probabilities.
    y : array-like of float, (n,)
        Grades in [0, 1].
    bins : int
        The number of bins, at most.

    Returns
    -------
    tuple of ReliabilityBin
    """
    q, t = paired_grades(p, y)
    edges = np.unique(np.quantile(q, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    index = np.searchsorted(edges, q, side="left")
    out = []
    for b in np.unique(index):
        rows = index == b
        n, right = int(rows.sum()), float(t[rows].sum())
        low = float(betaincinv(right, n - right + 1, 0.025)) if right > 0 else 0.0
        high = float(betaincinv(right + 1, n - right, 0.975)) if right < n else 1.0
        out.append(ReliabilityBin(n, float(q[rows].mean()), right / n, low, high))
    return tuple(out)


def risk_by_coverage(scores: ArrayLike, right: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the share accepted and the share wrong among those, when accepting from the highest score down.

    Tied scores are accepted together, as a threshold would.

    Parameters
    ----------
    scores : array-like of float, (n,)
        Higher is more likely to be right.
    right : array-like of float, (n,)
        Grades in [0, 1].

    Returns
    -------
    tuple of arrays of float, (m,) each
        Coverage, ascending to 1, and risk, per distinct score.
    """
    s, t = paired_grades(scores, right)
    order, starts = tie_groups(-s)
    accepted = np.append(starts[1:], len(s)).astype(np.float64)
    wrong = np.cumsum(1 - t[order])[accepted.astype(np.int64) - 1]
    return accepted / len(s), wrong / accepted


def selective_accuracy(scores: ArrayLike, right: ArrayLike, coverage: float) -> float:
    """Return the accuracy among the answers with the highest scores; scores tied at the edge are averaged.

    Parameters
    ----------
    scores : array-like of float, (n,)
        Higher is more likely to be right.
    right : array-like of float, (n,)
        Grades in [0, 1].
    coverage : float
        The share of answers to keep, in (0, 1].

    Returns
    -------
    float
        In [0, 1].
    """
    if not 0 < coverage <= 1:
        raise DataError(f"coverage must lie in (0, 1], got {coverage!r}")
    s, t = paired_grades(scores, right)
    share, risk = risk_by_coverage(s, t)
    right_at = np.interp(coverage, np.concatenate([[0.0], share]), np.concatenate([[0.0], share * (1 - risk)]))
    return float(right_at / coverage)


def tie_groups(scores: FloatArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ascending order of scores, and where in it each run of equal scores starts."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _weighted_mean(each: FloatArray) -> WeightedStatistic:
    return lambda weights: np.asarray(weights @ each / weights.sum(axis=1), dtype=np.float64)


def paired_grades(p: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return scores and grades as arrays of one length; DataError where they are not, or hold NaN."""
    q, t = np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if q.ndim != 1 or q.shape != t.shape or q.size == 0:
        raise DataError(f"need as many scores as grades, in one dimension and at least one: {q.shape} and {t.shape}")
    if np.isnan(q).any() or np.isnan(t).any():
        raise DataError(f"{int((np.isnan(q) | np.isnan(t)).sum())} of {len(q)} rows hold NaN")
    return q, t
