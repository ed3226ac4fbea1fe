"""A random score per prompt: every deferral curve is compared with it (APGR .5 in expectation)."""

from __future__ import annotations

import hashlib
from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.estimators.routers.base import RouterModel, check_prompts_input, meta_of
from router_models.types import FloatArray, Prompts


class RandomRouter(RouterModel):
    """Score prompts by a hash of seed and text, uniform in [0, 1): the same prompt always has the same score.

    Parameters
    ----------
    seed : int
        Another seed draws other scores.
    """

    family = "random"
    card = "needs nothing; costs nothing; baseline: a given share at random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        check_prompts_input(X, y, classes=1)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return np.array([self._coin(text) for text in X.texts], dtype=np.float64)

    def _coin(self, text: str) -> float:
        digest = hashlib.sha256(f"{self.seed}:{text}".encode("utf-8", "surrogatepass")).digest()
        return float(int.from_bytes(digest[:6], "big") / 2.0**48)

    def state(self) -> State:
        return State(meta={"seed": self.seed})

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(int(meta_of(state, "seed")))
