"""The interface of every router, and the checks that the learned ones share.

A `Router` estimates, before generation, how likely the cheap tier's answer is acceptable. A `RouterModel` learns it
from prompts and grades, scikit-learn style: `__init__` stores, `fit` returns self, learned attributes end in `_`.
Scores are raw; `calibrators` turn them into probabilities, so that a score only has to rank, within [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.features import FEATURES_VERSION
from router_models.errors import ArtifactError, DataError, NotFittedError
from router_models.estimators.training_set import check_targets
from router_models.types import FloatArray, Prompts, Query

T = TypeVar("T")


class Router(Protocol):
    """Score one query: P(the cheap answer is acceptable), in [0, 1]. Pure and synchronous."""

    def score(self, query: Query) -> float: ...


class RouterModel(ABC):
    """Base class of router families, which are fitted, evaluated in batches and stored as data.

    Attributes
    ----------
    family : str
        The name in the registry `ROUTERS`.
    card : str
        One line: what the family needs, and what it costs per query.
    apart : str
        Why `evaluate --router all` leaves the family out unless it is named; empty = it does not.
    layer : str
        What decision records say decided, where the family's estimate did.
    reads : tuple of str
        What its fitting and scoring read, by the names in `estimators.signals`.
    needs_embeddings : bool
        Whether `predict` reads `Prompts.embeddings`.
    needs_metadata : tuple of str
        Metadata columns that `fit` and `predict` read.
    needs_signals : tuple of str
        Signals of the prompt (`Prompts.signals`), one of which must be measured.
    needs_reader : bool
        Whether it needs what a language model computes from the prompt (`evaluation.benchmarks.prompt_readers`).
    needs_grades : bool
        Whether it reads the answer's grade, which no request brings.
    needs_votes : bool
        Whether it is there to learn from votes (`train --votes`).
    takes_weights : bool
        Whether `fit` counts rows by the batch's column `sample_weight`.
    """

    family: ClassVar[str]
    card: ClassVar[str]
    apart: ClassVar[str] = ""
    layer: ClassVar[str] = "router"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    needs_embeddings: ClassVar[bool] = False
    needs_metadata: ClassVar[tuple[str, ...]] = ()
    needs_signals: ClassVar[tuple[str, ...]] = ()
    needs_reader: ClassVar[bool] = False
    needs_grades: ClassVar[bool] = False
    needs_votes: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = False

    @property
    def wants_signals(self) -> tuple[str, ...]:
        """Return what `predict` of this object reads of `Prompts.signals`: the cheapest tier is asked for it first."""
        return ()

    @abstractmethod
    def fit(self, X: Prompts, y: FloatArray) -> Self:
        """Learn from graded prompts.

        Parameters
        ----------
        X : Prompts
            n prompts.
        y : array of float, (n,)
            Targets in [0, 1]: 1 = the cheap answer was acceptable.

        Returns
        -------
        RouterModel
            The router itself.

        Raises
        ------
        DataError
            For targets that cannot be learned from, or inputs that the family needs and the batch lacks.
        """

    @abstractmethod
    def predict(self, X: Prompts) -> FloatArray:
        """Score prompts.

        Parameters
        ----------
        X : Prompts
            n prompts.

        Returns
        -------
        array of float, (n,)
            In [0, 1]; higher = the cheap tier is more likely good enough.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            For inputs that the family needs and the batch lacks.
        """

    def layers_of(self, X: Prompts) -> tuple[str, ...]:
        """Return what of the family speaks about each of n prompts; `router` where it has no layers of its own."""
        return (self.layer,) * len(X)

    @property
    def labels_read(self) -> tuple[str, ...]:
        """Return the metadata columns that a fitted router scores by."""
        return self.needs_metadata

    @property
    def learned_from(self) -> Mapping[str, int]:
        """Return how many votes, and grades beside them, a router learned from; empty: from grades alone."""
        return {}

    def distance(self, X: Prompts) -> FloatArray | None:
        """Return the distance of each prompt from the training data.

        Parameters
        ----------
        X : Prompts
            n prompts.

        Returns
        -------
        array of float, (n,), or None
            At least 0, 0 = typical; None where a family does not measure it.
        """
        return None

    @abstractmethod
    def state(self) -> State:
        """Return the learned state.

        Returns
        -------
        State
            Arrays and JSON-able data, of which `from_state` rebuilds a router that scores equally.
        """

    @classmethod
    @abstractmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild a router from `state()`.

        Parameters
        ----------
        state : State
            What `state` returned.

        Returns
        -------
        RouterModel

        Raises
        ------
        ArtifactError
            Where the state does not fit this class.
        """


def check_prompts_input(X: Prompts, y: FloatArray, *, classes: int = 2) -> FloatArray:
    """Validate a training set, in the same way for every family.

    Parameters
    ----------
    X : Prompts
        n prompts.
    y : array of float, (n,)
        Targets.
    classes : int
        The number of distinct targets that are needed.

    Returns
    -------
    array of float64, (n,)
        The targets.

    Raises
    ------
    DataError
        For no rows, unequal lengths, targets that are NaN, infinite or outside [0, 1], or too few distinct ones.
    """
    return check_targets(y, len(X), classes=classes, row_name="prompts", target_name="target")


def fitted(value: T | None, family: str) -> T:
    """Return a learned attribute; NotFittedError where it is None because `fit` has not been called."""
    if value is None:
        raise NotFittedError(f"the {family} router has not been fitted: call fit(X, y), or load a stored one")
    return value


def squash(p: FloatArray) -> FloatArray:
    """Map a regression's estimate of a probability into (0, 1), strictly increasing, almost unchanged near 1/2."""
    return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (np.clip(p, -4.0, 5.0) - 0.5))), dtype=np.float64)


def array_of(state: State, name: str) -> NDArray[Any]:
    """Return one array of a stored state; ArtifactError names it where it is missing."""
    if name not in state.arrays:
        raise ArtifactError(f"the stored router has no array {name!r}; it was made by another family or version")
    return np.asarray(state.arrays[name])


def meta_of(state: State, name: str) -> Any:
    """Return one entry of a stored state's metadata; ArtifactError names it where it is missing."""
    if name not in state.meta:
        raise ArtifactError(f"the stored router has no entry {name!r}; it was made by another family or version")
    return state.meta[name]


def check_features_version(state: State) -> None:
    """Raise ArtifactError for weights that were learned on another version of the surface features."""
    found = meta_of(state, "features_version")
    if found != FEATURES_VERSION:
        raise ArtifactError(f"fitted on surface features version {found}, this is version {FEATURES_VERSION}: retrain")


def metadata_of(X: Prompts, name: str) -> tuple[str, ...]:
    """Return a metadata column; DataError names the router input that is missing."""
    if name not in X.metadata:
        raise DataError(f"this router needs the metadata column {name!r}; present: {', '.join(X.metadata) or 'none'}")
    return X.metadata[name]


def prompt_embeddings(X: Prompts) -> FloatArray:
    """Return the embeddings as float64 (n, d); DataError where they are missing, misshapen or not finite."""
    if X.embeddings is None:
        raise DataError("embeddings are needed: pass Prompts with `embeddings` (features.Encoder makes them)")
    if X.embeddings.shape[0] != len(X):
        raise DataError(f"{len(X)} prompts but {X.embeddings.shape[0]} embeddings")
    if not np.isfinite(X.embeddings).all():
        raise DataError("embeddings contain NaN or infinite values")
    return X.embeddings.astype(np.float64)
