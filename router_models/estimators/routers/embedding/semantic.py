"""Intents as centroids: a prompt near one has that intent's success rate, a prompt near none has no intent (None).

In addition a known-hard set: prompts on which the cheap tier failed. Prompts that closely resemble one of them are
not tried on the cheap tier again.
"""

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
from router_models.estimators.routers.embedding.knn import half_precision, nearest
from router_models.types import FloatArray, Prompts


class SemanticRouter(RouterModel):
    """Score prompts by the share of acceptable answers of the nearest intent, shrunk to the overall share.

    Below the similarity `floor` the intent is None and the score the overall share. Similarity to a known-hard prompt
    divides the score by four.

    Parameters
    ----------
    intents : int
        The number of k-means clusters that serve as intents where `column` is None.
    floor : float
        The cosine to a centroid from which on a prompt has its intent.
    hard_bar : float
        The cosine to a known-hard prompt from which on a prompt counts as hard.
    hard_grade : float
        Prompts with targets up to this are known-hard.
    column : str, optional
        A metadata column whose values are the intents.
    prior : float
        Pseudo-prompts that shrink an intent's share to the overall share.
    seed : int
        Seeds the clusters.
    """

    family = "semantic"
    layer = "semantic"
    card = "needs embeddings; compares with a few dozen centroids and the known-hard set"
    reads = ("prompt", "embedding", "metadata")
    needs_embeddings = True

    def __init__(
        self,
        intents: int = 32,
        floor: float = 0.3,
        hard_bar: float = 0.9,
        hard_grade: float = 0.0,
        column: str | None = None,
        prior: float = 20.0,
        seed: int = 0,
    ) -> None:
        self.intents, self.floor, self.hard_bar, self.hard_grade = intents, floor, hard_bar, hard_grade
        self.column, self.prior, self.seed = column, prior, seed
        self.names_: tuple[str, ...] | None = None
        self.centroids_: FloatArray | None = None
        self.scores_: FloatArray | None = None
        self.hard_: NDArray[np.float32] | None = None
        self.p_: float | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        E = prompt_embeddings(X)
        labels, names = self._label(X, E)
        sums = np.zeros((len(names), E.shape[1]))
        np.add.at(sums, labels, E)
        count = np.bincount(labels, minlength=len(names))
        self.p_ = float(y.mean())
        self.names_ = names
        self.centroids_ = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        good = np.bincount(labels, weights=y, minlength=len(names))
        self.scores_ = (good + self.prior * self.p_) / (count + self.prior)
        self.hard_ = half_precision(E[y <= self.hard_grade])
        return self

    def _label(self, X: Prompts, E: FloatArray) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        if self.column is not None:
            values, labels = np.unique(np.array(X.metadata.get(self.column, ("",) * len(X))), return_inverse=True)
            if len(values) < 2:
                raise DataError(f"the metadata column {self.column!r} names fewer than two intents")
            return labels.astype(np.int64), tuple(map(str, values))
        from sklearn.cluster import KMeans

        k = max(1, min(self.intents, len(np.unique(E.round(6), axis=0)), len(X) // 2))
        labels = KMeans(k, n_init=1, max_iter=50, random_state=self.seed).fit_predict(E)
        return labels.astype(np.int64), tuple(f"intent-{i}" for i in range(k))

    def predict(self, X: Prompts) -> FloatArray:
        p, scores = fitted(self.p_, self.family), fitted(self.scores_, self.family)
        best, cosine = self._nearest_intent(X)
        out = np.where(cosine >= self.floor, scores[best], p)
        return np.asarray(np.where(self.known_hard(X), out / 4, out), dtype=np.float64)

    def intents_of(self, X: Prompts) -> tuple[str | None, ...]:
        """Return the intent of each prompt, None where no centroid reaches the floor."""
        names = fitted(self.names_, self.family)
        best, cosine = self._nearest_intent(X)
        return tuple(names[i] if c >= self.floor else None for i, c in zip(best, cosine, strict=True))

    def known_hard(self, X: Prompts) -> NDArray[np.bool_]:
        """Return which prompts, (n,) bool, resemble a known-hard one with cosine ≥ `hard_bar`."""
        hard = fitted(self.hard_, self.family)
        if len(hard) == 0 or len(X) == 0:
            return np.zeros(len(X), dtype=np.bool_)
        _, cosine = nearest(prompt_embeddings(X).astype(np.float32), hard, 1)
        return np.asarray(cosine[:, 0] >= self.hard_bar)

    def _nearest_intent(self, X: Prompts) -> tuple[NDArray[np.int64], FloatArray]:
        centroids, E = fitted(self.centroids_, self.family), prompt_embeddings(X)
        if E.shape[1] != centroids.shape[1]:
            raise DataError(f"embeddings of width {E.shape[1]}, but this router was fitted on {centroids.shape[1]}")
        similarity = E @ centroids.T
        return similarity.argmax(axis=1), np.asarray(similarity.max(axis=1, initial=-1.0))

    def distance(self, X: Prompts) -> FloatArray | None:
        """Return how far the cosine to the nearest intent lies below the floor; 0 = some intent matches."""
        return np.maximum(0.0, self.floor - self._nearest_intent(X)[1])

    def state(self) -> State:
        arrays: dict[str, NDArray[Any]] = {
            "centroids": fitted(self.centroids_, self.family),
            "scores": fitted(self.scores_, self.family),
            "hard": fitted(self.hard_, self.family).astype(np.float16),
        }
        meta = {
            "names": fitted(self.names_, self.family),
            "p": self.p_,
            "floor": self.floor,
            "hard_bar": self.hard_bar,
        }
        return State(arrays, meta)

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls(floor=float(meta_of(state, "floor")), hard_bar=float(meta_of(state, "hard_bar")))
        router.p_ = float(meta_of(state, "p"))
        router.names_ = tuple(meta_of(state, "names"))
        router.centroids_ = array_of(state, "centroids").astype(np.float64)
        router.scores_ = array_of(state, "scores").astype(np.float64)
        router.hard_ = array_of(state, "hard").astype(np.float32)
        return router
