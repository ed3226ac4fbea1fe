"""How much of a router's order to leave to prompt length, by what the router gains over it on groups it never saw.

A learned order may hold on the training prompts' own topics and nowhere else. Whole groups of prompts are held out,
each for a set that is not seen yet; within each the router's order is compared with length's. It counts for the part
of its gain that is sure: the gain less `SURE` standard errors, as a share of the gain. Where the groups are many named
domains a gain on them says more of the next domain, and what is not sure of it is left out by halves (`SHRUNK`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_models.types import FloatArray, IntArray

SURE = 1.4
"""Standard errors below a gain: the lower end of its one-sided 92 % interval."""
SHRUNK = 2.0
"""Standard errors of a gain on many named domains at which half of the order is left to length."""


def order_gain(better: FloatArray, base: FloatArray, y: FloatArray, group: IntArray) -> tuple[float, float]:
    """Compare two orders of prompts, each group by itself.

    Parameters
    ----------
    better, base : array of float, (n,)
        Scores; only their order within a group counts.
    y : array of float, (n,)
        Targets in [0, 1]; high scores should meet high targets.
    group : array of int, (n,)
        The group of each prompt.

    Returns
    -------
    tuple of float
        The mean covariance of targets with ranks under `better`, less that under `base` (for targets of 0 and 1 a
        multiple of the difference of their areas under the ROC curve), and its standard error.
    """
    gains = np.empty(len(y))
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        gains[rows] = (y[rows] - y[rows].mean()) * (_ranks(better[rows]) - _ranks(base[rows]))
    return float(gains.mean()), float(gains.std() / np.sqrt(len(y)))


def share_of_base(gain: float, error: float, *, many_domains: bool = False) -> float:
    """Return the share of the base's order, in [0, 1]: `SURE` standard errors' of the gain; 1 where nothing is gained.

    0 gain and 0 error (both order alike) leave nothing to choose: 1.

    Parameters
    ----------
    gain, error : float
        As `order_gain` returns them.
    many_domains : bool
        The groups are many named domains: the gain is shrunk, by `SHRUNK` errors, and not cut off.
    """
    if gain <= 0:
        return 1.0
    return SHRUNK * error / (gain + SHRUNK * error) if many_domains else min(1.0, SURE * error / gain)


def length_line(log_odds: FloatArray, log_length: FloatArray) -> tuple[float, float]:
    """Return the level and slope of σ(level - slope · log(1 + characters)) that spreads as given log-odds do, (n,)."""
    spread = float(log_length.std())
    slope = float(log_odds.std()) / spread if spread > 0 else 0.0
    return float(log_odds.mean()) + slope * float(log_length.mean()), slope


def log_lengths(texts: Sequence[str]) -> FloatArray:
    """Return log(1 + characters) of every text, (n,)."""
    return np.log1p(np.array([len(text) for text in texts], dtype=np.float64))


def estimate_by_length(level: float, slope: float, log_length: FloatArray) -> FloatArray:
    """Return σ(level - slope · log(1 + characters)), (n,)."""
    return np.asarray(1 / (1 + np.exp(np.clip(slope * log_length - level, -50, 50))), dtype=np.float64)


def log_odds(p: FloatArray | float) -> FloatArray:
    """Return log(p / (1 - p)), p kept within .01 and .99."""
    inside = np.clip(p, 0.01, 0.99)
    return np.asarray(np.log(inside / (1 - inside)), dtype=np.float64)


def _ranks(scores: FloatArray) -> FloatArray:
    """Return ranks in (0, 1), ties at their middle."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place] / (len(scores) + 1), dtype=np.float64)
