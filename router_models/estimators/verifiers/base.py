"""The interface of every verifier, and the checks that the learned ones share.

A `Verifier` estimates, after generation, how likely a completion is acceptable. The conventions are those of
`routers.base`, over (prompt, completion) pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.training_set import check_targets
from router_models.types import Answers, Completion, FloatArray, Query


class Verifier(Protocol):
    """Score one completion: P(it is acceptable), in [0, 1]. Pure and synchronous."""

    def score(self, query: Query, completion: Completion) -> float: ...


class VerifierModel(ABC):
    """Base class of verifier families, which are fitted, evaluated in batches and stored as data.

    Attributes
    ----------
    family : str
        The name in the registry `VERIFIERS`.
    card : str
        One line: what the family needs, and what it costs per answer.
    needs_embeddings : bool
        Whether the family can read `Prompts.embeddings`.
    needs_signals : tuple of str
        The entries of `Answers.signals` without which `fit` and `predict` raise DataError.
    takes_weights : bool
        Whether `fit` counts rows by the prompts' column `sample_weight`.
    """

    family: ClassVar[str]
    card: ClassVar[str]
    needs_embeddings: ClassVar[bool] = False
    needs_signals: ClassVar[tuple[str, ...]] = ()
    takes_weights: ClassVar[bool] = False

    @abstractmethod
    def fit(self, X: Answers, y: FloatArray) -> Self:
        """Learn from graded completions.

        Parameters
        ----------
        X : Answers
            n completions.
        y : array of float, (n,)
            Grades in [0, 1].

        Returns
        -------
        VerifierModel
            The verifier itself.

        Raises
        ------
        DataError
            For grades that cannot be learned from, or signals that the family needs and the batch lacks.
        """

    @abstractmethod
    def predict(self, X: Answers) -> FloatArray:
        """Score completions.

        Parameters
        ----------
        X : Answers
            n completions.

        Returns
        -------
        array of float, (n,)
            In [0, 1]; higher = more likely acceptable.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            For signals that the family needs and the batch lacks.
        """

    @abstractmethod
    def state(self) -> State:
        """Return the learned state.

        Returns
        -------
        State
            Arrays and JSON-able data, of which `from_state` rebuilds a verifier that scores equally.
        """

    @classmethod
    @abstractmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild a verifier from `state()`.

        Parameters
        ----------
        state : State
            What `state` returned.

        Returns
        -------
        VerifierModel

        Raises
        ------
        ArtifactError
            Where the state does not fit this class.
        """

    @property
    def wants_embeddings(self) -> bool:
        """Return whether `predict` of this object reads `Prompts.embeddings`; otherwise a server skips the encoder."""
        return self.needs_embeddings

    @property
    def wants_signals(self) -> tuple[str, ...]:
        """Return the signals that `predict` of this object reads from `Answers.signals`."""
        return self.needs_signals


def check_answers_input(X: Answers, y: FloatArray, *, classes: int = 2) -> FloatArray:
    """Validate a training set, in the same way for every family.

    Parameters
    ----------
    X : Answers
        n completions.
    y : array of float, (n,)
        Grades.
    classes : int
        The number of distinct grades that are needed.

    Returns
    -------
    array of float64, (n,)
        The grades.

    Raises
    ------
    DataError
        For no rows, unequal lengths, grades that are NaN, infinite or outside [0, 1], or too few distinct ones.
    """
    return check_targets(
        y,
        len(X),
        classes=classes,
        row_name="answers",
        target_name="grade",
        if_missing="; drop the ungraded answers",
    )


def signals_of(X: Answers, names: tuple[str, ...]) -> FloatArray:
    """Stack named signals to (n, len(names)); DataError names one that is missing from the batch."""
    if not names:
        return np.empty((len(X), 0), dtype=np.float64)
    missing = [name for name in names if name not in X.signals]
    if missing:
        raise DataError(f"this verifier needs the signal(s) {', '.join(missing)}; present: {', '.join(X.signals)}")
    columns = [np.asarray(X.signals[name], dtype=np.float64)[:, None] for name in names]
    return np.concatenate(columns, axis=1)
