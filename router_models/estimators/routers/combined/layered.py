"""Decide by intent where it is clear, by a classifier near the boundary, and leave the rest to the cascade.

Layers, in order: a known-hard prompt is left to the frontier; an intent whose success rate is clearly above or below
the overall share decides alone; a classifier decides where it is clear; what remains is *uncertain* and scored at the
overall share, so that the cascade's verifier decides.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.estimators.routers.base import RouterModel, check_prompts_input, fitted, meta_of
from router_models.estimators.routers.embedding.ridge import RidgeRouter
from router_models.estimators.routers.embedding.semantic import SemanticRouter
from router_models.types import FloatArray, Prompts

HARD, INTENT, CLASSIFIER, UNCERTAIN = "known-hard", "intent", "classifier", "uncertain"


class LayeredRouter(RouterModel):
    """Score each prompt by the first layer that is confident about it.

    Within a layer the score is that layer's; within *uncertain* it is the overall share plus a tenth of the
    classifier's deviation, which keeps an order without claiming knowledge.

    Parameters
    ----------
    clear : float
        How far an intent's success rate must lie from the overall share to decide, as a probability.
    near : float
        How far the classifier's score must lie from it.
    seed : int
        Seeds the clusters of the intents.
    """

    family = "layered"
    card = "needs embeddings; centroids first, one dot product for the rest"
    reads = ("prompt", "embedding", "metadata")
    needs_embeddings = True

    def __init__(self, clear: float = 0.15, near: float = 0.05, seed: int = 0) -> None:
        self.clear, self.near, self.seed = clear, near, seed
        self.semantic_: SemanticRouter | None = None
        self.classifier_: RidgeRouter | None = None
        self.p_: float | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        self.semantic_ = SemanticRouter(seed=self.seed).fit(X, y)
        self.classifier_ = RidgeRouter().fit(X, y)
        self.p_ = float(y.mean())
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return self._decide(X)[0]

    def layers_of(self, X: Prompts) -> tuple[str, ...]:
        """Return which layer decided for each prompt.

        Parameters
        ----------
        X : Prompts
            n prompts.

        Returns
        -------
        tuple of str
            n of known-hard, intent, classifier and uncertain.
        """
        return self._decide(X)[1]

    def _decide(self, X: Prompts) -> tuple[FloatArray, tuple[str, ...]]:
        semantic, classifier = fitted(self.semantic_, self.family), fitted(self.classifier_, self.family)
        p = fitted(self.p_, self.family)
        intent, learned, hard = semantic.predict(X), classifier.predict(X), semantic.known_hard(X)
        named = np.array([name is not None for name in semantic.intents_of(X)], dtype=np.bool_)
        by_intent = named & (np.abs(intent - p) >= self.clear) & ~hard
        by_classifier = (np.abs(learned - p) >= self.near) & ~hard & ~by_intent
        score = np.select([hard, by_intent, by_classifier], [intent, intent, learned], p + 0.1 * (learned - p))
        names = np.select([hard, by_intent, by_classifier], [HARD, INTENT, CLASSIFIER], UNCERTAIN)
        return np.asarray(score, dtype=np.float64), tuple(map(str, names))

    def distance(self, X: Prompts) -> FloatArray | None:
        """Return the semantic layer's distance: how far below the floor the nearest intent lies."""
        return fitted(self.semantic_, self.family).distance(X)

    def state(self) -> State:
        semantic = fitted(self.semantic_, self.family).state()
        classifier = fitted(self.classifier_, self.family).state()
        arrays = {f"semantic.{n}": a for n, a in semantic.arrays.items()}
        arrays |= {f"classifier.{n}": a for n, a in classifier.arrays.items()}
        meta = {"semantic": dict(semantic.meta), "p": fitted(self.p_, self.family)}
        return State(arrays, meta | {"clear": self.clear, "near": self.near})

    @classmethod
    def from_state(cls, state: State) -> Self:
        router = cls(float(meta_of(state, "clear")), float(meta_of(state, "near")))
        router.p_ = float(meta_of(state, "p"))
        router.semantic_ = SemanticRouter.from_state(part_of(state, "semantic"))
        router.classifier_ = RidgeRouter.from_state(part_of(state, "classifier"))
        return router


def part_of(state: State, name: str) -> State:
    """Return the state of a member stored under `name.`, with its own metadata."""
    prefix = name + "."
    arrays = {n.removeprefix(prefix): a for n, a in state.arrays.items() if n.startswith(prefix)}
    return State(arrays, state.meta.get(name, {}))
