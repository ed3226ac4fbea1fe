"""The simplest router: every prompt has the same score. Always-cheap and always-frontier are its two thresholds."""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.estimators.routers.base import RouterModel, check_prompts_input
from router_models.types import FloatArray, Prompts


class ConstantRouter(RouterModel):
    """Score every prompt with the training share of acceptable cheap answers (`p_`).

    Parameters
    ----------
    p : float
        The score before `fit`, in [0, 1].
    """

    family = "constant"
    card = "needs nothing; costs nothing; baseline: no routing at all"

    def __init__(self, p: float = 0.5) -> None:
        self.p_ = p

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        self.p_ = float(check_prompts_input(X, y, classes=1).mean())
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return np.full(len(X), self.p_)

    def state(self) -> State:
        return State(meta={"p": self.p_})

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(float(state.meta["p"]))
