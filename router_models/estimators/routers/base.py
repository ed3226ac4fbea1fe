"""The seam of every router, and the manners of those that learn.

A `Router` answers one question, before generation: how likely is the cheap tier's answer acceptable? An estimator
(`RouterModel`) learns it from prompts and grades, scikit-learn style: `__init__` stores, `fit` returns self, learned
attributes end in `_`. Scores are raw; calibration to probabilities is `calibration.scores`' work, so a score only
has to *rank*, within [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.features import FEATURES_VERSION
from router_models.errors import ArtifactError, DataError, NotFittedError
from router_models.types import FloatArray, Prompts, Query

T = TypeVar("T")


class Router(Protocol):
    """The online seam: P(the cheap answer to this query is acceptable), in [0, 1]. Pure and synchronous."""

    def score(self, query: Query) -> float: ...


class RouterModel(ABC):
    """A family of routers that can be fitted, asked in batches, and stored as data.

    `family` is the name in the registry; `card` one line: what it needs, what it costs per query. `apart` says why
    a comparison of all families on recorded outcomes leaves this one out unless it is named ('' = it does not);
    `needs_reader`: it needs what a language model makes of the prompt before it is answered (`evaluation.reading`).
    """

    family: ClassVar[str]
    card: ClassVar[str]
    apart: ClassVar[str] = ""
    needs_embeddings: ClassVar[bool] = False
    needs_metadata: ClassVar[tuple[str, ...]] = ()
    needs_reader: ClassVar[bool] = False

    @abstractmethod
    def fit(self, X: Prompts, y: FloatArray) -> Self:
        """Learn from n prompts and their targets y (n,) in [0, 1]: 1 = the cheap answer was acceptable."""

    @abstractmethod
    def predict(self, X: Prompts) -> FloatArray:
        """Scores (n,) in [0, 1]; higher = the cheap tier is more likely good enough."""

    def distance(self, X: Prompts) -> FloatArray | None:
        """How far each prompt lies from the training data: (n,) ≥ 0, 0 = typical; None where a family cannot tell."""
        return None

    @abstractmethod
    def state(self) -> State:
        """The learned state, as data. `from_state(state())` scores equally."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild from `state()`; raises ArtifactError where it does not fit this class."""


def check_prompts_input(X: Prompts, y: FloatArray, *, classes: int = 2) -> FloatArray:
    """Validate a training set, the same way for every family; returns y as float64.

    Raises DataError for no rows, unequal lengths, NaN or infinite targets, targets outside [0, 1], or fewer than
    `classes` distinct values.
    """
    y = np.asarray(y, dtype=np.float64)
    if len(X) == 0:
        raise DataError("no prompts to learn from")
    if y.shape != (len(X),):
        raise DataError(f"{len(X)} prompts but targets of shape {y.shape}")
    if not np.isfinite(y).all():
        raise DataError(f"{int((~np.isfinite(y)).sum())} targets are NaN or infinite")
    if y.min() < 0 or y.max() > 1:
        raise DataError(f"targets must lie in [0, 1], found {y.min():g} to {y.max():g}")
    if len(np.unique(y)) < classes:
        raise DataError(f"every target is {y[0]:g}: nothing to tell apart; more varied prompts are needed")
    return y


def fitted(value: T | None, family: str) -> T:
    """Return a learned attribute; NotFittedError where `fit` has not been called."""
    if value is None:
        raise NotFittedError(f"the {family} router has not been fitted: call fit(X, y), or load a stored one")
    return value


def squash(p: FloatArray) -> FloatArray:
    """Map a regression's estimate of a probability into (0, 1), strictly increasing, about the identity near 1/2."""
    return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (np.clip(p, -4.0, 5.0) - 0.5))), dtype=np.float64)


def array_of(state: State, name: str) -> NDArray[Any]:
    """One array of a stored state; ArtifactError names it where it is missing."""
    if name not in state.arrays:
        raise ArtifactError(f"the stored router has no array {name!r}; it was made by another family or version")
    return np.asarray(state.arrays[name])


def meta_of(state: State, name: str) -> Any:
    """One entry of a stored state's metadata; ArtifactError names it where it is missing."""
    if name not in state.meta:
        raise ArtifactError(f"the stored router has no entry {name!r}; it was made by another family or version")
    return state.meta[name]


def check_features_version(state: State) -> None:
    """Refuse weights that were learned on other surface features than today's."""
    found = meta_of(state, "features_version")
    if found != FEATURES_VERSION:
        raise ArtifactError(f"fitted on surface features version {found}, this is version {FEATURES_VERSION}: retrain")


def metadata_of(X: Prompts, name: str) -> tuple[str, ...]:
    """A metadata column; DataError says which router input is missing."""
    if name not in X.metadata:
        raise DataError(f"this router needs the metadata column {name!r}; present: {', '.join(X.metadata) or 'none'}")
    return X.metadata[name]


def prompt_embeddings(X: Prompts) -> FloatArray:
    """The batch's embeddings as float64; DataError where they were not computed."""
    if X.embeddings is None:
        raise DataError("this router needs embeddings: pass Prompts with `embeddings` (features.Encoder makes them)")
    if X.embeddings.shape[0] != len(X):
        raise DataError(f"{len(X)} prompts but {X.embeddings.shape[0]} embeddings")
    if not np.isfinite(X.embeddings).all():
        raise DataError("embeddings contain NaN or infinite values")
    return X.embeddings.astype(np.float64)
