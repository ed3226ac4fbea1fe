"""The seam of every verifier, and the manners of those that learn.

A `Verifier` answers one question, after generation: how likely is this completion acceptable? The same manners as
`routers.base`, over (prompt, completion) pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, Self

import numpy as np

from router_models.artifacts import State
from router_models.errors import DataError
from router_models.types import Answers, Completion, FloatArray, Query


class Verifier(Protocol):
    """The online seam: P(this completion is acceptable), in [0, 1]. Pure and synchronous."""

    def score(self, query: Query, completion: Completion) -> float: ...


class VerifierModel(ABC):
    """A family of verifiers that can be fitted, asked in batches, and stored as data."""

    family: ClassVar[str]
    card: ClassVar[str]
    needs_embeddings: ClassVar[bool] = False
    needs_signals: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit(self, X: Answers, y: FloatArray) -> Self:
        """Learn from n completions and their grades y (n,) in [0, 1]."""

    @abstractmethod
    def predict(self, X: Answers) -> FloatArray:
        """Scores (n,) in [0, 1]; higher = more likely acceptable."""

    @abstractmethod
    def state(self) -> State:
        """The learned state, as data. `from_state(state())` scores equally."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild from `state()`; raises ArtifactError where it does not fit this class."""


def signals_of(X: Answers, names: tuple[str, ...]) -> FloatArray:
    """Stack named signals to (n, len(names)); DataError names one that is missing from the batch."""
    missing = [name for name in names if name not in X.signals]
    if missing:
        raise DataError(f"this verifier needs the signal(s) {', '.join(missing)}; present: {', '.join(X.signals)}")
    return np.column_stack([X.signals[name] for name in names]).astype(np.float64)
