"""Every score calibrator by name, and the choice among them by the number of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from router_models.artifacts import State
from router_models.calibration.base import ScoreCalibrator, columns_of, targets_of
from router_models.calibration.parametric import LogisticCalibrator, PlattCalibrator, TemperatureCalibrator
from router_models.calibration.steps import IsotonicCalibrator, VennAbersCalibrator
from router_models.errors import ArtifactError
from router_models.metrics import log_loss
from router_models.types import FloatArray

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
    """The families worth fitting on n labels, the default first.

    Several features → logistic. One score → temperature below 100 labels, Platt from there on, and from 1,000 isotonic
    and Venn-Abers may compete with it.
    """
    if features > 1:
        return (LogisticCalibrator,)
    if n < FEW_LABELS:
        return (TemperatureCalibrator,)
    if n < MANY_LABELS:
        return (PlattCalibrator,)
    return (PlattCalibrator, IsotonicCalibrator, VennAbersCalibrator)


def choose_calibrator(scores: ArrayLike, y: ArrayLike, *, seed: int = 0, folds: int = 5) -> ScoreCalibrator:
    """Fit the calibrator that suits the number of labels; a rival must beat the default's inner CV log-loss.

    Returns it fitted on all rows. `seed` shuffles the folds. Raises DataError as `fit` does.
    """
    X = columns_of(scores)
    t = targets_of(y, len(X))
    families = candidates(len(X), X.shape[1])
    if len(families) == 1:
        return families[0]().fit(X, t)
    fold = np.random.default_rng(seed).permutation(len(X)) % folds
    losses = [_cv_log_loss(family, X, t, fold) for family in families]
    return families[int(np.argmin(losses))]().fit(X, t)


def calibrator_from_state(state: State) -> ScoreCalibrator:
    """Rebuild whichever family wrote `state`; raises ArtifactError for an unknown one."""
    name = state.meta.get("family")
    if name not in CALIBRATORS:
        raise ArtifactError(f"unknown score calibrator {name!r}; known: {', '.join(CALIBRATORS)}")
    return CALIBRATORS[str(name)].from_state(state)


def _cv_log_loss(family: type[ScoreCalibrator], X: FloatArray, t: FloatArray, fold: np.ndarray) -> float:
    p = np.empty(len(X))
    for held_out in np.unique(fold):
        inside = fold != held_out
        p[~inside] = family().fit(X[inside], t[inside]).predict(X[~inside])
    return log_loss(p, t)
