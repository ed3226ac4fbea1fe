"""The registry of score calibrators, and the choice among them by the number of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from router_models.data.artifacts import State
from router_models.errors import ArtifactError
from router_models.estimators.calibrators.base import ScoreCalibrator, calibration_targets, columns_of
from router_models.estimators.calibrators.parametric import LogisticCalibrator, PlattCalibrator, TemperatureCalibrator
from router_models.estimators.calibrators.steps import IsotonicCalibrator, VennAbersCalibrator
from router_models.types import FloatArray, IntArray

CALIBRATORS: dict[str, type[ScoreCalibrator]] = {
    family.family: family
    for family in (
        PlattCalibrator,
        TemperatureCalibrator,
        LogisticCalibrator,
        IsotonicCalibrator,
        VennAbersCalibrator,
    )
}

FEW_LABELS = 100
MANY_LABELS = 1000


def candidates(n: int, features: int = 1) -> tuple[type[ScoreCalibrator], ...]:
    """Return the families worth fitting on n labels, the default first.

    Several features: logistic. One score: temperature below 100 labels (Platt competes: a score that is no
    probability, such as one made of prompt length, needs an intercept), Platt from there on, and from 1,000 labels
    isotonic and Venn-Abers compete with it.

    Parameters
    ----------
    n : int
        The number of labels.
    features : int
        The number of columns.

    Returns
    -------
    tuple of type
    """
    if features > 1:
        return (LogisticCalibrator,)
    if n < FEW_LABELS:
        return (TemperatureCalibrator, PlattCalibrator)
    if n < MANY_LABELS:
        return (PlattCalibrator,)
    return (PlattCalibrator, IsotonicCalibrator, VennAbersCalibrator)


def choose_calibrator(scores: ArrayLike, y: ArrayLike, *, seed: int = 0, folds: int = 5) -> ScoreCalibrator:
    """Fit the calibrator that suits the number of labels.

    A rival replaces the default where its cross-validated log-loss is better by more than one standard error of the
    paired difference.

    Parameters
    ----------
    scores : array-like of float, (n,) or (n, k)
        Scores in [0, 1], or k features.
    y : array-like of float, (n,)
        Grades in [0, 1].
    seed : int
        Shuffles the folds, which are stratified by right and wrong.
    folds : int
        The number of inner folds.

    Returns
    -------
    ScoreCalibrator
        Fitted on all rows.

    Raises
    ------
    DataError
        As `ScoreCalibrator.fit` does.
    """
    X = columns_of(scores)
    t = calibration_targets(y, len(X))
    default, *rivals = candidates(len(X), X.shape[1])
    right = t > 0.5
    if not rivals or min(right.sum(), (~right).sum()) < folds:
        return default().fit(X, t)
    shuffled = np.random.default_rng(seed).permutation(len(X))
    fold = np.empty(len(X), dtype=np.int64)
    fold[shuffled[np.argsort(right[shuffled], kind="stable")]] = np.arange(len(X)) % folds
    losses = _cv_losses(default, X, t, fold)
    best, greatest = default, 0.0
    for rival in rivals:
        gain = losses - _cv_losses(rival, X, t, fold)
        mean, error = float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain)))
        if mean > max(error, greatest):
            best, greatest = rival, mean
    return best().fit(X, t)


def constant_calibrator(y: ArrayLike) -> ScoreCalibrator:
    """Return the calibrator for grades y (n,) of one class: it maps every score to their smoothed mean."""
    t = np.asarray(y, dtype=np.float64)
    level = (t.sum() + 1) / (len(t) + 2)
    meta = {"family": PlattCalibrator.family, "slope": 0.0, "intercept": float(logit(level))}
    return PlattCalibrator.from_state(State(meta=meta))


def calibrator_from_state(state: State) -> ScoreCalibrator:
    """Rebuild whichever family wrote `state`; ArtifactError for an unknown one."""
    name = state.meta.get("family")
    if name not in CALIBRATORS:
        raise ArtifactError(f"unknown score calibrator {name!r}; known: {', '.join(CALIBRATORS)}")
    return CALIBRATORS[str(name)].from_state(state)


def _cv_losses(family: type[ScoreCalibrator], X: FloatArray, t: FloatArray, fold: IntArray) -> FloatArray:
    """Return the log-loss of every row when its fold is left out, (n,)."""
    p = np.empty(len(X))
    for held_out in np.unique(fold):
        rows = fold == held_out
        p[rows] = family().fit(X[~rows], t[~rows]).predict(X[rows])
    return np.asarray(-(t * np.log(p) + (1 - t) * np.log1p(-p)), dtype=np.float64)
