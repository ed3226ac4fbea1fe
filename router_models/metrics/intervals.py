"""Exact intervals of shares, and the paired bootstrap over prompts, or over groups of them, all draws at once.

A statistic takes weights (draws, n), how often each prompt was drawn, and returns (draws,) values. Two routers
compared with the same seed get the same draws, so that the difference of their values is a paired difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from router_models.errors import DataError
from router_models.types import FloatArray, IntArray

BOOTSTRAP_DRAWS = 2000
_CELLS_AT_ONCE = 4_000_000
"""Weights that are drawn at once."""
_CELLS_KEPT = 16_000_000
"""Weights that are kept to be used again, a byte each."""
_CELLS_IN_CACHE = 64_000
"""Weights that a statistic is given at once: half a megabyte, so that what it makes of them stays in a cache."""

WeightedStatistic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold a figure and its interval.

    Parameters
    ----------
    value : float
        The figure on the sample itself.
    low, high : float
        The interval's ends.
    level : float
        The interval's level; 0.95 = two-sided 95 %.
    """

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def exact_share(hits: int, n: int) -> Interval:
    """Return a share of n with its exact 95 % interval (Clopper-Pearson).

    Parameters
    ----------
    hits : int
        How many of the `n` count.
    n : int
        At least 1.
    """
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return Interval(hits / n, low, high)


def bootstrap_values(
    statistic: WeightedStatistic,
    n: int,
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    groups: IntArray | None = None,
) -> FloatArray:
    """Compute a statistic on resamples of the prompts, or of whole groups of them.

    Parameters
    ----------
    statistic : callable
        Takes weights (draws, n) and returns (draws,) values.
    n : int
        The number of prompts.
    draws : int
        The number of resamples.
    seed : int
        Equal n, draws, seed and groups mean equal resamples.
    groups : array of int, (n,), optional
        Rows of one group (copies, one user's requests) are drawn together: they are no independent observations. None:
        every row is its own group.

    Returns
    -------
    array of float, (draws,)

    Raises
    ------
    DataError
        Where `n` or `draws` is below 1.
    """
    if n < 1 or draws < 1:
        raise DataError(f"a bootstrap needs prompts and draws, got {n} and {draws}")
    names, member = (None, None) if groups is None else np.unique(groups, return_inverse=True)
    if names is None or len(names) == n:
        member, size = None, n
    else:
        size = len(names)
    parts = []
    rows = max(1, _CELLS_IN_CACHE // n)
    for drawn in _resamples(size, draws, seed) if draws * size <= _CELLS_KEPT else _drawn(size, draws, seed):
        for start in range(0, len(drawn), rows):
            weights = drawn[start : start + rows].astype(np.float64)
            if member is not None:
                weights = weights[:, member]
            parts.append(np.asarray(statistic(weights), dtype=np.float64))
    return np.concatenate(parts)


@lru_cache(maxsize=2)
def _resamples(size: int, draws: int, seed: int) -> tuple[IntArray, ...]:
    """Return what `_drawn` draws, in few bytes: a report asks for the same resamples again and again."""
    return tuple(drawn.astype(np.min_scalar_type(drawn.max())) for drawn in _drawn(size, draws, seed))


def _drawn(size: int, draws: int, seed: int) -> Iterator[IntArray]:
    """Yield how often each of `size` was drawn, (rows, size), for as many draws at once as fit into memory."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // size)
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        picked = rng.integers(0, size, size=(rows, size)) + size * np.arange(rows)[:, None]
        yield np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size)


def interval_of(value: float, values: FloatArray, level: float = 0.95) -> Interval:
    """Compute the percentile interval of bootstrap values around a figure.

    A draw on which the statistic is undefined (NaN: a resample without a gap between weak and strong) counts as
    unbounded on both sides, so that it never narrows an interval.

    Parameters
    ----------
    value : float
        The figure on the sample itself.
    values : array of float, (draws,)
        The figure on resamples.
    level : float
        The interval's level, in (0, 1).

    Returns
    -------
    Interval
    """
    tail = (1 - level) / 2
    low = np.quantile(np.where(np.isnan(values), -np.inf, values), tail, method="lower")
    high = np.quantile(np.where(np.isnan(values), np.inf, values), 1 - tail, method="higher")
    return Interval(value, float(low), float(high), level)


def bootstrap(
    statistic: WeightedStatistic,
    n: int,
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    level: float = 0.95,
    groups: IntArray | None = None,
) -> Interval:
    """Compute a statistic on the sample itself (every weight 1), with its bootstrap interval.

    Parameters
    ----------
    statistic : callable
        Takes weights (draws, n) and returns (draws,) values.
    n : int
        The number of prompts.
    draws : int
        The number of resamples.
    seed : int
        Equal n, draws, seed and groups mean equal resamples.
    level : float
        The interval's level, in (0, 1).
    groups : array of int, (n,), optional
        As `bootstrap_values` takes them.

    Returns
    -------
    Interval
    """
    value = float(statistic(np.ones((1, n)))[0])
    return interval_of(value, bootstrap_values(statistic, n, draws=draws, seed=seed, groups=groups), level)
