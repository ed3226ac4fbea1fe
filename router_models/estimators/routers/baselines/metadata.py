"""A router on request metadata and history: task label, language, user tier, turns of the conversation."""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.routers.base import RouterModel, array_of, check_prompts_input, fitted, meta_of, squash
from router_models.estimators.routers.embedding.ridge import fit_ridge
from router_models.types import FloatArray, Prompts

COLUMNS = ("domain", "category", "family", "task", "language", "user_tier", "history_length", "turns")
TURNS = "turns"
"""The column of how many turns of the user a conversation has: counted on each request, and nobody's label."""


class MetadataRouter(RouterModel):
    """Fit ridge regression on one-hot metadata; columns of numbers enter as log(1 + value).

    It uses those columns that the training set has and that vary (DataError where none does). A value that training
    did not hold, or a column that is missing in a request, adds nothing: the score falls back to the overall share.

    Parameters
    ----------
    columns : tuple of str
        The metadata columns to look for.
    """

    family = "metadata"
    layer = "metadata"
    card = "needs metadata columns with the request; costs nothing"
    reads = ("metadata",)

    def __init__(self, columns: tuple[str, ...] = COLUMNS) -> None:
        self.columns = columns
        self.values_: dict[str, list[str] | None] | None = None
        self.weights_: FloatArray | None = None

    @property
    def labels_read(self) -> tuple[str, ...]:
        return tuple(name for name in self.values_ or () if name != TURNS)

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        present = {c: _cells(X, c) for c in self.columns if c in X.metadata and len(set(_cells(X, c))) > 1}
        if not present:
            raise DataError(f"no metadata column that varies; looked for: {', '.join(self.columns)}")
        self.values_ = {c: None if _numeric(v) else sorted(set(v) - {""}) for c, v in present.items()}
        self.weights_ = fit_ridge(self._encode(X), y, (1.0, 3.0, 10.0, 30.0))
        return self

    def predict(self, X: Prompts) -> FloatArray:
        weights = fitted(self.weights_, self.family)
        return squash(self._encode(X) @ weights[:-1] + weights[-1])

    def _encode(self, X: Prompts) -> FloatArray:
        blocks = []
        for name, values in fitted(self.values_, self.family).items():
            column = _cells(X, name)
            if values is None:
                blocks.append(np.array([[_log(value)] for value in column]).reshape(len(X), 1))
                continue
            known = {value: i for i, value in enumerate(values)}
            block = np.zeros((len(X), len(values)))
            for row, value in enumerate(column):
                if value in known:
                    block[row, known[value]] = 1.0
            blocks.append(block)
        return np.concatenate(blocks, axis=1)

    def state(self) -> State:
        values = fitted(self.values_, self.family)
        return State({"weights": fitted(self.weights_, self.family)}, {"columns": list(values.items())})

    @classmethod
    def from_state(cls, state: State) -> Self:
        columns = meta_of(state, "columns")
        router = cls(tuple(name for name, _ in columns))
        router.values_ = {str(name): values for name, values in columns}
        router.weights_ = array_of(state, "weights").astype(np.float64)
        return router


def _cells(X: Prompts, name: str) -> tuple[str, ...]:
    """Return a column, empty where it is not there; of turns one where a row does not say."""
    column = X.metadata.get(name, ("",) * len(X))
    return tuple(cell or "1" for cell in column) if name == TURNS else column


def _numeric(values: tuple[str, ...]) -> bool:
    try:
        return all(np.isfinite(float(value)) for value in values)
    except ValueError:
        return False


def _log(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return float(np.sign(number) * np.log1p(abs(number))) if np.isfinite(number) else 0.0
