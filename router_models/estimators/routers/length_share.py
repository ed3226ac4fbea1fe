"""How much of a router's order to leave to prompt length, by what the router gains over it on groups it never saw.

A learned order may hold on the training prompts' own topics and nowhere else. Whole groups of prompts are held out,
each for a set that is not seen yet; within each the router's order is compared with length's. It counts for the part
of its gain that is sure: the gain less one standard error, as a share of the gain. The standard error is that between
groups: what is gained on three of four tells little of a fifth.

Where the share begins is what prompts held out at random say, which stand for familiar ones: where the router's order
surely gains over length's there, the share must cost nothing of it that is sure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_models.types import FloatArray, IntArray

SURE = 2.0
"""Standard errors above which an order is surely better than length's for familiar prompts."""
BEGINS = (1 / 2, 1 / 4, 1 / 8, 1 / 16)
"""Quantiles of the similarity of familiar prompts at which the share may begin, the earliest first."""
NARROWEST = 0.05
"""The least difference of similarity over which the share rises to its full size."""


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
    gains = _gains(better, base, y, group)
    return float(gains.mean()), float(gains.std() / np.sqrt(len(y)))


def gain_on_groups(better: FloatArray, base: FloatArray, y: FloatArray, group: IntArray) -> tuple[float, float]:
    """Return what `order_gain` does, with the standard error for groups not seen yet: each is one draw.

    With one group alone that error is infinite.
    """
    gains = _gains(better, base, y, group)
    parts = [float((gains[group == g] - gains.mean()).sum()) for g in np.unique(group)]
    k = len(parts)
    error = float(np.sqrt(k / (k - 1) * np.square(parts).sum()) / len(y)) if k > 1 else np.inf
    return float(gains.mean()), error


def share_of_base(gain: float, error: float) -> float:
    """Return the share of the base's order, in [0, 1]: one standard error's of the gain; 1 where nothing is gained.

    0 gain and 0 error (both order alike) leave nothing to choose: 1.
    """
    return 1.0 if gain <= 0 else min(1.0, error / gain)


def ramp_of(similarity: FloatArray, begin: float, end: float) -> FloatArray:
    """Return the part of the share by similarity: none from `begin` on, all up to `end`, linear between."""
    return np.asarray(np.clip((begin - similarity) / (begin - end), 0.0, 1.0), dtype=np.float64)


def ramp_without_loss(
    learned: FloatArray,
    by_length: FloatArray,
    share: float,
    y: FloatArray,
    group: IntArray,
    familiar: FloatArray,
    unfamiliar: FloatArray,
) -> tuple[float, float]:
    """Return where length's share begins and where it is full, so that familiar prompts lose nothing that is sure.

    Parameters
    ----------
    learned, by_length : array of float, (n,)
        Estimates for prompts held out at random: those of the router, and length's.
    share : float
        The share in full.
    y : array of float, (n,)
        Targets in [0, 1].
    group : array of int, (n,)
        The fold of each prompt.
    familiar : array of float, (n,)
        The prompts' similarity to the training data.
    unfamiliar : array of float, (m,)
        The same of prompts whose whole domain was held out.

    Returns
    -------
    tuple of float
        The similarity at which the share begins. Where the router's order is surely better than length's: the first
        of `BEGINS` at which it loses no more than one standard error, else the last. Where it is not: the first. And
        the similarity at which it is full: held-out domains' median, or `NARROWEST` less than where it begins.
    """
    gain, error = order_gain(learned, by_length, y, group)
    begin = end = 0.0
    for quantile in BEGINS:
        begin = float(np.quantile(familiar, quantile))
        end = min(float(np.median(unfamiliar)), begin - NARROWEST)
        mixed = learned + share * ramp_of(familiar, begin, end) * (by_length - learned)
        lost, of_that = order_gain(learned, mixed, y, group)
        if gain < SURE * error or lost <= of_that:
            break
    return begin, end


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


def _gains(better: FloatArray, base: FloatArray, y: FloatArray, group: IntArray) -> FloatArray:
    """Return what every prompt adds to the gain of `better` over `base`, each group by itself, (n,)."""
    gains = np.empty(len(y))
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        gains[rows] = (y[rows] - y[rows].mean()) * (_ranks(better[rows]) - _ranks(base[rows]))
    return gains


def _ranks(scores: FloatArray) -> FloatArray:
    """Return ranks in (0, 1), ties at their middle."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place] / (len(scores) + 1), dtype=np.float64)
