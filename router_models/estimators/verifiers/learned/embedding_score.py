"""One number from an embedding: ridge regression of the grade, cross-fitted for the rows it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import ArtifactError, DataError
from router_models.estimators.verifiers.learned.blas_threads import one_blas_thread
from router_models.types import FloatArray, IntArray

RIDGE_PENALTIES = np.logspace(-1.0, 3.0, 9)


@dataclass(frozen=True, slots=True)
class EmbeddingScore:
    """Estimate the grade by least squares: score = x·coef + intercept, neither clipped nor calibrated."""

    coef: FloatArray
    intercept: float

    @classmethod
    def fit(cls, E: FloatArray, y: FloatArray) -> Self:
        """Fit with the penalty that generalised cross-validation prefers."""
        from sklearn.linear_model import RidgeCV

        with one_blas_thread():
            model = RidgeCV(alphas=RIDGE_PENALTIES).fit(E, y)
        return cls(np.asarray(model.coef_, dtype=np.float64), float(model.intercept_))

    @classmethod
    def fit_and_cross_score(cls, E: FloatArray, y: FloatArray, folds: IntArray) -> tuple[Self, FloatArray]:
        """Return the fit on all rows, and out-of-fold scores (n,) of the same rows."""
        out = np.full(len(y), float(y.mean()))
        for fold in np.unique(folds):
            held_out = folds == fold
            if (~held_out).sum() > 1:
                out[held_out] = cls.fit(E[~held_out], y[~held_out]).predict(E[held_out])
        return cls.fit(E, y), out

    def predict(self, E: FloatArray) -> FloatArray:
        """Return scores (n,) of embeddings (n, d)."""
        if E.shape[1] != len(self.coef):
            raise DataError(f"embeddings of {E.shape[1]} dimensions for a verifier fitted on {len(self.coef)}")
        return np.asarray((E * self.coef).sum(axis=1) + self.intercept, dtype=np.float64)

    def state(self) -> State:
        """Return the learned state."""
        return State({"coef": self.coef}, {"intercept": self.intercept})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild from `state()`; ArtifactError where it is not one."""
        try:
            coef, intercept = np.asarray(state.arrays["coef"], dtype=np.float64), float(state.meta["intercept"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"not a stored embedding score: {error!r}") from error
        if coef.ndim != 1 or not np.isfinite(coef).all() or not np.isfinite(intercept):
            raise ArtifactError("an embedding score with misshapen, NaN or infinite weights")
        return cls(coef, intercept)
