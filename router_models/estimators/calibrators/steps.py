"""Calibrators that are step functions: isotonic regression and Venn-Abers. They need a thousand labels or more."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from router_models.data.artifacts import State
from router_models.errors import NotFittedError
from router_models.estimators.calibrators.base import ScoreCalibrator, calibration_targets, confidences_of
from router_models.estimators.calibrators.parametric import check_family, inside
from router_models.types import FloatArray


class IsotonicCalibrator(ScoreCalibrator):
    """Fit the least-squares non-decreasing map, interpolated between the training scores, constant outside them."""

    family = "isotonic"

    def __init__(self) -> None:
        self.knots_: FloatArray | None = None

    def fit(self, scores: ArrayLike, y: ArrayLike) -> Self:
        from scipy.optimize import isotonic_regression

        s = confidences_of(scores)
        self.knots_, means, counts = _pooled_by_score(s, calibration_targets(y, len(s)))
        self.values_ = np.asarray(isotonic_regression(means, weights=counts).x, dtype=np.float64)
        return self

    def predict(self, scores: ArrayLike) -> FloatArray:
        if self.knots_ is None:
            raise NotFittedError("IsotonicCalibrator: call fit first")
        return inside(np.interp(confidences_of(scores), self.knots_, self.values_))

    def state(self) -> State:
        if self.knots_ is None:
            raise NotFittedError("IsotonicCalibrator: call fit first")
        return State({"knots": self.knots_, "values": self.values_}, {"family": self.family})

    @classmethod
    def from_state(cls, state: State) -> Self:
        check_family(cls, state)
        self = cls()
        self.knots_, self.values_ = state.arrays["knots"], state.arrays["values"]
        return self


class VennAbersCalibrator(ScoreCalibrator):
    """Fit inductive Venn-Abers: isotonic regression with the new score labelled both ways.

    p0(s) and p1(s) are the isotonic values at s after adding (s, 0) and (s, 1); p = p1 / (1 - p0 + p1), their minimax
    combination for log-loss. An added 1 between two training scores pools with the upper one and an added 0 with the
    lower, so both are step functions over the training scores and `fit` tabulates them: one isotonic fit per distinct
    score and label (8,000 scores: one to two seconds).

    References
    ----------
    Vovk, Petej and Fedorova, "Large-scale probabilistic predictors with and without guarantees of validity", 2015,
    arXiv 1511.00213.
    """

    family = "venn-abers"

    def __init__(self) -> None:
        self.knots_: FloatArray | None = None

    def fit(self, scores: ArrayLike, y: ArrayLike) -> Self:
        from scipy.optimize import isotonic_regression

        s = confidences_of(scores)
        self.knots_, means, counts = _pooled_by_score(s, calibration_targets(y, len(s)))
        k = len(self.knots_)
        self.p0_, self.p1_ = np.empty(k), np.empty(k)
        for i in range(k):
            weights = counts.copy()
            weights[i] += 1
            for label, out in ((0.0, self.p0_), (1.0, self.p1_)):
                values = means.copy()
                values[i] = (means[i] * counts[i] + label) / weights[i]
                out[i] = isotonic_regression(values, weights=weights).x[i]
        return self

    def interval(self, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the two isotonic probabilities of each score; their distance is the uncertainty of the calibration.

        Parameters
        ----------
        scores : array-like of float, (n,)
            Confidences in [0, 1].

        Returns
        -------
        tuple of arrays of float, (n,) each
            p0 and p1, p0 ≤ p1.
        """
        if self.knots_ is None:
            raise NotFittedError("VennAbersCalibrator: call fit first")
        s = confidences_of(scores)
        below = np.searchsorted(self.knots_, s, side="right") - 1
        above = np.searchsorted(self.knots_, s, side="left")
        p0 = np.where(below < 0, 0.0, self.p0_[np.maximum(below, 0)])
        p1 = np.where(above >= len(self.knots_), 1.0, self.p1_[np.minimum(above, len(self.knots_) - 1)])
        return p0, p1

    def predict(self, scores: ArrayLike) -> FloatArray:
        p0, p1 = self.interval(scores)
        return inside(p1 / (1 - p0 + p1))

    def state(self) -> State:
        if self.knots_ is None:
            raise NotFittedError("VennAbersCalibrator: call fit first")
        return State({"knots": self.knots_, "p0": self.p0_, "p1": self.p1_}, {"family": self.family})

    @classmethod
    def from_state(cls, state: State) -> Self:
        check_family(cls, state)
        self = cls()
        self.knots_, self.p0_, self.p1_ = state.arrays["knots"], state.arrays["p0"], state.arrays["p1"]
        return self


def _pooled_by_score(s: FloatArray, t: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the distinct scores ascending, the mean grade at each, and its number of rows."""
    knots, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    weights = counts.astype(np.float64)
    return knots, np.bincount(inverse, weights=t) / weights, weights
