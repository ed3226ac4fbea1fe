"""What is visible without any model: lengths, digits, punctuation, code, choices; a forest over them."""

from __future__ import annotations

from typing import Self

from router_models.data.artifacts import State
from router_models.data.features import FEATURES_VERSION, surface_features
from router_models.estimators.routers.base import (
    RouterModel,
    check_features_version,
    check_prompts_input,
    fitted,
    squash,
)
from router_models.estimators.routers.text.tree_ensemble import Forest
from router_models.types import FloatArray, Prompts


class SurfaceForestRouter(RouterModel):
    """Extra-trees over `features.SURFACE_NAMES`. Surface signals travel better to new subjects than embeddings do."""

    family = "surface-forest"
    card = "needs the text; under 1 ms per query, no encoder"

    def __init__(self, trees: int = 200, leaf: int = 20, seed: int = 0) -> None:
        self.trees, self.leaf, self.seed = trees, leaf, seed
        self.forest_: Forest | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        A = surface_features(X.texts)
        self.forest_ = Forest.grow(A, y, trees=self.trees, leaf=self.leaf, share=0.5, seed=self.seed)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return squash(fitted(self.forest_, self.family).predict(surface_features(X.texts)))

    def state(self) -> State:
        return State(fitted(self.forest_, self.family).state().arrays, {"features_version": FEATURES_VERSION})

    @classmethod
    def from_state(cls, state: State) -> Self:
        check_features_version(state)
        router = cls()
        router.forest_ = Forest.from_state(state)
        return router
