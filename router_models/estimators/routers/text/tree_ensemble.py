"""Extremely randomised trees: grown by scikit-learn, stored as plain arrays, run by onnxruntime.

What is stored are six arrays that are checked when they are loaded: a pickle could run code, and an .onnx file could
hold any graph. The ONNX graph is made from them, one `TreeEnsemble` operator (ai.onnx.ml, version 5) in float64, so
that a score is the mean that scikit-learn computes. Figures: docs/decisions/0019-libraries-and-our-own.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_models.data.artifacts import State
from router_models.errors import ArtifactError, DataError
from router_models.estimators.routers.base import array_of
from router_models.types import FloatArray, IntArray

ML_OPSET, OPSET, IR_VERSION = 5, 21, 10
"""The versions of ONNX's operators and file format that the graph is written in: onnxruntime 1.21 reads them."""


@dataclass(frozen=True)
class Forest:
    """Trees side by side in flat arrays of N nodes.

    `roots` (T,) are the trees' first nodes. `left` and `right` are a node's children, both the node itself where it is
    a leaf. A row goes left where its `feature` is at most `threshold`. Rows are compared as float32, and so are
    thresholds, rounded down: that decides float32 rows as scikit-learn's float64 thresholds do.
    """

    roots: IntArray
    feature: IntArray
    threshold: NDArray[np.float32]
    left: IntArray
    right: IntArray
    value: NDArray[np.float32]
    width: int

    @classmethod
    def grow(cls, A: FloatArray, y: FloatArray, *, trees: int, leaf: int, share: float, seed: int) -> Self:
        """Grow extra-trees on A (n, width) with ≥ `leaf` rows per leaf, trying `share` of the features a split."""
        from sklearn.ensemble import ExtraTreesRegressor

        grown = ExtraTreesRegressor(
            trees, min_samples_leaf=max(1, min(leaf, len(y) // 4)), max_features=share, random_state=seed, n_jobs=1
        ).fit(A.astype(np.float32), y)
        parts = [tree.tree_ for tree in grown.estimators_]
        sizes = [part.node_count for part in parts]
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        leaves = np.concatenate([part.children_left < 0 for part in parts])
        start, here = np.repeat(offsets, sizes), np.arange(sum(sizes))
        threshold = np.concatenate([part.threshold for part in parts])
        down = threshold.astype(np.float32)
        down = np.where(down > threshold, np.nextafter(down, np.float32(-np.inf)), down)
        return cls(
            roots=offsets,
            feature=np.where(leaves, 0, np.concatenate([part.feature for part in parts])),
            threshold=np.where(leaves, np.float32(np.inf), down),
            left=np.where(leaves, here, np.concatenate([part.children_left for part in parts]) + start),
            right=np.where(leaves, here, np.concatenate([part.children_right for part in parts]) + start),
            value=np.concatenate([part.value[:, 0, 0] for part in parts]).astype(np.float32),
            width=A.shape[1],
        )

    def predict(self, A: FloatArray) -> FloatArray:
        """The trees' mean, (n,); DataError where A is not as wide as what the forest was grown on."""
        if A.shape[1] != self.width:
            raise DataError(f"{A.shape[1]} features per prompt, but this forest was grown on {self.width}")
        rows = A.astype(np.float32).astype(np.float64)
        return np.asarray(self._session.run(None, {"rows": rows})[0][:, 0], dtype=np.float64)

    def to_onnx(self) -> bytes:
        """The forest as an ONNX model: `rows` (n, width) float64 → `mean` (n, 1) float64."""
        from onnx import TensorProto, helper, numpy_helper

        trees = self._with_branches()
        # The operator numbers inner nodes and leaves apart, and says of each child which of the two it is.
        leaf = trees.left == np.arange(len(trees.left))
        inner = np.flatnonzero(~leaf)
        number = np.where(leaf, np.cumsum(leaf), np.cumsum(~leaf)) - 1
        lower, upper = trees.left[inner], trees.right[inner]
        tensors = {
            "nodes_modes": np.zeros(len(inner), dtype=np.uint8),  # 0 = BRANCH_LEQ: at most the threshold goes left
            "nodes_splits": trees.threshold[inner].astype(np.float64),
            "leaf_weights": trees.value[leaf].astype(np.float64),
        }
        node = helper.make_node(
            "TreeEnsemble",
            ["rows"],
            ["mean"],
            domain="ai.onnx.ml",
            n_targets=1,
            aggregate_function=0,  # 0 = AVERAGE
            tree_roots=number[trees.roots].tolist(),
            nodes_featureids=trees.feature[inner].tolist(),
            nodes_truenodeids=number[lower].tolist(),
            nodes_trueleafs=leaf[lower].astype(int).tolist(),
            nodes_falsenodeids=number[upper].tolist(),
            nodes_falseleafs=leaf[upper].astype(int).tolist(),
            leaf_targetids=[0] * int(leaf.sum()),
            **{name: numpy_helper.from_array(array, name) for name, array in tensors.items()},
        )
        rows = helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, self.width])
        mean = helper.make_tensor_value_info("mean", TensorProto.DOUBLE, [None, 1])
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        graph = helper.make_graph([node], "forest", [rows], [mean])
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return bytes(model.SerializeToString())

    def _with_branches(self) -> Forest:
        """The same function with a branch in every tree: one that is a leaf gets two leaves of its value.

        The operator has a form for such trees, too, but onnxruntime 1.21 to 1.23 reads it wrongly beside larger trees.
        """
        alone = self.roots[self.left[self.roots] == self.roots]
        new = len(self.left) + np.arange(2 * len(alone))
        left, right = np.append(self.left, new), np.append(self.right, new)
        left[alone], right[alone] = new[::2], new[1::2]
        return Forest(
            self.roots,
            np.append(self.feature, np.zeros_like(new)),
            np.append(np.where(np.isfinite(self.threshold), self.threshold, np.float32(0)), np.zeros_like(new)),
            left,
            right,
            np.append(self.value, np.repeat(self.value[alone], 2)),
            self.width,
        )

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        return onnxruntime.InferenceSession(self.to_onnx(), options, providers=["CPUExecutionProvider"])

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the session, which belongs to its process and is made again where it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != "_session"}

    def state(self) -> State:
        """The arrays, in the narrow types they are stored in."""
        indices = {"roots": self.roots, "left": self.left, "right": self.right}
        arrays: dict[str, NDArray[Any]] = {name: array.astype(np.int32) for name, array in indices.items()}
        arrays |= {"feature": self.feature.astype(np.int16), "threshold": self.threshold, "value": self.value}
        return State(arrays | {"width": np.array(self.width)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Rebuild; ArtifactError where the arrays cannot be a forest."""
        names = ("roots", "feature", "left", "right", "threshold", "value")
        roots, feature, left, right, threshold, value = (array_of(state, name) for name in names)
        width, size = int(array_of(state, "width")), len(feature)
        sound = size > 0 and {len(a) for a in (threshold, left, right, value)} == {size}
        sound = sound and bool(((feature >= 0) & (feature < width)).all())
        if sound:
            here, children = np.arange(size), np.stack([left, right])
            leaf = (children == here).all(axis=0)
            sound = bool((((children > here) & (children < size)) | leaf).all())
            sound = sound and len(roots) > 0 and bool(((roots >= 0) & (roots < size)).all())
        if not sound:
            raise ArtifactError("the stored forest is not a forest: its arrays disagree")
        reached = np.concatenate([roots, left[~leaf], right[~leaf]])
        if len(np.unique(reached)) < len(reached):
            raise ArtifactError("the stored forest is not a forest: its branches meet")
        roots, feature, left, right = (array.astype(np.int64) for array in (roots, feature, left, right))
        return cls(roots, feature, threshold.astype(np.float32), left, right, value.astype(np.float32), width)
