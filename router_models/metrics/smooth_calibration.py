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
_PARTS = 4096
"""The error is found to one of so many parts of 1, finer than the grid."""
_SECANTS = 6
"""Tries after which brackets are halved instead."""
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

    def statistic(weights: FloatArray) -> FloatArray:
        residual = np.zeros((len(weights), _GRID))
        residual[:, cells] = np.add.reduceat((weights * (t - q))[:, order], starts, axis=1)
        return _own_widths(dct(residual / weights.sum(axis=1, keepdims=True), type=2, axis=1))

    return statistic


def _own_widths(spectrum: FloatArray) -> FloatArray:
    """Find the width that equals what it leaves of each row's residuals, to half of one part in `_PARTS`.

    A wider kernel leaves less. So the width that is sought lies between any other and what that one leaves, and the
    zero of what is left less the width is bracketed from both sides at each try, and soon met by secants.
    """
    rows = len(spectrum)
    low, high, at = np.zeros(rows, np.int64), np.full(rows, _PARTS), np.full(rows, _PARTS // 16)
    slope, last_width, last_over = np.full(rows, -1.5), np.full(rows, np.nan), np.full(rows, np.nan)
    tries = 0
    while (open_ := np.flatnonzero(high - low > 1)).size:
        width = at[open_] / _PARTS
        left = _left(spectrum[open_], width)
        over, reach = left - width, np.ceil(left * _PARTS).astype(np.int64)
        below = over > 0
        low[open_] = np.where(below, at[open_], np.maximum(low[open_], reach - 1))
        high[open_] = np.where(below, np.minimum(high[open_], reach), at[open_])
        if tries:
            slope[open_] = np.minimum((over - last_over[open_]) / (width - last_width[open_]), -1.0)
        last_width[open_], last_over[open_] = width, over
        following = np.rint((width - over / slope[open_]) * _PARTS).astype(np.int64)
        if tries > _SECANTS:
            following = (low[open_] + high[open_]) // 2
        at[open_] = np.clip(following, low[open_] + 1, np.maximum(high[open_] - 1, low[open_] + 1))
        tries += 1
    return np.asarray((low + high) / (2 * _PARTS), dtype=np.float64)


def _left(spectrum: FloatArray, width: FloatArray) -> FloatArray:
    """Return the integral of the absolute residuals after smoothing, of each row with its own width."""
    frequency = np.pi * np.arange(_GRID)
    heard = int(np.searchsorted(frequency * width.min(), _SILENT)) + 1
    gaussians = np.exp(-0.5 * (frequency[:heard] * width[:, None]) ** 2)
    smoothed = idct(spectrum[:, :heard] * gaussians, type=2, n=_GRID, axis=1)
    return np.asarray(np.abs(smoothed, out=smoothed).sum(axis=1), dtype=np.float64)
