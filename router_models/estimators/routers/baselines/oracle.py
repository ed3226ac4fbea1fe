"""The grade itself as the score: the upper bound in reports, never a router to serve."""

from __future__ import annotations

from typing import Self

import numpy as np

from router_models.data.artifacts import State
from router_models.errors import DataError
from router_models.estimators.routers.base import RouterModel, check_prompts_input, meta_of, metadata_of
from router_models.types import FloatArray, Prompts


class OracleRouter(RouterModel):
    """Score prompts with the target that a metadata column holds as text ('1', '0.5').

    `predict` raises DataError where the column is missing, or an entry is no number in [0, 1].

    Parameters
    ----------
    column : str
        The metadata column.
    """

    family = "oracle"
    card = "needs the answer's grade beforehand; for reports only"
    reads = ("grade",)
    needs_metadata = ("oracle",)
    needs_grades = True

    def __init__(self, column: str = "oracle") -> None:
        self.column = column

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        check_prompts_input(X, y, classes=1)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        column = metadata_of(X, self.column)
        try:
            scores = np.array([float(value) for value in column], dtype=np.float64)
        except ValueError as error:
            raise DataError(f"column {self.column!r} must hold grades as numbers ({error})") from error
        if not ((scores >= 0) & (scores <= 1)).all():
            raise DataError(f"column {self.column!r} must hold grades in [0, 1]")
        return scores

    def state(self) -> State:
        return State(meta={"column": self.column})

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(str(meta_of(state, "column")))
