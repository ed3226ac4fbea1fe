"""Ridge and forests: scikit-learn's arithmetic, by numpy and onnxruntime."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.data.artifacts import State, load_state
from router_models.errors import ArtifactError
from router_models.estimators.routers import (
    ForestRouter,
    RidgeRouter,
    SurfaceForestRouter,
)
from router_models.estimators.routers.embedding.ridge import fit_ridge
from router_models.estimators.routers.text.tree_ensemble import Forest
from router_models.types import FloatArray, Prompts

GOLDEN = Path(__file__).parent / "golden"


def grown(seed: int = 0, trees: int = 15) -> tuple[Forest, FloatArray]:
    """A forest and the rows it was grown on."""
    A = np.random.default_rng(seed).normal(size=(400, 6))
    return Forest.grow(A, np.sin(3 * A[:, 0]) + A[:, 1], trees=trees, leaf=5, share=0.5, seed=3), A


def test_ridge_weights_equal_scikit_learns_and_the_penalty_is_the_leave_one_out_choice() -> None:
    from sklearn.linear_model import Ridge, RidgeCV

    rng = np.random.default_rng(0)
    for n, d in ((120, 30), (20, 30)):
        A = rng.normal(size=(n, d))
        y = A[:, 0] + rng.normal(size=n)
        ours, theirs = fit_ridge(A, y, (7.0,)), Ridge(7.0).fit(A, y)
        np.testing.assert_allclose(ours[:-1], theirs.coef_, atol=1e-9)
        assert abs(ours[-1] - theirs.intercept_) < 1e-9
    A = rng.normal(size=(200, 40))
    y = A[:, 0] + 2 * rng.normal(size=200)
    alphas = (1.0, 30.0, 1000.0)
    chosen = RidgeCV(alphas).fit(A, y)
    np.testing.assert_allclose(fit_ridge(A, y, alphas)[:-1], chosen.coef_, atol=1e-8)


def test_a_forest_of_arrays_predicts_what_scikit_learns_forest_predicts() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    A = rng.normal(size=(400, 6))
    y = np.sin(3 * A[:, 0]) + A[:, 1]
    ours = Forest.grow(A, y, trees=15, leaf=5, share=0.5, seed=3).predict(A)
    theirs = ExtraTreesRegressor(15, min_samples_leaf=5, max_features=0.5, random_state=3, n_jobs=1).fit(
        A.astype(np.float32), y
    )
    np.testing.assert_allclose(ours, theirs.predict(A), atol=1e-6)


def test_a_forest_stored_by_the_release_before_scores_as_it_did_and_keeps_its_digest() -> None:
    stored = load_state(GOLDEN, "forest_0_1")
    with np.load(GOLDEN / "forest_0_1_asked.npz") as asked:
        X, scores = Prompts(tuple(asked["texts"].tolist()), asked["embeddings"]), asked["scores"]
    router = ForestRouter.from_state(stored)
    np.testing.assert_allclose(router.predict(X), scores, rtol=0, atol=1e-12)
    again = router.state()
    assert again.meta == stored.meta
    assert again.arrays.keys() == stored.arrays.keys()
    for name, array in stored.arrays.items():  # a certificate binds the digest of these very bytes
        assert again.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays[name], array)


def test_the_graph_is_one_operator_that_the_onnx_checker_accepts() -> None:
    import onnx

    model = onnx.load_from_string(grown()[0].to_onnx())
    onnx.checker.check_model(model, full_check=True)
    assert [(node.domain, node.op_type) for node in model.graph.node] == [("ai.onnx.ml", "TreeEnsemble")]


def test_trees_without_a_branch_predict_their_only_value() -> None:
    A = np.ones((40, 2))
    y = np.arange(40) % 4 / 3
    stumps = Forest.grow(A, y, trees=3, leaf=5, share=1.0, seed=0)
    np.testing.assert_allclose(stumps.predict(A[:2]), y.mean(), atol=1e-7)
    two_leaves = {"left": [1, 1, 2, 3], "right": [2, 1, 2, 3], "threshold": [0.5, np.inf, np.inf, np.inf]}
    nodes = {"roots": [0, 3], "feature": [1, 0, 0, 0], "value": [0.0, 0.25, 0.5, 1.0], "width": 2}
    mixed = Forest.from_state(State({name: np.array(values) for name, values in (two_leaves | nodes).items()}))
    np.testing.assert_allclose(mixed.predict(np.array([[9.0, 0.5], [-9.0, 0.6]])), [0.625, 0.75])


def test_a_forest_that_was_asked_can_be_sent_to_another_process() -> None:
    forest, A = grown()
    before = forest.predict(A)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(forest)).predict(A), before)


def test_a_row_on_a_threshold_goes_where_scikit_learn_sends_it() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    A = rng.integers(0, 4, size=(300, 3)).astype(float)
    y = A[:, 0] + A[:, 1] * A[:, 2]
    theirs = ExtraTreesRegressor(9, min_samples_leaf=2, max_features=0.7, random_state=1).fit(A.astype(np.float32), y)
    asked = np.array([[np.float32(t)] * 3 for tree in theirs.estimators_ for t in tree.tree_.threshold], dtype=float)
    forest = Forest.grow(A, y, trees=9, leaf=2, share=0.7, seed=1)
    np.testing.assert_allclose(forest.predict(asked), theirs.predict(asked), atol=1e-6)
    alone = np.concatenate([forest.predict(row[None]) for row in asked[:50]])
    np.testing.assert_array_equal(alone, forest.predict(asked[:50]))


def test_branches_that_meet_are_no_forest() -> None:
    diamond = {"roots": [0], "feature": [0] * 8, "threshold": [0.0] * 8, "value": [0.0] * 8, "width": 1}
    children = {"left": [1, 3, 3, 5, 5, 7, 7, 7], "right": [2, 4, 4, 6, 6, 7, 7, 7]}
    arrays = {name: np.array(values) for name, values in (diamond | children).items()}
    with pytest.raises(ArtifactError, match="branches meet"):
        Forest.from_state(State(arrays))


def test_a_damaged_forest_is_refused_instead_of_walking_in_circles(
    clusters: Callable[..., Any], draws: Callable[..., Any]
) -> None:
    X, label = clusters(30)
    router = ForestRouter(trees=5).fit(X, draws(np.array([0.1, 0.4, 0.6, 0.9])[label]))
    state = router.state()
    for name, change in (("left", 0), ("right", 9), ("feature", 30_000), ("feature", -1), ("roots", -3)):
        arrays = dict(state.arrays)
        damaged = np.array(arrays[name])
        damaged[:] = change
        arrays[name] = damaged
        with pytest.raises(ArtifactError, match="not a forest"):
            ForestRouter.from_state(State(arrays, state.meta))


@pytest.mark.parametrize("cls", [SurfaceForestRouter, ForestRouter])
def test_weights_for_other_surface_features_are_refused(
    clusters: Callable[..., Any], draws: Callable[..., Any], cls: type[ForestRouter]
) -> None:
    X, label = clusters(30)
    state = cls(trees=5).fit(X, draws(np.array([0.1, 0.4, 0.6, 0.9])[label])).state()
    with pytest.raises(ArtifactError, match="retrain"):
        cls.from_state(State(state.arrays, {**state.meta, "features_version": -1}))


def test_the_forest_sees_interactions_that_no_sum_of_members_sees(
    draws: Callable[..., Any], auc: Callable[..., float]
) -> None:
    rng = np.random.default_rng(0)
    n = 1500
    topic, long = rng.integers(0, 2, n), rng.integers(0, 2, n)
    vectors = np.eye(8, dtype=np.float32)[topic]
    X = Prompts(tuple("word " * (40 if flag else 4) + f"{i % 7}" for i, flag in enumerate(long)), vectors)
    y = draws(np.where(topic == long, 0.9, 0.1))
    train, test = np.arange(1000), np.arange(1000, n)
    assert auc(ForestRouter(trees=40).fit(X.take(train), y[train]).predict(X.take(test)), y[test]) > 0.8
    assert auc(RidgeRouter().fit(X.take(train), y[train]).predict(X.take(test)), y[test]) < 0.6
