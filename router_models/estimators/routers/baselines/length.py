"""Prompt length alone: the baseline that every report shows (APGR .58 on MMLU, untrained; see docs)."""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.estimators.routers.base import RouterModel, check_prompts_input
from router_models.types import FloatArray, Prompts


class LengthRouter(RouterModel):
    """Score prompts by length alone: 1 / (1 + characters / 200), whatever the targets are.

    Untrained on purpose: `fit` only checks its input.
    """

    family = "length"
    card = "needs the prompt's length; costs nothing; the baseline to beat"

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        check_prompts_input(X, y, classes=1)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return np.array([1.0 / (1.0 + len(text) / 200.0) for text in X.texts], dtype=np.float64)

    def state(self) -> State:
        return State()

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls()
