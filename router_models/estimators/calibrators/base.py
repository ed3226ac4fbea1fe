"""The interface of every score calibrator: raw scores in, P(answer acceptable) out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.types import FloatArray

P_MIN = 1e-6
"""Confidences are clipped to [P_MIN, 1 - P_MIN] before a logit is taken: 1.0 means very sure, not infinitely."""


class ScoreCalibrator(ABC):
    """Map scores to P(answer acceptable) in (0, 1); learned on TUNE and stored as data.

    Calibrators of one score never decrease in it, so that a threshold on the probability is a threshold on the score.
    Infinite scores are clipped; NaN raises DataError, because the caller must decide what a missing score means.
    """

    family: ClassVar[str]

    @abstractmethod
    def fit(self, scores: ArrayLike, y: ArrayLike) -> Self:
        """Learn the map.

        Parameters
        ----------
        scores : array-like of float, (n,) or (n, k)
            Scores in [0, 1], or the k features of `LogisticCalibrator`.
        y : array-like of float, (n,)
            Grades in [0, 1].

        Returns
        -------
        ScoreCalibrator
            The calibrator itself.

        Raises
        ------
        DataError
            For NaN, unequal lengths, grades of one value only, or the wrong number of columns.
        """

    @abstractmethod
    def predict(self, scores: ArrayLike) -> FloatArray:
        """Return P(answer acceptable).

        Parameters
        ----------
        scores : array-like of float, (n,) or (n, k)
            As in `fit`.

        Returns
        -------
        array of float, (n,)
            Strictly between 0 and 1.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """

    @abstractmethod
    def state(self) -> State:
        """Return the learned state; `from_state` rebuilds a calibrator that predicts equally."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild a calibrator from `state()`.

        Parameters
        ----------
        state : State
            What `state` returned.

        Returns
        -------
        ScoreCalibrator

        Raises
        ------
        ArtifactError
            Where the state does not fit this class.
        """


def columns_of(scores: ArrayLike) -> FloatArray:
    """Return scores as (n, k) float64; DataError for NaN, no rows or more than two dimensions."""
    X = np.asarray(scores, dtype=np.float64)
    if X.ndim == 1:
        X = X[:, None]
    if X.ndim != 2:
        raise DataError(f"scores must be (n,) or (n, k), got shape {X.shape}")
    if np.isnan(X).any():
        rows = int(np.isnan(X).any(axis=1).sum())
        raise DataError(f"{rows} of {len(X)} rows hold a NaN score: drop them or send them to the safe tier first")
    return X


def one_column(scores: ArrayLike) -> FloatArray:
    """Return scores as (n,); DataError where several columns are given."""
    X = columns_of(scores)
    if X.shape[1] != 1:
        raise DataError(f"this calibrator takes one score, got {X.shape[1]} columns: use LogisticCalibrator")
    return X[:, 0]


def confidences_of(scores: ArrayLike) -> FloatArray:
    """Return scores (n,) as confidences clipped into (0, 1); ±inf count as certain.

    Raises DataError for finite scores outside [0, 1]: those are logits or log-probabilities, not confidences.
    """
    s = one_column(scores)
    finite = s[np.isfinite(s)]
    if finite.size and (finite.min() < 0 or finite.max() > 1):
        raise DataError(
            f"confidences must lie in [0, 1], found {finite.min():g} to {finite.max():g}: "
            "pass log-probabilities and other features to LogisticCalibrator"
        )
    return np.asarray(np.minimum(np.maximum(s, P_MIN), 1 - P_MIN), dtype=np.float64)


def logit_of(scores: ArrayLike) -> FloatArray:
    """Return log(s / (1 - s)) of clipped confidences, (n,)."""
    s = confidences_of(scores)
    return np.asarray(np.log(s) - np.log1p(-s), dtype=np.float64)


def calibration_targets(y: ArrayLike, n: int) -> FloatArray:
    """Return grades as float64 (n,); DataError unless they are n numbers in [0, 1] of more than one value."""
    t = np.asarray(y, dtype=np.float64)
    if t.shape != (n,):
        raise DataError(f"{n} scores but grades of shape {t.shape}")
    if n == 0:
        raise DataError("no scores to calibrate on")
    if not np.isfinite(t).all():
        raise DataError(f"{int((~np.isfinite(t)).sum())} of {n} grades are NaN or infinite")
    if t.min() < 0 or t.max() > 1:
        raise DataError(f"grades must lie in [0, 1], found {t.min():g} to {t.max():g}")
    if t.min() == t.max():
        raise DataError(f"every grade is {t[0]:g}: calibration needs both right and wrong answers")
    return t
