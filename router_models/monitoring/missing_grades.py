"""Grades that are missing from a log of decisions: whether they are missing by chance, and what they could come to.

An off-policy estimate of the decisions that were graded speaks of all of them only where grades are missing by chance.
Two ways in which they are not can be seen: another share is graded after one action than after the other (a test of
Cochran, Mantel and Haenszel over the strata in which the propensity is one), or the graded ones differ in what is
known of every decision, such as its score (a rank test after each action). What cannot be seen, whether a right
answer is graded more often than a wrong one with the same score, is bounded: the interval of the estimate in which
every missing grade is the worst there is, to that in which it is the best (Manski 1990).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import mannwhitneyu, norm

from router_models.errors import DataError
from router_models.metrics.intervals import Interval
from router_models.monitoring.off_policy import LoggedDecisions, estimate_off_policy
from router_models.types import BoolArray, FloatArray, IntArray

FALSE_SHARE = 0.01
"""How often something is reported of grades that are missing by chance, over all tests together."""


@dataclass(frozen=True, slots=True)
class GradedShare:
    """How many decisions there are after an action, and how many of them were graded."""

    n: int
    graded: int

    @property
    def share(self) -> float:
        return self.graded / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class MissingGrades:
    """What is to be said of the grades that are missing.

    Parameters
    ----------
    shares : tuple of GradedShare
        By action.
    found : mapping of str to float
        The tests by which grades are not missing by chance, with their p-values, adjusted for how many tests there
        were: `action`, or `NAME after ACTION`. Empty: nothing was found, which does not show that there is nothing.
    value, gain : Interval
        As of `OffPolicyEstimate`, whatever the missing grades are; their `value` is the middle.
    """

    shares: tuple[GradedShare, ...]
    found: Mapping[str, float]
    value: Interval
    gain: Interval

    @property
    def missing(self) -> int:
        return sum(one.n - one.graded for one in self.shares)


def missing_grades(
    logged: LoggedDecisions, graded: BoolArray, target: FloatArray, known: Mapping[str, FloatArray]
) -> MissingGrades:
    """Look at the grades that are missing, and bound the estimate over all that they could be.

    Parameters
    ----------
    logged : LoggedDecisions
        All decisions, whether or not they were graded; what stands as the grade of those that were not is not read.
    graded : ndarray of bool, shape (n,)
        Which were.
    target : ndarray of shape (n, k)
        As of `estimate_off_policy`.
    known : mapping of str to ndarray of shape (n,)
        What is known of every decision, NaN where it is not: a score, a length. Compared after each action.

    Returns
    -------
    MissingGrades

    Raises
    ------
    DataError
        Where no estimate can be had (`estimate_off_policy`).
    """
    graded, target = np.asarray(graded, dtype=np.bool_), np.asarray(target, dtype=np.float64)
    if graded.shape != logged.action.shape:
        raise DataError(f"{len(logged.action)} decisions, but {graded.size} marks of which were graded")
    weight = target[np.arange(len(graded)), logged.action] / logged.propensity
    least, most = np.zeros(len(graded)), np.ones(len(graded))
    lost, won = (weight < 1).astype(np.float64), (weight >= 1).astype(np.float64)

    def estimated(filled: FloatArray) -> tuple[Interval, Interval]:
        found = estimate_off_policy(replace(logged, grade=np.where(graded, logged.grade, filled)), target)
        return found.value, found.gain

    value = _between(estimated(least)[0], estimated(most)[0])
    gain = _between(estimated(lost)[1], estimated(won)[1])
    actions = range(target.shape[1])
    shares = tuple(
        GradedShare(int((logged.action == a).sum()), int((graded & (logged.action == a)).sum())) for a in actions
    )
    return MissingGrades(shares, _found(logged.action, logged.propensity, graded, known, len(actions)), value, gain)


def _between(low: Interval, high: Interval) -> Interval:
    return Interval((low.value + high.value) / 2, low.low, high.high, low.level)


def _found(
    action: IntArray, propensity: FloatArray, graded: BoolArray, known: Mapping[str, FloatArray], actions: int
) -> dict[str, float]:
    tests = {"action": share_test(action, propensity, graded)}
    for name, values in known.items():
        for a in range(actions):
            there = (action == a) & np.isfinite(values)
            with_grade, without = values[there & graded], values[there & ~graded]
            if min(len(with_grade), len(without)) > 0 and len(np.unique(values[there])) > 1:
                tests[f"{name} after {a}"] = float(mannwhitneyu(with_grade, without).pvalue)
    return {name: min(p * len(tests), 1.0) for name, p in tests.items() if p * len(tests) <= FALSE_SHARE}


def share_test(action: IntArray, propensity: FloatArray, graded: BoolArray) -> float:
    """The p-value of the same share being graded after action 0 as after the others, where propensities are alike.

    Decisions are compared with those of the same chances alone: who grades more of one week than of another, while
    a version had another share of the traffic, grades neither version more often.
    """
    chance = np.round(np.where(action == 0, propensity, 1 - propensity), 9)
    off = spread = 0.0
    for stratum in np.unique(chance):
        rows = chance == stratum
        n, first, marked = int(rows.sum()), int((rows & (action == 0)).sum()), int((rows & graded).sum())
        if n < 2:
            continue
        off += float((rows & graded & (action == 0)).sum()) - first * marked / n
        spread += first * (n - first) * marked * (n - marked) / (n * n * (n - 1))
    return 1.0 if spread == 0 else float(2 * norm.sf(max(abs(off) - 0.5, 0.0) / np.sqrt(spread)))
