"""Ridge regression on sentence embeddings; the penalty is chosen by leave-one-out error in closed form."""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.routers.base import (
    RouterModel,
    array_of,
    check_prompts_input,
    fitted,
    prompt_embeddings,
    squash,
)
from router_models.types import FloatArray, Prompts

ALPHAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class RidgeRouter(RouterModel):
    """Fit y ≈ w·e + b over the embedding e: a linear probe, hard to beat with a few thousand labels.

    Parameters
    ----------
    alphas : tuple of float
        Candidates for the L2 penalty; the one of least leave-one-out error is used.
    """

    family = "ridge"
    card = "needs embeddings; one dot product per query"
    reads = ("prompt", "embedding")
    needs_embeddings = True

    def __init__(self, alphas: tuple[float, ...] = ALPHAS) -> None:
        self.alphas = alphas
        self.weights_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        self.weights_ = fit_ridge(prompt_embeddings(X), y, self.alphas)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return squash(linear(prompt_embeddings(X), fitted(self.weights_, self.family)))

    def state(self) -> State:
        return State({"weights": fitted(self.weights_, self.family)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls()
        router.weights_ = array_of(state, "weights").astype(np.float64)
        return router


def fit_ridge(A: FloatArray, y: FloatArray, alphas: tuple[float, ...] = ALPHAS) -> FloatArray:
    """Fit ridge regression with the penalty of least leave-one-out error.

    Minimises |A w + b − y|² + α|w|². The left-out residual is r_i / (1 − h_i), h the leverage of the centred design
    plus 1/n; one eigendecomposition of the smaller Gram matrix serves every α.

    Parameters
    ----------
    A : array of float, (n, d)
        Features.
    y : array of float, (n,)
        Targets.
    alphas : tuple of float
        Candidates for α.

    Returns
    -------
    array of float, (d + 1,)
        Weights, the intercept last.
    """
    if not alphas:
        raise DataError("no penalty to choose from: alphas is empty")
    mean, level = A.mean(axis=0), float(y.mean())
    C, r = A - mean, y - level
    if len(A) >= A.shape[1]:
        power, V = np.linalg.eigh(C.T @ C)
        power, P = np.maximum(power, 0.0), C @ V  # P = U·s
    else:
        power, U = np.linalg.eigh(C @ C.T)
        power = np.maximum(power, 0.0)
        P, V = U * np.sqrt(power), C.T @ (U / np.sqrt(np.maximum(power, 1e-9 * power.max() + 1e-300)))
    b = P.T @ r
    shrunk = 1 / (power[:, None] + np.array(alphas))
    left_out = (r[:, None] - P @ (b[:, None] * shrunk)) / np.maximum(1 - 1 / len(y) - P**2 @ shrunk, 1e-6)
    weights = V @ (b * shrunk[:, int(np.argmin((left_out**2).sum(axis=0)))])
    return np.append(weights, level - mean @ weights)


def linear(A: FloatArray, weights: FloatArray) -> FloatArray:
    """Return A·w + b; DataError where the width does not fit the weights."""
    if A.shape[1] != len(weights) - 1:
        raise DataError(f"{A.shape[1]} features per prompt, but this router was fitted on {len(weights) - 1}")
    return np.asarray(A @ weights[:-1] + weights[-1], dtype=np.float64)
