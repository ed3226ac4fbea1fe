"""What a policy would have earned, from decisions that another one made by chance and that were graded.

For feedback that cannot be made again (people's); where answers can be generated and graded anew, run the policy on
the logged prompts and compare pairs instead, which is sharper and assumes less.

Doubly robust (Robins, Rotnitzky and Zhao 1994; Dudík, Langford and Li 2011, arXiv 1103.4601), cross-fitted
(Chernozhukov et al. 2018): φ_i = Σ_a π(a|x_i) q(x_i, a) + π(a_i|x_i)/p_i · (y_i - q(x_i, a_i)), where p_i is the
probability with which the action that was *executed* had been drawn, and q a ridge regression of grades on features,
for each action, fitted on other folds. Right on average whatever q says, since p_i is known; q only makes the interval
shorter. The mean of φ has a normal interval, with rows of one group taken together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from router_models.errors import DataError
from router_models.metrics.intervals import Interval
from router_models.types import BoolArray, FloatArray, IntArray

LEAST_PROPENSITY = 0.05
LEAST_EFFECTIVE = 50
BALANCE_LEVEL = 1e-4
"""How rarely right propensities are not believed, because the mean of their weights differs too much from 1."""
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class LoggedDecisions:
    """Decisions that were drawn by chance, with the grades of what came of them.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        What was known before each decision; d may be 0.
    action : ndarray of int, shape (n,)
        What was executed, 0 to k - 1: a fallback's action, not the one that was wanted.
    propensity : ndarray of shape (n,)
        The probability, in (0, 1], with which that action was executed, fallbacks included.
    grade : ndarray of shape (n,)
        In [0, 1].
    group : ndarray of int, shape (n,), optional
        Rows that are not independent (of one user, session or prompt) share a number. None: all are independent.
    """

    features: FloatArray
    action: IntArray
    propensity: FloatArray
    grade: FloatArray
    group: IntArray | None = None

    def __post_init__(self) -> None:
        n = len(self.action)
        columns = (self.action, self.propensity, self.grade, *(() if self.group is None else (self.group,)))
        if np.ndim(self.features) != 2 or len(self.features) != n or any(np.shape(c) != (n,) for c in columns):
            raise DataError("logged decisions need (n, d) features and n actions, propensities, grades and groups")
        if not np.isfinite(self.features).all():
            raise DataError("features must be finite")
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            raise DataError("propensities must lie in (0, 1]")
        if not ((self.grade >= 0) & (self.grade <= 1)).all():
            raise DataError(
                "grades must lie in [0, 1]; a decision without one can be left out if it lacks it by chance"
            )


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """The mean grade that a policy would have earned on the logged decisions' traffic.

    Parameters
    ----------
    value : Interval
        The mean grade, and its interval.
    gain : Interval
        What that is more than the logged decisions earned, paired.
    n : int
        Decisions.
    effective_n : float
        As many decisions of the policy's own would say as much, roughly: (Σw)²/Σw² of its weights.
    """

    value: Interval
    gain: Interval
    n: int
    effective_n: float


def estimate_off_policy(
    logged: LoggedDecisions, target: FloatArray, *, level: float = 0.95, folds: int = 5, seed: int = 0
) -> OffPolicyEstimate:
    """Estimate the mean grade of a policy from decisions that another one made.

    Parameters
    ----------
    logged : LoggedDecisions
        What was done, with which probability, and how it was graded.
    target : ndarray of shape (n, k)
        The probability with which the policy would take each action on each of these, from the same features.
    level : float
        Of the intervals, two-sided.
    folds : int
        Parts in each of which the others' regressions are used.
    seed : int
        Seeds the draw of the folds.

    Returns
    -------
    OffPolicyEstimate
        The mean grade and the gain, with intervals.

    Raises
    ------
    DataError
        Where no estimate can be had: propensities below 5 %, too little that the policy would have done, or weights
        that show that some of it was never tried, or that the propensities are not those of what was executed.
    """
    target = np.asarray(target, dtype=np.float64)
    n, rows = len(logged.action), np.arange(len(logged.action))
    if target.ndim != 2 or len(target) != n or not (target >= 0).all() or not np.allclose(target.sum(axis=1), 1):
        raise DataError("the policy's probabilities must be (n, k), 0 or more, and sum to 1 in each row")
    if n and not ((logged.action >= 0) & (logged.action < target.shape[1])).all():
        raise DataError(f"actions must be 0 to {target.shape[1] - 1}, the policy's columns")
    if not 0 < level < 1 or folds < 2:
        raise DataError("level must lie between 0 and 1, and there must be two folds or more")
    _check_explored(logged)
    weight = target[rows, logged.action] / logged.propensity
    effective = _check_weights(weight)
    predicted = _cross_fitted(logged, target.shape[1], folds, seed)
    surprise = logged.grade - predicted[rows, logged.action]
    influence = (target * predicted).sum(axis=1) + weight * surprise
    return OffPolicyEstimate(
        value=_interval(influence, logged.group, level),
        gain=_interval(influence - logged.grade, logged.group, level),
        n=n,
        effective_n=effective,
    )


def _check_explored(logged: LoggedDecisions) -> None:
    rare = int((logged.propensity < LEAST_PROPENSITY).sum())
    if rare:
        raise DataError(
            f"{rare} of {len(logged.action)} decisions were executed with a probability below {LEAST_PROPENSITY:.0%}: "
            "a few of them would decide everything. Explore with 5 % or more, and leave no such decision out: that "
            "would choose the traffic by what was decided"
        )


def _check_weights(weight: FloatArray) -> float:
    """The effective number of decisions, if the weights can be those of the policy."""
    squares = float((weight**2).sum())
    effective = float(weight.sum()) ** 2 / squares if squares else 0.0
    if effective < LEAST_EFFECTIVE:
        raise DataError(
            f"the logged decisions hold only {effective:.0f} of the policy's own, by their weights; intervals need "
            f"{LEAST_EFFECTIVE}"
        )
    # The few large weights that a sample happens to lack make its mean low and its spread small: downwards the bound
    # is empirical Bernstein's (Maurer and Pontil 2009); upwards, where they widen both, the normal one is safe.
    off, log_level, n = float(weight.mean()) - 1, np.log(1 / BALANCE_LEVEL), len(weight)
    spread = float(weight.std(ddof=1)) / np.sqrt(n)
    below = np.sqrt(2 * log_level) * spread + 7 * float(weight.max()) * log_level / (3 * (n - 1))
    slack = below if off < 0 else float(-ndtri(BALANCE_LEVEL)) * spread
    if abs(off) > slack + 1e-9:
        raise DataError(
            f"the weights' mean is {1 + off:.3f} where it should be 1 (± {slack:.3f}): some of what the policy would "
            "do was never tried, the propensities are not those of the executed actions, or grades are missing more "
            "often after some actions than after others"
        )
    return effective


def _cross_fitted(logged: LoggedDecisions, actions: int, folds: int, seed: int) -> FloatArray:
    """Predicted grades (n, k), each from the folds that do not hold its group; no row predicts itself."""
    group = np.arange(len(logged.action)) if logged.group is None else logged.group
    _, which = np.unique(group, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(which.max() + 1) % folds)[which]
    predicted = np.empty((len(group), actions))
    for k in range(folds):
        rest, own = fold != k, fold == k
        for a in range(actions):
            predicted[own, a] = _predicted(logged, rest & (logged.action == a), rest, own)
    return predicted


def _predicted(logged: LoggedDecisions, fit: BoolArray, rest: BoolArray, own: BoolArray) -> FloatArray:
    """Ridge on the rows to fit on, or their mean where they are too few, for a fold's own; within [0, 1]."""
    x, y = logged.features[fit], logged.grade[fit]
    if len(y) < 5 * (x.shape[1] + 1):
        mean = float(y.mean()) if len(y) else float(logged.grade[rest].mean()) if rest.any() else 0.5
        return np.full(int(own.sum()), mean)
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x - centre) / scale
    slope = np.linalg.solve(z.T @ z + _RIDGE * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return np.asarray(np.clip(y.mean() + (logged.features[own] - centre) / scale @ slope, 0, 1), dtype=np.float64)


def _interval(values: FloatArray, group: IntArray | None, level: float) -> Interval:
    """The mean with a normal interval whose variance is that of the groups' sums."""
    mean = float(values.mean())
    _, which = np.unique(np.arange(len(values)) if group is None else group, return_inverse=True)
    sums = np.bincount(which, weights=values - mean)
    if len(sums) < 2:
        raise DataError("intervals need two groups or more")
    spread = float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) / len(values)
    half = float(ndtri((1 + level) / 2)) * spread
    return Interval(mean, mean - half, mean + half, level)
