"""Route among models that were unknown at training time: a model is the vector of its error rates per cluster.

UniRoute (Jitkrittum et al., arXiv 2502.08773): cluster prompts once; describe any model, old or new, by its mean
error in each cluster, estimated from a small labelled set; score a prompt by its cluster's entry.
"""

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
    meta_of,
    prompt_embeddings,
)
from router_models.types import FloatArray, IntArray, Prompts


class ClusterErrorRouter(RouterModel):
    """Score prompts by 1 − the model's error in their cluster.

    `fit` learns clusters and the cheap model's vector; `for_model` keeps the clusters and describes another model.

    Parameters
    ----------
    clusters : int
        The number of clusters, at most.
    prior : float
        Pseudo-prompts that shrink a cluster's error to the overall error.
    seed : int
        Seeds the clusters.

    References
    ----------
    Jitkrittum et al., "Universal model routing for efficient LLM inference", arXiv 2502.08773.
    """

    family = "cluster-error"
    card = "needs embeddings; one nearest centroid per query; a new model needs a few hundred grades, no training"
    reads = ("prompt", "embedding")
    needs_embeddings = True

    def __init__(self, clusters: int = 40, prior: float = 10.0, seed: int = 0) -> None:
        self.clusters, self.prior, self.seed = clusters, prior, seed
        self.centroids_: FloatArray | None = None
        self.ok_: FloatArray | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        from sklearn.cluster import KMeans

        y = check_prompts_input(X, y)
        E = prompt_embeddings(X)
        k = max(1, min(self.clusters, len(np.unique(E.round(6), axis=0)), len(X) // 4))
        self.centroids_ = np.asarray(
            KMeans(k, n_init=1, max_iter=50, random_state=self.seed).fit(E).cluster_centers_, dtype=np.float64
        )
        self.ok_ = self._describe(E, y)
        return self

    def for_model(self, X: Prompts, y: FloatArray) -> ClusterErrorRouter:
        """Return a router for another model over the same clusters.

        Parameters
        ----------
        X : Prompts
            n prompts with embeddings.
        y : array of float, (n,)
            The other model's grades in [0, 1].

        Returns
        -------
        ClusterErrorRouter
        """
        y = check_prompts_input(X, y, classes=1)
        other = ClusterErrorRouter(self.clusters, self.prior, self.seed)
        other.centroids_ = fitted(self.centroids_, self.family)
        other.ok_ = other._describe(prompt_embeddings(X), y)
        return other

    def _describe(self, E: FloatArray, y: FloatArray) -> FloatArray:
        labels = self._assign(E)
        k = len(fitted(self.centroids_, self.family))
        good, count = np.bincount(labels, weights=y, minlength=k), np.bincount(labels, minlength=k)
        return np.asarray((good + self.prior * y.mean()) / (count + self.prior), dtype=np.float64)

    def _assign(self, E: FloatArray) -> IntArray:
        centroids = fitted(self.centroids_, self.family)
        if E.shape[1] != centroids.shape[1]:
            raise DataError(f"embeddings of width {E.shape[1]}, but this router was fitted on {centroids.shape[1]}")
        return np.asarray((E @ centroids.T - (centroids**2).sum(axis=1) / 2).argmax(axis=1), dtype=np.int64)

    def predict(self, X: Prompts) -> FloatArray:
        ok = fitted(self.ok_, self.family)
        return np.asarray(ok[self._assign(prompt_embeddings(X))], dtype=np.float64)

    def state(self) -> State:
        arrays = {"centroids": fitted(self.centroids_, self.family), "ok": fitted(self.ok_, self.family)}
        return State(arrays, {"prior": self.prior})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls(prior=float(meta_of(state, "prior")))
        router.centroids_ = array_of(state, "centroids").astype(np.float64)
        router.ok_ = array_of(state, "ok").astype(np.float64)
        return router
