"""Choose limits on parts among many: those that leave out fewest prompts while no attack's rise may be beyond ε.

Every combination of the limits of each column is counted at once: a histogram over the columns, summed along each,
has at every combination how many prompts lie within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from router_models.types import BoolArray, FloatArray, IntArray

LEVEL, DEVIATIONS = 0.975, 1.96
"""Of the upper ends of rises, one-sided, exact and normal: of what is chosen among all about .95 is left."""


@dataclass(frozen=True)
class Measured:
    """Hold which of n prompts are sent down, covered but for their parts, (n,), and how far parts lie below, (n, k).

    What lies beyond every limit that is tried may be inf.
    """

    down: BoolArray
    below: FloatArray

    def take(self, rows: IntArray) -> Measured:
        """Return some of the prompts."""
        return Measured(self.down[rows], self.below[rows])

    def within(self, limits: FloatArray) -> BoolArray:
        """Return which are sent down and within limits, (n,)."""
        return np.asarray(self.down & (self.below <= limits).all(axis=1))


@dataclass(frozen=True)
class Attack:
    """Hold what one way of rewriting makes of n hard prompts: what was measured before, and after."""

    name: str
    before: Measured
    after: Measured

    def high_within(self, limits: FloatArray) -> float:
        """Return the upper end of the rise under some limits."""
        return rise_of(self.before.within(limits), self.after.within(limits))[1]


@dataclass(frozen=True)
class Chosen:
    """Hold limits, (k,), and what they come to: the worst attack, its rise and that one's upper end, and the price."""

    limits: FloatArray
    way: str
    rise: float
    high: float
    price: float


def choose_limits(
    columns: Sequence[FloatArray], ordinary: Measured, attacks: Sequence[Attack], epsilon: float
) -> Chosen:
    """Return the limits that leave out fewest, of those with which every rise is known to be at most ε.

    Where there are none, those with the least upper end of the worst rise, whatever they leave out.

    Parameters
    ----------
    columns : sequence of array of float
        The limits that are tried of each of the k columns, ascending; combinations are all of theirs.
    ordinary : Measured
        Prompts as they are asked, that say what limits leave out.
    attacks : sequence of Attack
        At least one.
    epsilon : float
        By how much a share may rise.
    """
    sent, kept = int(ordinary.down.sum()), _counts(columns, ordinary)
    price = 1 - kept / sent if sent else np.zeros(kept.shape)
    rises, highs = zip(*(_rises(columns, attack) for attack in attacks), strict=True)
    worst = np.argmax(highs, axis=0)
    rise, high = (np.take_along_axis(np.array(one), worst[None], axis=0)[0] for one in (rises, highs))
    loosest_first = -np.arange(price.size)
    held = high.ravel() <= epsilon
    order = np.lexsort((loosest_first, price.ravel(), np.zeros(price.size) if held.any() else high.ravel(), ~held))
    at = np.unravel_index(int(order[0]), price.shape)
    limits = np.array([column[place] for column, place in zip(columns, at, strict=True)])
    return Chosen(limits, attacks[int(worst[at])].name, float(rise[at]), float(high[at]), float(price[at]))


def tried_limits(usual: Sequence[float], ordinary: Measured, quantiles: Sequence[Sequence[float]]) -> list[FloatArray]:
    """Return the limits to try of each column, ascending: 0, some quantiles of prompts that are sent down, the usual.

    Parameters
    ----------
    usual : sequence of float
        The loosest limit of each column; inf: none.
    ordinary : Measured
        Prompts as they are asked.
    quantiles : sequence of sequence of float
        Which ones, of each column.
    """
    sent = ordinary.below[ordinary.down & np.isfinite(ordinary.below).all(axis=1)]
    sent = sent if len(sent) else np.zeros((1, len(usual)))
    found = []
    for column, loosest in enumerate(usual):
        tried = np.floor(1000 * np.quantile(sent[:, column], quantiles[column]) + 1) / 1000
        found.append(np.unique([0.0, *np.minimum(tried, loosest), loosest]))
    return found


def rise_of(before: BoolArray, after: BoolArray) -> tuple[float, float]:
    """Return by how much a share of the same n prompts rose, and the upper end of its interval."""
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    rise, high = _interval(len(before), np.array([gained]), np.array([lost]))
    return float(rise[0]), float(high[0])


def _rises(columns: Sequence[FloatArray], attack: Attack) -> tuple[FloatArray, FloatArray]:
    """Return the rise and its upper end under every combination of limits."""
    before, after = attack.before, attack.after
    both = Measured(before.down & after.down, np.maximum(before.below, after.below))
    kept = _counts(columns, both)
    gained, lost = _counts(columns, after) - kept, _counts(columns, before) - kept
    return _interval(len(before.down), gained, lost)


def _interval(n: int, gained: IntArray, lost: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return by how much a share of n prompts rose, and the upper end of its one-sided interval.

    The larger one of the end by discordant pairs, and of the exact end of the share that was gained.
    """
    rise = (gained - lost) / n
    paired = rise + DEVIATIONS * np.sqrt(np.maximum(gained + lost - (gained - lost) ** 2 / n, 0.0)) / n
    hits = np.arange(n)
    ends = np.append(betaincinv(hits + 1, n - hits, LEVEL), 1.0)
    return np.asarray(rise), np.asarray(np.maximum(paired, ends[gained] - lost / n))


def _counts(columns: Sequence[FloatArray], measured: Measured) -> IntArray:
    """Return how many prompts are sent down and within, of every combination of limits."""
    rows = measured.below[measured.down]
    places = np.column_stack([np.searchsorted(one, rows[:, i]) for i, one in enumerate(columns)])
    inside = places[(places < [len(one) for one in columns]).all(axis=1)]
    counts = np.zeros([len(one) for one in columns], dtype=np.int64)
    np.add.at(counts, tuple(inside.T), 1)
    for axis in range(len(columns)):
        counts = counts.cumsum(axis=axis)
    return counts
