"""The router to use unless you know better: several families, weighted by a prompt's distance from the training data.

Routers that are best on in-domain questions are the worst on unfamiliar subjects (embeddings remember topics), where
surface features still help. So the members are weighted twice: once on prompts held out at random (in domain), once on
prompts whose whole *domain* was held out (out of domain). A prompt's distance from the training data says which
weights apply, and is reported with the decision.

Out of domain the score is partly prompt length's, which is not trained: all of it where the members ordered prompts of
held-out domains no better than length did, little where they ordered them clearly better (`length_share`; sooner on
many named domains: docs/decisions/patterns/0101). Length counts from just beyond the median training prompt on, the
other weights only beyond held-out domains (`RAMPS`).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.text_cache import each_text_once
from router_models.estimators.routers.base import RouterModel, array_of, check_prompts_input, fitted, prompt_embeddings
from router_models.estimators.routers.baselines.length import LengthRouter
from router_models.estimators.routers.combined.stacked import (
    Maker,
    folds_by_text,
    out_of_fold,
    pack,
    stack_weights,
    unpack,
)
from router_models.estimators.routers.embedding.knn import KnnRouter, half_precision, nearest
from router_models.estimators.routers.embedding.ridge import RidgeRouter
from router_models.estimators.routers.length_share import (
    estimate_by_length,
    length_line,
    log_lengths,
    log_odds,
    order_gain,
    share_of_base,
)
from router_models.estimators.routers.text.forest import ForestRouter
from router_models.estimators.routers.text.linear import SurfaceRouter
from router_models.estimators.routers.text.surface_forest import SurfaceForestRouter
from router_models.estimators.routers.text.tfidf import TfidfRouter
from router_models.types import FloatArray, IntArray, Prompts

DOMAIN_COLUMNS = ("domain", "category", "family", "task", "qset")
MANY_DOMAINS = 10
"""Named domains from which on a gain on held-out ones is believed sooner (`length_share.share_of_base`)."""
NEIGHBOURS = 10
# Surface forest, TF-IDF, ridge, kNN, forest, surface line. The forest sees what the others see, so it counts double;
# words alone transfer badly and count half; a straight line through the surface transfers better than trees.
# [measured] with these weights fixed, 11 ways of training on one set, pair or domain and testing on another: mean APGR
# .545 without line and length, .557 with; in domain .619 and .620. Learned without a prior they overfit: a few
# held-out domains are few examples (MMLU, domains held out: .583 to .610 free, .613 fixed), so the weights stay near
# the prior.
PRIOR = np.array([1.0, 0.5, 1.0, 1.0, 2.0, 0.5]) / 6.0
# Length is not trained, so its weight among the members is not learned: none in domain, this much out of domain.
LENGTH_OUT_OF_DOMAIN = 0.06
# In domain the weights stay nearer the prior: of a few hundred prompts what is learned beyond it is chance.
STRENGTH_IN_DOMAIN, STRENGTH = 50.0, 2.0
RAMPS = (1.0, 2.0, 0.1, 1.0)
"""Distances between which the out-of-domain weights take over, then those between which length's share grows."""
EARLIER_RAMPS = (0.0, 1.0, 0.0, 1.0)
"""The same for routers of earlier releases, whose states hold none."""


