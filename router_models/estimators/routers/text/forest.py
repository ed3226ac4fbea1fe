"""Extremely randomised trees over surface features and the embedding's main directions, kept as plain arrays.

Grown by scikit-learn, stored and asked without it.

Pickled trees could run code where they are loaded; these are six arrays. Asking for one prompt walks all trees at
once, a level per step.

[measured] RouteLLM's MMLU, 5-fold, APGR: surface alone .65, embedding alone .66, both in one forest .68; averaging
two separate models stays at .655, so it is the interaction (how a question is put, within what it is about) that pays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.data.features import FEATURES_VERSION, surface_features
from router_models.errors import ArtifactError, DataError
from router_models.estimators.routers.base import (
    RouterModel,
    array_of,
    check_features_version,
    check_prompts_input,
    fitted,
    prompt_embeddings,
    squash,
)
from router_models.types import FloatArray, IntArray, Prompts


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees side by side in flat arrays of N nodes, all trees' first level first, then all second levels, and so on.

    `roots` (T,) are first nodes. `child` is the absolute index of a node's lower child, the upper one follows it; a
    row goes up where its `feature` is above `threshold`. A leaf is its own child and its threshold infinite, so that
    all paths can be walked to the deepest one's `depth`. float32 thresholds are rounded down, which decides float32
    rows as scikit-learn's float64 thresholds do. Indices are numpy's own integers: it would copy narrower ones first,
    at every step.
    """

    roots: IntArray
    feature: IntArray
    threshold: NDArray[np.float32]
    child: IntArray
    value: NDArray[np.float32]
    width: int
    depth: int

    @classmethod
    def grow(cls, A: FloatArray, y: FloatArray, *, trees: int, leaf: int, share: float, seed: int) -> Self:
        """Grow extra-trees on A (n, width) with ≥ `leaf` rows per leaf, trying `share` of the features a split."""
        from sklearn.ensemble import ExtraTreesRegressor

        grown = ExtraTreesRegressor(
            trees, min_samples_leaf=max(1, min(leaf, len(y) // 4)), max_features=share, random_state=seed, n_jobs=1
        ).fit(A.astype(np.float32), y)
        parts = [tree.tree_ for tree in grown.estimators_]
        offsets = np.concatenate([[0], np.cumsum([t.node_count for t in parts])[:-1]])
        leaves = np.concatenate([t.children_left < 0 for t in parts])
        start = np.repeat(offsets, [t.node_count for t in parts])
        here = np.arange(len(start))
        return cls._by_level(
            roots=offsets,
            feature=np.where(leaves, 0, np.concatenate([t.feature for t in parts])),
            threshold=np.concatenate([t.threshold for t in parts]),
            left=np.where(leaves, here, np.concatenate([t.children_left for t in parts]) + start),
            right=np.where(leaves, here, np.concatenate([t.children_right for t in parts]) + start),
            value=np.concatenate([t.value[:, 0, 0] for t in parts]),
            width=A.shape[1],
        )

    @classmethod
    def _by_level(
        cls, roots: IntArray, feature: IntArray, threshold: FloatArray, left: IntArray, right: IntArray,
        value: FloatArray, width: int,
    ) -> Self:  # fmt: skip
        """Renumber nodes in any order, leaves their own children; ArtifactError where a node has two parents."""
        levels, level, met = [], roots, 0
        while len(level):
            met += len(level)
            if met > len(feature):
                raise ArtifactError("the stored forest is not a forest: its branches meet")
            levels.append(level)
            inner = level[left[level] != level]
            level = np.stack([left[inner], right[inner]], axis=1).ravel()
        order = np.concatenate(levels)
        place = np.zeros(len(feature), dtype=np.int64)
        place[order] = np.arange(len(order))
        down = threshold.astype(np.float32)
        down = np.where(down > threshold, np.nextafter(down, np.float32(-np.inf)), down)
        return cls(
            roots=place[roots],
            feature=feature[order].astype(np.int64),
            threshold=np.where(left == np.arange(len(left)), np.float32(np.inf), down)[order].astype(np.float32),
            child=place[left[order]],
            value=value[order].astype(np.float32),
            width=width,
            depth=len(levels) - 1,
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
        start = np.arange(len(rows))[:, None] * self.width
        flat = rows.ravel()
        for step in range(self.depth):
            column = self.feature[node]
            if len(rows) > 1:
                column += start
            after = self.child[node] + (flat[column] > self.threshold[node])
            # Most paths are far shorter than the deepest; asking at every step would cost more than it saves.
            if step % 4 == 3 and (after == node).all():
                break
            node = after
        return np.asarray(self.value[node].mean(axis=1, dtype=np.float64))

    def state(self, prefix: str = "") -> State:
        """The arrays, each name after `prefix`, in the narrow types they are stored in."""
        right = np.where(self.child == np.arange(len(self.child)), self.child, self.child + 1)
        indices = {"roots": self.roots, "left": self.child, "right": right}
        arrays: dict[str, NDArray[Any]] = {name: array.astype(np.int32) for name, array in indices.items()}
        arrays |= {"feature": self.feature.astype(np.int16), "threshold": self.threshold, "value": self.value}
        return State({prefix + name: a for name, a in arrays.items()} | {f"{prefix}width": np.array(self.width)})

    @classmethod
    def from_state(cls, state: State, prefix: str = "") -> Self:
        """Rebuild; ArtifactError where the arrays cannot be a forest (so that asking always ends)."""
        names = ("roots", "feature", "threshold", "left", "right", "value")
        roots, feature, threshold, left, right, value = (array_of(state, prefix + name) for name in names)
        width, size = int(array_of(state, prefix + "width")), len(feature)
        sound = size > 0 and {len(a) for a in (threshold, left, right, value)} == {size}
        sound = sound and bool(((feature >= 0) & (feature < width)).all())
        if sound:
            here, children = np.arange(size), np.stack([left, right])
            leaf = (children == here).all(axis=0)
            sound = bool((((children > here) & (children < size)) | leaf).all())
            sound = sound and bool(((roots >= 0) & (roots < size)).all())
        if not sound:
            raise ArtifactError("the stored forest is not a forest: its arrays disagree")
        return cls._by_level(roots, feature, threshold, left, right, value, width)


class ForestRouter(RouterModel):
    """Extra-trees over `features.SURFACE_NAMES` and the first `directions` principal components of the embeddings."""

    family = "forest"
    card = "needs embeddings; a walk through some hundred trees per query (under 1 ms), 2 MB"
    needs_embeddings = True

    def __init__(self, trees: int = 200, leaf: int = 20, directions: int = 40, seed: int = 0) -> None:
        self.trees, self.leaf, self.directions, self.seed = trees, leaf, directions, seed
        self.basis_: FloatArray | None = None
        self.forest_: Forest | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        y = check_prompts_input(X, y)
        E = prompt_embeddings(X)
        centred = E - E.mean(axis=0)
        # The eigenvectors of the scatter matrix, largest last; float32 so that a stored router projects equally.
        vectors = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, : min(self.directions, len(y))]
        self.basis_ = vectors.astype(np.float32).astype(np.float64)
        self.forest_ = Forest.grow(self._features(X), y, trees=self.trees, leaf=self.leaf, share=0.4, seed=self.seed)
        return self

    def predict(self, X: Prompts) -> FloatArray:
        return squash(fitted(self.forest_, self.family).predict(self._features(X)))

    def _features(self, X: Prompts) -> FloatArray:
        basis, E = fitted(self.basis_, self.family), prompt_embeddings(X)
        if E.shape[1] != len(basis):
            raise DataError(f"embeddings of width {E.shape[1]}, but this router was fitted on {len(basis)}")
        return np.concatenate([surface_features(X.texts), E @ basis], axis=1)

    def state(self) -> State:
        arrays = {"basis": fitted(self.basis_, self.family).astype(np.float32)}
        return State(
            arrays | dict(fitted(self.forest_, self.family).state().arrays), {"features_version": FEATURES_VERSION}
        )

    @classmethod
    def from_state(cls, state: State) -> Self:
        check_features_version(state)
        router = cls()
        router.basis_ = array_of(state, "basis").astype(np.float64)
        router.forest_ = Forest.from_state(state)
        return router
