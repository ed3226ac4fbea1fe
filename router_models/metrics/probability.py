"""Measure probabilities and rankings: calibration, discrimination, selective accuracy.

Each figure exists on the sample and, as `…_weighted`, for `intervals.bootstrap`: weights (draws, n) → (draws,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct
from scipy.stats import beta

from router_models.errors import DataError
from router_models.metrics.intervals import WeightedStatistic
from router_models.types import FloatArray

_GRID = 1000
_SILENT = 9.0
"""Widths of a Gaussian in the cosine transform beyond which it is nothing: e^-40 is below the rounding of a double."""


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
    q, t = _paired(p, y)
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
    q, t = _paired(p, y)
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
    s, t = _paired(scores, right)
    if t.min() == t.max():
        raise DataError(f"every grade is {t[0]:g}: an AUC needs right and wrong answers")
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


def smooth_calibration_error(p: ArrayLike, y: ArrayLike) -> float:
    """Return smECE, a calibration error without bins.

    The residuals y - p are smoothed over [0, 1] by a reflected Gaussian of width σ; smECE is the σ at which the
    integral of their absolute value equals σ. Any finite sample is above 0 and a resample adds noise, so that
    bootstrap intervals are biased upwards: compare them between calibrators, not with 0.

    Parameters
    ----------
    p : array-like of float, (n,)
        Probabilities in [0, 1].
    y : array-like of float, (n,)
        Grades in [0, 1].

    Returns
    -------
    float
        In [0, 1]; 0 = calibrated.

    References
    ----------
    Błasiok and Nakkiran, "Smooth ECE: Principled reliability diagrams via kernel smoothing", 2023, arXiv 2309.12236.
    """
    return float(smooth_calibration_error_weighted(p, y)(np.ones((1, np.size(p))))[0])


def smooth_calibration_error_weighted(p: ArrayLike, y: ArrayLike) -> WeightedStatistic:
    """Return `smooth_calibration_error` as a statistic of resamples, on a grid of 1,000 cells.

    A reflected Gaussian is diagonal in the cosine transform, so that every width costs one inverse transform.
    """
    q, t = _paired(p, y)
    if q.min() < 0 or q.max() > 1:
        raise DataError(f"probabilities must lie in [0, 1], found {q.min():g} to {q.max():g}")
    cell = np.minimum((q * _GRID).astype(np.int64), _GRID - 1)
    order = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[order], return_index=True)
    frequency = np.pi * np.arange(_GRID)

    def statistic(weights: FloatArray) -> FloatArray:
        residual = np.zeros((len(weights), _GRID))
        residual[:, cells] = np.add.reduceat((weights * (t - q))[:, order], starts, axis=1)
        spectrum = dct(residual / weights.sum(axis=1, keepdims=True), type=2, axis=1)
        low, high = np.zeros(len(weights)), np.ones(len(weights))
        for _ in range(12):  # to 1/4096, finer than the grid
            sigma = (low + high) / 2
            heard = int(np.searchsorted(frequency * sigma.min(), _SILENT)) + 1
            damped = spectrum[:, :heard] * np.exp(-0.5 * (frequency[:heard] * sigma[:, None]) ** 2)
            smoothed = idct(damped, type=2, n=_GRID, axis=1)
            above = np.abs(smoothed).sum(axis=1) > sigma
            low, high = np.where(above, sigma, low), np.where(above, high, sigma)
        return np.asarray((low + high) / 2, dtype=np.float64)

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
    q, t = _paired(p, y)
    edges = np.unique(np.quantile(q, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    index = np.searchsorted(edges, q, side="left")
    out = []
    for b in np.unique(index):
        rows = index == b
        n, right = int(rows.sum()), float(t[rows].sum())
        low = float(beta.ppf(0.025, right, n - right + 1)) if right > 0 else 0.0
        high = float(beta.ppf(0.975, right + 1, n - right)) if right < n else 1.0
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
    s, t = _paired(scores, right)
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
    s, t = _paired(scores, right)
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


def _paired(p: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    q, t = np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if q.ndim != 1 or q.shape != t.shape or q.size == 0:
        raise DataError(f"need as many scores as grades, in one dimension and at least one: {q.shape} and {t.shape}")
    if np.isnan(q).any() or np.isnan(t).any():
        raise DataError(f"{int((np.isnan(q) | np.isnan(t)).sum())} of {len(q)} rows hold NaN")
    return q, t
