"""Linear routers: a logistic regression on the sentence embedding, or on the prompt's surface features."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.data.features import surface_features
from router_models.errors import ArtifactError, DataError, NotFittedError
from router_models.estimators.routers.base import RouterModel, check_prompts_input, prompt_embeddings
from router_models.types import FloatArray, Prompts
from router_models.types.drawn import sample_weights


class LogisticRouter(RouterModel):
    """Base class of logistic regressions on columns: standardise, fit with an L2 penalty, store arrays of numbers.

    Fractional targets count as weighted labels of both classes; rows by the batch's `sample_weight`.

    Parameters
    ----------
    C : float
        scikit-learn's inverse penalty.
    """

    takes_weights = True

    def __init__(self, C: float = 1.0) -> None:
        self.C = C
        self.coef_: FloatArray | None = None
        self.intercept_ = 0.0
        self.center_: FloatArray = np.zeros(0)
        self.scale_: FloatArray = np.ones(0)

    @abstractmethod
    def columns(self, X: Prompts) -> FloatArray:
        """Return the (n, d) features of this router."""

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        from sklearn.linear_model import LogisticRegression

        y = check_prompts_input(X, y)
        F = self.columns(X)
        self.center_, self.scale_ = F.mean(axis=0), F.std(axis=0) + 1e-9
        Z = (F - self.center_) / self.scale_
        labels, weights = np.repeat([1, 0], len(y)), sample_weights(X)
        counted = np.concatenate([y, 1 - y]) * (1.0 if weights is None else np.tile(weights, 2))
        model = LogisticRegression(C=self.C, max_iter=2000)
        model.fit(np.vstack([Z, Z]), labels, sample_weight=counted)
        self.coef_, self.intercept_ = model.coef_[0], float(model.intercept_[0])
        return self

    def predict(self, X: Prompts) -> FloatArray:
        if self.coef_ is None:
            raise NotFittedError(f"{type(self).__name__} was used before fit")
        F = self.columns(X)
        if F.shape[1] != len(self.coef_):
            raise DataError(f"{F.shape[1]} features per prompt, but this router was fitted on {len(self.coef_)}")
        z = (F - self.center_) / self.scale_ @ self.coef_ + self.intercept_
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)), dtype=np.float64)

    def state(self) -> State:
        if self.coef_ is None:
            raise NotFittedError(f"{type(self).__name__} has no state before fit")
        arrays = {"coef": self.coef_, "center": self.center_, "scale": self.scale_}
        return State(arrays, {"C": self.C, "intercept": self.intercept_})

    @classmethod
    def from_state(cls, state: State) -> Self:
        try:
            router = cls(float(state.meta["C"]))
            router.intercept_ = float(state.meta["intercept"])
            router.coef_, router.center_, router.scale_ = (state.arrays[k] for k in ("coef", "center", "scale"))
        except KeyError as error:
            raise ArtifactError(f"{cls.family}: the stored state lacks {error}") from error
        return router


class LinearRouter(LogisticRouter):
    """Fit logistic regression on the sentence embedding.

    Parameters
    ----------
    C : float
        scikit-learn's inverse penalty.
    """

    family = "linear"
    card = "needs the sentence embedding; one dot product beside 3 ms of encoding"
    reads = ("prompt", "embedding")
    needs_embeddings = True

    def __init__(self, C: float = 0.003) -> None:
        super().__init__(C)

    def columns(self, X: Prompts) -> FloatArray:
        return prompt_embeddings(X)


class SurfaceRouter(LogisticRouter):
    """Fit logistic regression on the prompt's surface features.

    Parameters
    ----------
    C : float
        scikit-learn's inverse penalty.
    """

    family = "surface"
    card = "needs the prompt's text; well under a millisecond"

    def columns(self, X: Prompts) -> FloatArray:
        return surface_features(X.texts)
