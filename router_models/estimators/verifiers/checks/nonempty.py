"""The simplest verifier: an answer that has text and was not cut off is acceptable."""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.estimators.verifiers.base import VerifierModel
from router_models.types import Answers, FloatArray


class NonEmptyVerifier(VerifierModel):
    """Score 1 for a non-blank answer that was not cut off, 0 otherwise. Learns nothing."""

    family = "non-empty"
    card = "needs the answer's text; costs nothing; baseline: no verification at all"

    def fit(self, X: Answers, y: FloatArray) -> Self:
        return self

    def predict(self, X: Answers) -> FloatArray:
        ok = [bool(text.strip()) and why != "length" for text, why in zip(X.texts, X.finish_reasons, strict=True)]
        return np.array(ok, dtype=np.float64)

    def state(self) -> State:
        return State()

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls()
