"""How many labels a promise needs. Exact binomial counts, no normal approximation."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, betaincinv, ndtri

from router_models.errors import DataError
from router_models.risk_control.certificates.risks import check_budget
from router_models.types import FloatArray, IntArray

POWER = 0.9
MAX_ERRORS = 20_000
RISKS = 25
"""Quantiles of what is known of a risk that power is averaged over."""
COUNTS_AT_ONCE = 16
"""Counts of errors whose power is bounded together."""
NEARLY = 0.97
"""The part of ε above which a risk counts as one that no number of labels certifies."""


def p_value(errors: ArrayLike, n: ArrayLike, epsilon: float) -> FloatArray:
    """P(Binomial(n, ε) ≤ errors): the exact p-value of "the risk is at least ε". 1 where n = 0."""
    return np.asarray(bdtr(np.asarray(errors, dtype=np.float64), np.asarray(n), epsilon), dtype=np.float64)


def least_labels(errors: IntArray, epsilon: float, level: float) -> IntArray:
    """The fewest labels at which that many errors still certify risk ≤ ε at `level`, for each count of errors."""
    k = np.asarray(errors, dtype=np.int64)
    low, high = k.copy(), np.ceil((k + 10 * np.sqrt(k + 1) + 10 - 2 * math.log(level)) / epsilon).astype(np.int64)
    while (high - low > 1).any():
        middle = (low + high) // 2
        passes = p_value(k, middle, epsilon) <= level
        low, high = np.where(passes, low, middle), np.where(passes, middle, high)
    return np.asarray(high, dtype=np.int64)


def power(n: int, epsilon: float, true_risk: float, level: float) -> float:
    """P(n labelled accepted answers certify risk ≤ ε at `level`), if the risk is really `true_risk`."""
    errors = np.arange(n + 1)
    allowed = int((p_value(errors, np.full(n + 1, n), epsilon) <= level).sum()) - 1
    return 0.0 if allowed < 0 else float(bdtr(float(allowed), n, true_risk))


def labels_needed(epsilon: float, true_risk: float, delta: float, wanted: float = POWER) -> int | None:
    """Labels among *accepted* answers from which on certification succeeds with probability ≥ `wanted`.

    Power is a saw-tooth in n (it falls until one more error is allowed, then jumps); this is the n after which it
    never falls below `wanted` again, so that a label more is never a label too many.

    Parameters
    ----------
    epsilon : float
        The bound to be certified, in (0, 1).
    true_risk : float
        How often accepted answers are wrong in truth, in [0, 1].
    delta : float
        The level the test is really run at, after any split over slices or looks.
    wanted : float
        The probability of success.

    Returns
    -------
    int or None
        None where true_risk ≥ ε, when no number would do, or where it lies so close to ε that more than 20,000 errors
        would have to be seen.

    Raises
    ------
    DataError
        For a budget that is none, or a risk outside of [0, 1].
    """
    check_budget(epsilon, delta)
    if not 0 <= true_risk <= 1:
        raise DataError(f"true_risk must lie in [0, 1], got {true_risk!r}")
    if true_risk >= epsilon:
        return None
    if true_risk == 0:
        return math.ceil(math.log(delta) / math.log1p(-epsilon))
    return _least_with_power(epsilon, delta, np.array([true_risk]), wanted)


@lru_cache(maxsize=64)
def _starts(size: int, epsilon: float, level: float) -> IntArray:
    """`least_labels` of 0 to `size` errors; the same for every true risk, and most of what `labels_needed` costs."""
    starts = least_labels(np.arange(size + 1), epsilon, level)
    starts.setflags(write=False)
    return starts


def labels_assured(epsilon: float, errors: int, n: int, delta: float, wanted: float = POWER) -> int | None:
    """Labels among *accepted* answers that certify with probability ≥ `wanted`, when the risk is known from n answers.

    `labels_needed` at a measured risk promises too much: power bends downwards in the risk, so that what a risk
    measured too low loses is more than what one measured too high gains. Here power is averaged over the risks that
    `errors` of n leave open (the posterior of a Beta(½, ½) prior), as far as any number of labels would do for them.

    Parameters
    ----------
    epsilon : float
        The bound to be certified, in (0, 1).
    errors, n : int
        Wrong answers among n accepted ones, at a threshold that was not chosen on them.
    delta : float
        The level the test is really run at.
    wanted : float
        The probability of success.

    Returns
    -------
    int or None
        None where it is likelier than not that no number would do, or where more than 20,000 errors would be seen.

    Raises
    ------
    DataError
        For a budget that is none.
    """
    check_budget(epsilon, delta)
    open_risks = betaincinv(errors + 0.5, n - errors + 0.5, (np.arange(RISKS) + 0.5) / RISKS)
    within = open_risks[open_risks < NEARLY * epsilon]
    if 2 * len(within) < RISKS:
        return None
    return _least_with_power(epsilon, delta, within, wanted)


def _least_with_power(epsilon: float, delta: float, risks: FloatArray, wanted: float) -> int | None:
    """The labels from which on power, averaged over the risks, never falls below `wanted`; None beyond MAX_ERRORS."""
    size = 64
    while size <= MAX_ERRORS:
        # With k errors allowed from starts[k] labels on, power is least just before starts[k + 1].
        starts = _starts(size, epsilon, delta)
        last = _last_short(starts, risks, wanted)
        if last is None:
            return int(starts[0])
        if last < 0.5 * size:
            return int(starts[last + 1])
        size *= 4
    return None


def _last_short(starts: IntArray, risks: FloatArray, wanted: float) -> int | None:
    """The most errors allowed at which power is below `wanted` at its least; None: it never is.

    Fewer errors among more labels are less likely: the fewest errors and the most labels of a block bound its power
    from below, and what is bounded well enough is not looked at one by one.
    """

    def power_at(errors: IntArray, labels: IntArray) -> FloatArray:
        return np.asarray(bdtr(errors[:, None].astype(np.float64), labels[:, None] - 1, risks).mean(axis=1))

    size = len(starts) - 1
    if power_at(np.array([size - 1]), starts[-1:])[0] < wanted:
        return size - 1
    begins = np.arange(0, size, COUNTS_AT_ONCE)
    ends = np.minimum(begins + COUNTS_AT_ONCE, size)
    for block in np.flatnonzero(power_at(begins, starts[ends]) < wanted)[::-1]:
        errors = np.arange(begins[block], ends[block])
        short = np.flatnonzero(power_at(errors, starts[errors + 1]) < wanted)
        if short.size:
            return int(errors[short[-1]])
    return None


def labels_guess(epsilon: float, true_risk: ArrayLike, level: float) -> FloatArray:
    """The normal approximation to `labels_needed`, for ranking candidates cheaply; inf where true_risk ≥ ε."""
    r = np.asarray(true_risk, dtype=np.float64)
    spread = -ndtri(level) * math.sqrt(epsilon * (1 - epsilon)) + ndtri(POWER) * np.sqrt(r * (1 - r))
    gap = epsilon - r
    return np.asarray(np.where(gap > 0, (spread / np.where(gap > 0, gap, 1.0)) ** 2, np.inf), dtype=np.float64)
