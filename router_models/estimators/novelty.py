"""Measure the distance of a prompt from a version's training data: for its score, its decision, its record and drift.

A learned router is worth less far from its training data: there its score falls back to prompt length
(`estimators.routers.fallback`), and a rising share of distant prompts says that the traffic has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.features import surface_features
from router_models.errors import ArtifactError, DataError
from router_models.types import FloatArray, Prompts

MEMORY = 2000
ALONE_UP_TO = 16
"""Prompts up to which each has the distance that it has alone, to the last bit: near a copy of a training prompt it is
the root of a difference of equal numbers, and rounding shows.
"""
NOVELTY_NEIGHBOURS = 10
LEAST = 20
EDGE = 0.95
SURFACE, EMBEDDING = "surface", "embedding"
LEAST_SPREAD = 0.05
"""The least spread of a surface feature: what no training prompt has stands out, but not a million times."""
LEAST_SCALE = {SURFACE: 0.25, EMBEDDING: 0.05}
"""The least difference of distances that counts as 1: training prompts may all be equally far from each other."""


@dataclass(frozen=True, slots=True)
class _Space:
    """Hold training prompts (m, d) in one space, standardised, and their own distances' median and 95th percentile."""

    memory: NDArray[np.float32]
    centre: FloatArray
    spread: FloatArray
    median: float
    edge: float
    squares: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "squares", (self.memory**2).sum(axis=1))

    @classmethod
    def of(cls, columns: FloatArray, name: str) -> _Space:
        width = columns.shape[1]
        centre = columns.mean(axis=0) if name == SURFACE else np.zeros(width)
        spread = np.maximum(columns.std(axis=0), LEAST_SPREAD) if name == SURFACE else np.ones(width)
        memory = ((columns - centre) / spread).astype(np.float16).astype(np.float32)
        own = _to_nearest(memory, memory, (memory**2).sum(axis=1), leave_out_self=True)
        median = float(np.median(own))
        return cls(memory, centre, spread, median, max(float(np.quantile(own, EDGE)), median + LEAST_SCALE[name]))

    def distance(self, columns: FloatArray) -> FloatArray:
        rows = ((columns - self.centre) / self.spread).astype(np.float32)
        return self._relative(_to_nearest(rows, self.memory, self.squares))

    def own_distance(self) -> FloatArray:
        return self._relative(_to_nearest(self.memory, self.memory, self.squares, leave_out_self=True))

    def _relative(self, apart: FloatArray) -> FloatArray:
        return np.asarray(np.maximum(0.0, (apart - self.median) / max(self.edge - self.median, 1e-6)))


class NoveltyDetector:
    """Measure the mean distance to the ten nearest training prompts, scaled by the training prompts' own distances.

    0 = as near as the median training prompt is to the others, 1 = as far as the 95th percentile. Distances are taken
    on the standardised surface features, which tell prompts of another form, and in embedding space where the version
    embeds its prompts anyway (0.2 ms), which tells other topics: the larger of the two counts. At most `MEMORY`
    training prompts are kept, evenly spaced over their order.
    """

    def __init__(self) -> None:
        self.spaces_: dict[str, _Space] = {}
        self.edge_ = 1.0

    def fit(self, X: Prompts, *, embedded: bool) -> Self:
        """Store the training prompts.

        Parameters
        ----------
        X : Prompts
            At least `LEAST` prompts.
        embedded : bool
            Use the prompts' embeddings beside their surface features.

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
        kept = X.take(evenly_spaced(len(X), MEMORY))
        names = (SURFACE, EMBEDDING) if embedded else (SURFACE,)
        self.spaces_ = {name: _Space.of(_columns(kept, name), name) for name in names}
        own = np.max([space.own_distance() for space in self.spaces_.values()], axis=0)
        self.edge_ = max(1.0, float(np.quantile(own, EDGE)))
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
        parts = [space.distance(_columns(X, name)) for name, space in self.spaces_.items()]
        return np.asarray(np.max(parts, axis=0) / self.edge_, dtype=np.float64)

    def state(self) -> State:
        """Return the learned state; `from_state` rebuilds a detector that measures equally."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, space in self.spaces_.items():
            arrays[f"{name}.memory"] = space.memory.astype(np.float16)
            arrays[f"{name}.centre"], arrays[f"{name}.spread"] = space.centre, space.spread
            arrays[f"{name}.scale"] = np.array([space.median, space.edge])
        return State(arrays, {"spaces": list(self.spaces_), "edge": self.edge_})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild a detector from `state()`, or from a release's that measured in one space; else ArtifactError."""
        novelty = cls()
        try:
            if "spaces" not in state.meta:
                novelty.spaces_ = {EMBEDDING if state.meta["embedded"] else SURFACE: _space_of_one(state)}
                return novelty
            for name in state.meta["spaces"]:
                memory = state.arrays[f"{name}.memory"].astype(np.float32)
                centre, spread = state.arrays[f"{name}.centre"], state.arrays[f"{name}.spread"]
                median, edge = (float(x) for x in state.arrays[f"{name}.scale"])
                novelty.spaces_[name] = _Space(memory, centre, spread, median, edge)
            novelty.edge_ = float(state.meta["edge"])
        except KeyError as error:
            raise ArtifactError(f"the stored training prompts lack {error}") from error
        return novelty


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """Return at most so many of n row numbers, evenly spaced, first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).round().astype(np.int64))


def _space_of_one(state: State) -> _Space:
    memory = state.arrays["memory"].astype(np.float32)
    scale = float(state.meta["median"]), float(state.meta["edge"])
    return _Space(memory, state.arrays["centre"], state.arrays["spread"], *scale)


def _columns(X: Prompts, name: str) -> FloatArray:
    if name == SURFACE:
        return surface_features(X.texts)
    if X.embeddings is None:
        raise DataError("the distance to the training data needs prompt embeddings")
    return X.embeddings.astype(np.float64)


def _to_nearest(
    rows: NDArray[np.float32],
    memory: NDArray[np.float32],
    squares: NDArray[np.float32],
    *,
    leave_out_self: bool = False,
) -> FloatArray:
    k = min(NOVELTY_NEIGHBOURS, len(memory) - 1)
    out = np.empty(len(rows))
    for start in range(0, len(rows), 512):
        part = rows[start : start + 512]
        products = (
            part @ memory.T
            if len(rows) > ALONE_UP_TO
            else np.concatenate([part[i : i + 1] @ memory.T for i in range(len(part))])
        )
        apart = squares[None, :] - 2 * products + (part**2).sum(axis=1)[:, None]
        if leave_out_self:
            own = np.arange(len(part))
            apart[own, start + own] = np.inf
        nearest = np.partition(apart, k - 1, axis=1)[:, :k]
        out[start : start + 512] = np.sqrt(np.maximum(nearest, 0.0)).mean(axis=1)
    return out
