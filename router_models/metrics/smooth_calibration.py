"""A calibration error without bins: residuals smoothed by a kernel whose width is the error itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct

from router_models.errors import DataError
from router_models.metrics.intervals import WeightedStatistic
from router_models.metrics.probability import paired_grades
from router_models.types import FloatArray

_GRID = 1000
_SILENT = 9.0
"""Widths of a Gaussian in the cosine transform beyond which it is nothing: e^-40 is below the rounding of a double."""


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
    q, t = paired_grades(p, y)
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
            widths, which = np.unique(sigma, return_inverse=True)  # few: halves of halves of 1
            gaussians = np.exp(-0.5 * (frequency[:heard] * widths[:, None]) ** 2)
            smoothed = idct(spectrum[:, :heard] * gaussians[which], type=2, n=_GRID, axis=1)
            above = np.abs(smoothed, out=smoothed).sum(axis=1) > sigma
            low, high = np.where(above, sigma, low), np.where(above, high, sigma)
        return np.asarray((low + high) / 2, dtype=np.float64)

    return statistic
