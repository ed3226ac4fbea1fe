"""A vote of the k most similar training prompts, weighted by cosine."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.routers.base import (
    RouterModel,
    array_of,
    check_prompts_input,
    fitted,
    meta_of,
    prompt_embeddings,
)
from router_models.types import FloatArray, IntArray, Prompts

SHARPNESS = 8.0  # weight of a neighbour = exp(8 · cosine): half the weight at .09 less similarity


class KnnRouter(RouterModel):
    """Average the targets of the k nearest training prompts, weighted by similarity.

    Parameters
    ----------
    ks : tuple of int
        Candidates for k; the one of least leave-one-out error is used.
    """

    family = "knn"
    card = "needs embeddings; compares with every training prompt (8,000: 1 ms, 6 MB)"
    reads = ("prompt", "embedding")
    needs_embeddings = True

    def __init__(self, ks: tuple[int, ...] = (20, 40, 80, 160)) -> None:
        self.ks = ks
        self.k_: int | None = None
        self.memory_: NDArray[np.float32] | None = None
        self.targets_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        memory = half_precision(prompt_embeddings(X))
        most = min(max(self.ks), len(y) - 1)
        index, similarity = nearest(memory, memory, most, leave_out_self=True)
        errors = {k: float(((_vote(index[:, :k], similarity[:, :k], y) - y) ** 2).mean()) for k in self.ks}
        self.k_ = min(errors, key=lambda k: errors[k])
        self.memory_, self.targets_ = memory, y
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return self.vote(X)[0]

    def vote(self, X: Prompts) -> tuple[FloatArray, FloatArray]:
        """Return the scores and the similarities of the neighbours behind them.

        Parameters
        ----------
        X : Prompts
            n prompts with embeddings.

        Returns
        -------
        tuple of arrays of float, (n,) and (n, k)
            Scores, and the neighbours' cosines, most similar first.
        """
        memory, y = fitted(self.memory_, self.family), fitted(self.targets_, self.family)
        k = min(fitted(self.k_, self.family), len(y))
        index, similarity = nearest(prompt_embeddings(X).astype(np.float32), memory, k)
        return np.clip(_vote(index, similarity, y), 0.0, 1.0), similarity

    def state(self) -> State:
        arrays: dict[str, NDArray[Any]] = {
            "memory": fitted(self.memory_, self.family).astype(np.float16),
            "targets": fitted(self.targets_, self.family),
        }
        return State(arrays, {"k": fitted(self.k_, self.family)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls()
        router.k_ = int(meta_of(state, "k"))
        router.memory_ = array_of(state, "memory").astype(np.float32)
        router.targets_ = array_of(state, "targets").astype(np.float64)
        return router


def half_precision(E: FloatArray) -> NDArray[np.float32]:
    """Round embeddings to the half precision they are stored in, so that a loaded router gives equal scores."""
    return E.astype(np.float16).astype(np.float32)


def nearest(
    queries: NDArray[np.float32], memory: NDArray[np.float32], k: int, *, leave_out_self: bool = False
) -> tuple[IntArray, FloatArray]:
    """Return indices and cosines, (n, k) each, of the k most similar rows of `memory`, most similar first.

    `leave_out_self` skips row i of the memory for query i (for leave-one-out estimates). DataError where the
    widths differ.
    """
    if queries.shape[1] != memory.shape[1]:
        raise DataError(f"embeddings of width {queries.shape[1]}, but this router was fitted on {memory.shape[1]}")
    index = np.empty((len(queries), k), dtype=np.int64)
    cosine = np.empty((len(queries), k), dtype=np.float64)
    for start in range(0, len(queries), 512):
        similarity = queries[start : start + 512] @ memory.T
        if leave_out_self:
            rows = np.arange(len(similarity))
            similarity[rows, start + rows] = -np.inf
        top = np.argpartition(similarity, len(memory) - k, axis=1)[:, len(memory) - k :]
        found = np.take_along_axis(similarity, top, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        index[start : start + 512] = np.take_along_axis(top, order, axis=1)
        cosine[start : start + 512] = np.take_along_axis(found, order, axis=1)
    return index, cosine


def _vote(index: IntArray, similarity: FloatArray, y: FloatArray) -> FloatArray:
    weights = np.exp(SHARPNESS * (similarity - similarity[:, :1]))
    return np.asarray((weights * y[index]).sum(axis=1) / weights.sum(axis=1), dtype=np.float64)
