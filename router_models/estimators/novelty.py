"""Measure the distance of a prompt from a version's training data: for its decision, its record and drift signals.

It changes no decision. A learned router is worth less far from its training data, and a rising share of distant
prompts says that the traffic has changed.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.features import surface_features
from router_models.errors import ArtifactError, DataError
from router_models.types import FloatArray, Prompts

MEMORY = 2000
NOVELTY_NEIGHBOURS = 10
LEAST = 20
EDGE = 0.95


class NoveltyDetector:
    """Measure the mean distance to the ten nearest training prompts, scaled by the training prompts' own distances.

    0 = as near as the median training prompt is to the others, 1 = as far as the 95th percentile. Distances are taken
    in embedding space where the version embeds its prompts anyway (0.2 ms), else on the standardised surface features.
    At most `MEMORY` training prompts are kept, evenly spaced over their order.
    """

    def __init__(self) -> None:
        self.embedded_ = False
        self.memory_: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self.centre_: FloatArray = np.empty(0)
        self.spread_: FloatArray = np.empty(0)
        self.median_ = 0.0
        self.edge_ = 1.0

    def fit(self, X: Prompts, *, embedded: bool) -> Self:
        """Store the training prompts.

        Parameters
        ----------
        X : Prompts
            At least `LEAST` prompts.
        embedded : bool
            Use the prompts' embeddings instead of their surface features.

        Returns
        -------
        NoveltyDetector
            The detector itself.

        Raises
        ------
        DataError
            For too few prompts, or missing embeddings.
        """
        if len(X) < LEAST:
            raise DataError(f"{len(X)} prompts do not show how far apart prompts lie; at least {LEAST} are needed")
        self.embedded_ = embedded
        rows = np.unique(np.linspace(0, len(X) - 1, min(MEMORY, len(X))).round().astype(int))
        columns = self._columns(X.take(rows))
        self.centre_ = np.zeros(columns.shape[1]) if embedded else columns.mean(axis=0)
        self.spread_ = np.ones(columns.shape[1]) if embedded else np.maximum(columns.std(axis=0), 1e-6)
        self.memory_ = self._scaled(columns).astype(np.float16).astype(np.float32)
        own = self._to_nearest(self.memory_, leave_out_self=True)
        self.median_, self.edge_ = float(np.median(own)), float(np.quantile(own, EDGE))
        return self

    def distance(self, X: Prompts) -> FloatArray:
        """Return the distance of each prompt from the training data.

        Parameters
        ----------
        X : Prompts
            n prompts.

        Returns
        -------
        array of float, (n,)
            At least 0; above 1 = farther than 95 of 100 training prompts are from each other.
        """
        apart = self._to_nearest(self._scaled(self._columns(X)))
        return np.asarray(np.maximum(0.0, (apart - self.median_) / max(self.edge_ - self.median_, 1e-6)))

    def state(self) -> State:
        """Return the learned state; `from_state` rebuilds a detector that measures equally."""
        arrays: dict[str, NDArray[Any]] = {
            "memory": self.memory_.astype(np.float16),
            "centre": self.centre_,
            "spread": self.spread_,
        }
        return State(arrays, {"embedded": self.embedded_, "median": self.median_, "edge": self.edge_})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild a detector from `state()`; ArtifactError where something is missing."""
        novelty = cls()
        try:
            novelty.memory_ = state.arrays["memory"].astype(np.float32)
            novelty.centre_, novelty.spread_ = state.arrays["centre"], state.arrays["spread"]
            novelty.embedded_ = bool(state.meta["embedded"])
            novelty.median_, novelty.edge_ = float(state.meta["median"]), float(state.meta["edge"])
        except KeyError as error:
            raise ArtifactError(f"the stored training prompts lack {error}") from error
        return novelty

    def _columns(self, X: Prompts) -> FloatArray:
        if not self.embedded_:
            return surface_features(X.texts)
        if X.embeddings is None:
            raise DataError("the distance to the training data needs prompt embeddings")
        return X.embeddings.astype(np.float64)

    def _scaled(self, columns: FloatArray) -> NDArray[np.float32]:
        return ((columns - self.centre_) / self.spread_).astype(np.float32)

    def _to_nearest(self, rows: NDArray[np.float32], *, leave_out_self: bool = False) -> FloatArray:
        memory = self.memory_
        k = min(NOVELTY_NEIGHBOURS, len(memory) - 1)
        squares = (memory**2).sum(axis=1)
        out = np.empty(len(rows))
        for start in range(0, len(rows), 512):
            part = rows[start : start + 512]
            apart = squares[None, :] - 2 * part @ memory.T + (part**2).sum(axis=1)[:, None]
            if leave_out_self:
                own = np.arange(len(part))
                apart[own, start + own] = np.inf
            nearest = np.partition(apart, k - 1, axis=1)[:, :k]
            out[start : start + 512] = np.sqrt(np.maximum(nearest, 0.0)).mean(axis=1)
        return out
