"""The seam of every verifier, and the manners of those that learn.

A `Verifier` answers one question, after generation: how likely is this completion acceptable? The same manners as
`routers.base`, over (prompt, completion) pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, Self

import numpy as np

from router_models.data.artifacts import State
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

    @property
    def wants_embeddings(self) -> bool:
        """Whether `predict` of this object reads `Prompts.embeddings`; where not, a server can skip the encoder."""
        return self.needs_embeddings

    @property
    def wants_signals(self) -> tuple[str, ...]:
        """The signals `predict` of this object reads from `Answers.signals`."""
        return self.needs_signals


def check_answers_input(X: Answers, y: FloatArray, *, classes: int = 2) -> FloatArray:
    """Validate a training set, the same way for every family; returns y as float64.

    Raises DataError for no rows, unequal lengths, NaN or infinite grades, grades outside [0, 1], or fewer than
    `classes` distinct values.
    """
    y = np.asarray(y, dtype=np.float64)
    if len(X) == 0:
        raise DataError("no answers to learn from")
    if y.shape != (len(X),):
        raise DataError(f"{len(X)} answers but grades of shape {y.shape}")
    if not np.isfinite(y).all():
        raise DataError(f"{int((~np.isfinite(y)).sum())} grades are NaN or infinite; drop the ungraded answers")
    if y.min() < 0 or y.max() > 1:
        raise DataError(f"grades must lie in [0, 1], found {y.min():g} to {y.max():g}")
    if len(np.unique(y)) < classes:
        raise DataError(f"every grade is {y[0]:g}: nothing to tell apart; more varied answers are needed")
    return y


def signals_of(X: Answers, names: tuple[str, ...]) -> FloatArray:
    """Stack named signals to (n, len(names)); DataError names one that is missing from the batch."""
    if not names:
        return np.empty((len(X), 0), dtype=np.float64)
    missing = [name for name in names if name not in X.signals]
    if missing:
        raise DataError(f"this verifier needs the signal(s) {', '.join(missing)}; present: {', '.join(X.signals)}")
    return np.column_stack([X.signals[name] for name in names]).astype(np.float64)


def answer_embeddings(X: Answers) -> FloatArray:
    """The prompts' embeddings as float64 (n, d); DataError where they are missing, misshapen or not finite."""
    if X.prompts.embeddings is None:
        raise DataError("this verifier needs prompt embeddings: pass Prompts with `embeddings` (features.Encoder)")
    if X.prompts.embeddings.shape[0] != len(X):
        raise DataError(f"{len(X)} answers but {X.prompts.embeddings.shape[0]} prompt embeddings")
    if not np.isfinite(X.prompts.embeddings).all():
        raise DataError("prompt embeddings contain NaN or infinite values")
    return X.prompts.embeddings.astype(np.float64)
