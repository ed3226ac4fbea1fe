"""Ridge and forests: the arithmetic of scikit-learn, without it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from router_models.data.artifacts import State
from router_models.errors import ArtifactError
from router_models.estimators.routers import (
    ForestRouter,
    RidgeRouter,
    SurfaceForestRouter,
)
from router_models.estimators.routers.embedding.ridge import fit_ridge
from router_models.estimators.routers.text.forest import Forest
from router_models.types import Prompts


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
