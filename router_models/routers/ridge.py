"""Ridge regression on sentence embeddings; the penalty is chosen by leave-one-out error in closed form."""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.artifacts import State
from router_models.errors import DataError
from router_models.routers.base import RouterModel, array_of, check_fit_input, embeddings_of, fitted, squash
from router_models.types import FloatArray, Prompts

ALPHAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class RidgeRouter(RouterModel):
    """y ≈ w·e + b over the embedding e. Linear probes of a fixed encoder: hard to beat with a few thousand labels."""

    family = "ridge"
    card = "needs embeddings; one dot product per query"
    needs_embeddings = True

    def __init__(self, alphas: tuple[float, ...] = ALPHAS) -> None:
        self.alphas = alphas
        self.weights_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_fit_input(X, y)
        self.weights_ = fit_ridge(embeddings_of(X), y, self.alphas)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return squash(linear(embeddings_of(X), fitted(self.weights_, self.family)))

    def state(self) -> State:
        return State({"weights": fitted(self.weights_, self.family)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls()
        router.weights_ = array_of(state, "weights").astype(np.float64)
        return router


def fit_ridge(A: FloatArray, y: FloatArray, alphas: tuple[float, ...] = ALPHAS) -> FloatArray:
    """Weights (d+1,), intercept last, of min |A w + b − y|² + α|w|² with α of least leave-one-out error.

    The residual left out is r_i / (1 − h_i), h the leverage of the centred design plus 1/n; one eigendecomposition
    of the smaller Gram matrix serves every α.
    """
    mean, level = A.mean(axis=0), float(y.mean())
    U, s, Vt = np.linalg.svd(A - mean, full_matrices=False)
    b = U.T @ (y - level)
    best: tuple[float, FloatArray] | None = None
    for alpha in alphas:
        shrink = s**2 / (s**2 + alpha)
        residual = (y - level - U @ (shrink * b)) / np.maximum(1 - 1 / len(y) - (U**2) @ shrink, 1e-6)
        error = float(residual @ residual)
        if best is None or error < best[0]:
            best = error, Vt.T @ (s / (s**2 + alpha) * b)
    if best is None:
        raise DataError("no penalty to choose from: alphas is empty")
    return np.append(best[1], level - mean @ best[1])


def linear(A: FloatArray, weights: FloatArray) -> FloatArray:
    """A·w + b; DataError where the width does not fit what was learned."""
    if A.shape[1] != len(weights) - 1:
        raise DataError(f"{A.shape[1]} features per prompt, but this router was fitted on {len(weights) - 1}")
    return np.asarray(A @ weights[:-1] + weights[-1], dtype=np.float64)