class DefaultRouter(RouterModel):
    """Combine surface forest and line, TF-IDF, ridge, kNN, forest and length, weighted by the prompt's distance.

    Domains are the first of `DOMAIN_COLUMNS` that has at least three values, else clusters of the embeddings.
    `distance` is 0 where the similarity to the ten nearest training prompts is that of the median training prompt, and
    1 where held-out domains lie on average.

    Parameters
    ----------
    folds : int
        Folds of both cross-validations.
    trees : int
        Trees of each forest.
    seed : int
        Seeds folds, forests and clusters.

    Attributes
    ----------
    length_ : array of float, (3,), or None
        Level and slope of length's estimates, and their share out of domain; None for routers of earlier releases.
    ramps_ : array of float, (4,)
        `RAMPS`, as they were when the router was fitted.
    """

    family = "default"
    card = "needs embeddings; every member's cost (about 1 ms per query); notices unfamiliar prompts"
    reads = ("prompt", "embedding", "metadata")
    needs_embeddings = True

    def __init__(self, folds: int = 3, trees: int = 100, seed: int = 0) -> None:
        self.folds, self.trees, self.seed = folds, trees, seed
        self.members_: tuple[RouterModel, ...] | None = None
        self.in_domain_weights_: FloatArray | None = None
        self.out_of_domain_weights_: FloatArray | None = None
        self.similarity_: FloatArray | None = None
        self.length_: FloatArray | None = None
        self.ramps_: FloatArray = np.array(RAMPS)

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        with each_text_once():
            return self._fit(X, y)

    def _fit(self, X: Prompts, y: FloatArray) -> Self:
        light, full = self._makers(max(20, self.trees // 2)), self._makers(self.trees)
        random_folds = folds_by_text(X.texts, self.folds, self.seed)
        domains, named = self._domains(X)
        domain_folds = balanced_folds(domains, self.folds)
        trained = light[: len(PRIOR)]
        near, far = (out_of_fold(trained, X, y, folds) for folds in (random_folds, domain_folds))
        in_domain = stack_weights(near, y, PRIOR, STRENGTH_IN_DOMAIN)
        out_of_domain = stack_weights(far, y, PRIOR, STRENGTH)
        self.in_domain_weights_ = np.append(in_domain, 0.0)
        self.out_of_domain_weights_ = np.append((1 - LENGTH_OUT_OF_DOMAIN) * out_of_domain, LENGTH_OUT_OF_DOMAIN)
        length, by_length = log_lengths(X.texts), LengthRouter().predict(X)
        away = np.column_stack([far, by_length]) @ self.out_of_domain_weights_
        many = named and len(np.unique(domains)) >= MANY_DOMAINS
        share = share_of_base(*order_gain(away, by_length, y, domain_folds), many_domains=many)
        self.length_ = np.array([*length_line(log_odds(near @ in_domain), length), share])
        self.similarity_ = self._similarities(X, domain_folds)
        self.members_ = tuple(make().fit(X, y) for make in full)
        return self

    def _makers(self, trees: int) -> list[Maker]:
        """Return constructors of the members in PRIOR's order, then of length."""
        return [
            partial(SurfaceForestRouter, trees=trees, seed=self.seed),
            TfidfRouter,
            RidgeRouter,
            partial(KnnRouter, ks=(40, 160)),
            partial(ForestRouter, trees=trees, seed=self.seed),
            SurfaceRouter,
            LengthRouter,
        ]

    def _domains(self, X: Prompts) -> tuple[IntArray, bool]:
        """Return the domain of each prompt, (n,), and whether it is named; else it is a cluster of embeddings."""
        for name in DOMAIN_COLUMNS:
            if len(set(X.metadata.get(name, ()))) >= 3:
                labels = np.unique(np.array(X.metadata[name]), return_inverse=True)[1]
                return labels.astype(np.int64), True
        from sklearn.cluster import KMeans

        E = prompt_embeddings(X)
        clusters = min(4 * self.folds, len(np.unique(E.round(6), axis=0)))
        labels = KMeans(clusters, n_init=1, max_iter=30, random_state=self.seed).fit_predict(E)
        return labels.astype(np.int64), False

    def _similarities(self, X: Prompts, domain_folds: IntArray) -> FloatArray:
        """Return the median similarity in domain, and the drop from it to the median of held-out domains."""
        memory = half_precision(prompt_embeddings(X))
        k = min(NEIGHBOURS, len(memory) - 1)
        in_domain = float(np.median(nearest(memory, memory, k, leave_out_self=True)[1].mean(axis=1)))
        out_of_domain = []
        for f in np.unique(domain_folds):
            rest = memory[domain_folds != f]
            if len(rest):
                out_of_domain.append(nearest(memory[domain_folds == f], rest, min(k, len(rest)))[1].mean(axis=1))
        drop = in_domain - float(np.median(np.concatenate(out_of_domain))) if out_of_domain else 0.0
        return np.array([in_domain, max(drop, 0.05)])

    def predict(self, X: Prompts) -> FloatArray:
        with each_text_once():
            return self._predict(X)

    def _predict(self, X: Prompts) -> FloatArray:
        members, columns, distance = fitted(self.members_, self.family), [], np.zeros(len(X))
        for member in members:
            if isinstance(member, KnnRouter):
                score, cosines = member.vote(X)
                distance = self._distance(cosines)
                columns.append(score)
            else:
                columns.append(member.predict(X))
        scores = np.stack(columns, axis=1)
        inner, outer = fitted(self.in_domain_weights_, self.family), fitted(self.out_of_domain_weights_, self.family)
        out_of_domain, far = _risen(distance, *self.ramps_[:2]), _risen(distance, *self.ramps_[2:])
        learned = (1 - out_of_domain) * (scores @ inner) + out_of_domain * (scores @ outer)
        if self.length_ is not None:
            level, slope, share = self.length_
            by_length = estimate_by_length(level, slope, log_lengths(X.texts))
            learned += share * far * (by_length - learned)
        return np.clip(learned, 0.0, 1.0)

    def distance(self, X: Prompts) -> FloatArray:
        knn = next(m for m in fitted(self.members_, self.family) if isinstance(m, KnnRouter))
        return self._distance(knn.vote(X)[1])

    def _distance(self, cosines: FloatArray) -> FloatArray:
        in_domain, drop = fitted(self.similarity_, self.family)
        nearest_cosines = cosines[:, : min(NEIGHBOURS, cosines.shape[1])]
        return np.asarray(np.maximum(0.0, (in_domain - nearest_cosines.mean(axis=1)) / drop), dtype=np.float64)

    def state(self) -> State:
        arrays: dict[str, NDArray[Any]] = {
            "near": fitted(self.in_domain_weights_, self.family),
            "far": fitted(self.out_of_domain_weights_, self.family),
            "home": fitted(self.similarity_, self.family),
            "ramps": self.ramps_,
        }
        if self.length_ is not None:
            arrays["length"] = self.length_
        return pack(fitted(self.members_, self.family), arrays, {})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls()
        router.members_ = unpack(state)
        router.in_domain_weights_ = array_of(state, "near").astype(np.float64)
        router.out_of_domain_weights_ = array_of(state, "far").astype(np.float64)
        router.similarity_ = array_of(state, "home").astype(np.float64)
        if "length" in state.arrays:  # earlier releases measured no share
            router.length_ = array_of(state, "length").astype(np.float64)
        earlier = "ramps" not in state.arrays
        router.ramps_ = np.array(EARLIER_RAMPS) if earlier else array_of(state, "ramps").astype(np.float64)
        return router


def balanced_folds(labels: IntArray, folds: int) -> IntArray:
    """Put whole labels into folds of about equal size, the largest label first: (n,) fold numbers."""
    counts = np.bincount(labels)
    place, size = np.zeros(len(counts), dtype=np.int64), np.zeros(folds)
    for label in np.argsort(-counts, kind="stable"):
        place[label] = size.argmin()
        size[place[label]] += counts[label]
    return np.asarray(place[labels], dtype=np.int64)


def _risen(distance: FloatArray, start: float, end: float) -> FloatArray:
    """Return how far the way from start to end is covered at each distance: 0 to 1, (n,)."""
    return np.asarray(np.clip((distance - start) / (end - start), 0.0, 1.0), dtype=np.float64)
