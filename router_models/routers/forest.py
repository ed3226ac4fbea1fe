"""A forest of extremely randomised trees as plain arrays: grown by scikit-learn, stored and asked without it.

Pickled trees could run code where they are loaded; these are six arrays. Asking for one prompt walks all trees at
once, a level per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts import State
from router_models.errors import ArtifactError, DataError
from router_models.routers.base import array_of
from router_models.types import FloatArray

LEAF = -1


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees side by side in flat arrays of N nodes; `roots` (T,) are the first nodes, children are absolute indices."""

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: FloatArray
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]
    width: int

    @classmethod
    def grow(cls, A: FloatArray, y: FloatArray, *, trees: int, leaf: int, share: float, seed: int) -> Self:
        """Grow `trees` extra-trees on A (n, width) with ≥ `leaf` rows per leaf, trying `share` of the features a split."""
        from sklearn.ensemble import ExtraTreesRegressor

        grown = ExtraTreesRegressor(
            trees, min_samples_leaf=max(1, min(leaf, len(y) // 4)), max_features=share, random_state=seed, n_jobs=1
        ).fit(A.astype(np.float32), y)
        parts = [tree.tree_ for tree in grown.estimators_]
        offsets = np.concatenate([[0], np.cumsum([t.node_count for t in parts])[:-1]]).astype(np.int32)
        leaves = np.concatenate([t.children_left < 0 for t in parts])
        start = np.repeat(offsets, [t.node_count for t in parts])
        return cls(
            roots=offsets,
            feature=np.where(leaves, LEAF, np.concatenate([t.feature for t in parts])).astype(np.int16),
            threshold=np.concatenate([t.threshold for t in parts]),
            left=(np.concatenate([t.children_left for t in parts]) + start).astype(np.int32),
            right=(np.concatenate([t.children_right for t in parts]) + start).astype(np.int32),
            value=np.concatenate([t.value[:, 0, 0] for t in parts]).astype(np.float32),
            width=A.shape[1],
        )

    def predict(self, A: FloatArray) -> FloatArray:
        """The trees' mean, (n,); DataError where A is not as wide as what the forest was grown on."""
        if A.shape[1] != self.width:
            raise DataError(f"{A.shape[1]} features per prompt, but this forest was grown on {self.width}")
        rows = A.astype(np.float32)
        chunks = [self._walk(rows[i : i + 256]) for i in range(0, len(rows), 256)]
        return np.concatenate(chunks) if chunks else np.empty(0)

    def _walk(self, rows: NDArray[np.float32]) -> FloatArray:
        node = np.repeat(self.roots[None, :], len(rows), axis=0)
        line = np.arange(len(rows))[:, None]
        while True:
            feature = self.feature[node]
            inner = feature >= 0
            if not inner.any():
                return np.asarray(self.value[node].mean(axis=1, dtype=np.float64))
            below = rows[line, np.maximum(feature, 0)] <= self.threshold[node]
            node = np.where(inner, np.where(below, self.left[node], self.right[node]), node)

    def state(self, prefix: str = "") -> State:
        """The arrays, each name after `prefix`."""
        names = ("roots", "feature", "threshold", "left", "right", "value")
        return State({prefix + n: getattr(self, n) for n in names} | {f"{prefix}width": np.array(self.width)})

    @classmethod
    def from_state(cls, state: State, prefix: str = "") -> Self:
        """Rebuild; ArtifactError where the arrays cannot be a forest (so that asking always ends)."""
        forest = cls(
            roots=array_of(state, prefix + "roots").astype(np.int32),
            feature=array_of(state, prefix + "feature").astype(np.int16),
            threshold=array_of(state, prefix + "threshold").astype(np.float64),
            left=array_of(state, prefix + "left").astype(np.int32),
            right=array_of(state, prefix + "right").astype(np.int32),
            value=array_of(state, prefix + "value").astype(np.float32),
            width=int(array_of(state, prefix + "width")),
        )
        size, here = len(forest.feature), np.arange(len(forest.feature))
        inner = forest.feature >= 0
        lengths = {len(a) for a in (forest.threshold, forest.left, forest.right, forest.value)}
        children = np.stack([forest.left, forest.right])[:, inner] if lengths == {size} else np.empty((2, 0))
        sound = lengths == {size} and bool((forest.feature < forest.width).all())
        if not sound or not ((children > here[inner]).all() and (children < size).all()):
            raise ArtifactError("the stored forest is not a forest: its arrays disagree")
        return forest
