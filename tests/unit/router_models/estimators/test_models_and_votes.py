"""Routers that know models: from votes, from battles, from their errors by cluster."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.estimators.routers import (
    BradleyTerryRouter,
    ClusterErrorRouter,
    MatrixFactorisationRouter,
)
from router_models.estimators.routers.embedding.bradley_terry import bradley_terry


def test_models_share_what_prompts_have_in_common_and_a_new_one_needs_its_vector_alone(
    clusters: Callable[..., Any], draws: Callable[..., Any], auc: Callable[..., float]
) -> None:
    X, label = clusters(80)
    skill = {"a": [0.9, 0.1, 0.9, 0.1], "b": [0.9, 0.9, 0.1, 0.1], "c": [0.1, 0.9, 0.9, 0.1]}
    grades = {name: draws(np.array(p)[label], i) for i, (name, p) in enumerate(skill.items())}
    router = MatrixFactorisationRouter(model="a").fit_grades(X, grades)
    projection = np.array(router.projection_)
    some = np.flatnonzero(np.arange(len(X)) % 4 == 0)
    router.add_model("new", X.take(some), draws(np.array([0.1, 0.1, 0.1, 0.9])[label], 8)[some])
    np.testing.assert_array_equal(router.projection_, projection)
    fresh, fresh_label = clusters(80, seed=4)
    assert auc(router.predict(fresh), draws(np.array(skill["a"])[fresh_label], 11)) > 0.8
    router.model = "new"
    assert auc(router.predict(fresh), draws(np.array([0.1, 0.1, 0.1, 0.9])[fresh_label], 12)) > 0.8
    router.model = "unheard of"
    with pytest.raises(DataError, match="knows: a, b, c, new"):
        router.predict(fresh)


def test_matrix_factorisation_learns_from_votes_who_wins_where(
    clusters: Callable[..., Any], draws: Callable[..., Any], auc: Callable[..., float]
) -> None:
    X, label = clusters(120)
    wins = draws(np.array([0.95, 0.95, 0.1, 0.1])[label])
    left = tuple("cheap" if i % 2 else "frontier" for i in range(len(X)))
    right = tuple("frontier" if i % 2 else "cheap" for i in range(len(X)))
    y = np.where(np.arange(len(X)) % 2 == 1, wins, 1 - wins)
    router = MatrixFactorisationRouter(against="frontier").fit_votes(X, left, right, y)
    fresh, fresh_label = clusters(60, seed=4)
    assert auc(router.predict(fresh), (fresh_label < 2).astype(float)) > 0.95
    with pytest.raises(DataError, match="left"):
        router.fit_votes(X, left[:3], right, y)


def test_missing_grades_are_left_out_of_the_factorisation(
    clusters: Callable[..., Any], draws: Callable[..., Any], auc: Callable[..., float]
) -> None:
    X, label = clusters(60)
    full = draws(np.array([0.9, 0.1, 0.9, 0.1])[label])
    holes = np.where(np.arange(len(X)) % 3 == 0, np.nan, full)
    router = MatrixFactorisationRouter(model="a").fit_grades(X, {"a": holes})
    assert auc(router.predict(X), full) > 0.8


def test_bradley_terry_strengths_are_the_maximum_likelihood() -> None:
    rng = np.random.default_rng(0)
    true = np.array([1.0, 0.2, -0.4, -0.8])
    p = 1 / (1 + np.exp(true[None] - true[:, None]))
    met = rng.integers(50, 100, (4, 4)) * 40.0
    wins = np.triu(met, 1) * p + np.tril(np.triu(met, 1).T, -1) * p
    np.testing.assert_allclose(bradley_terry(wins), true, atol=1e-6)
    two = np.array([[0.0, 30.0], [10.0, 0.0]])
    assert np.diff(bradley_terry(two))[0] == pytest.approx(-np.log(3))


def test_battles_on_similar_prompts_count_most(clusters: Callable[..., Any], draws: Callable[..., Any]) -> None:
    X, label = clusters(60, spread=0.05)
    y = draws(np.array([0.95, 0.05, 0.5, 0.5])[label])
    router = BradleyTerryRouter(gamma=1e4).fit(X, y)
    means = [router.predict(X)[label == k].mean() for k in range(4)]
    assert means[0] > means[2] > means[1]
    third = ("cheap", "frontier", "third") * 80
    others = ("frontier", "third", "cheap") * 80
    many = BradleyTerryRouter().fit_battles(X, third, others, y)
    assert ((many.predict(X) > 0) & (many.predict(X) < 1)).all()
    with pytest.raises(DataError, match="no battle of"):
        BradleyTerryRouter().fit_battles(X, ("third",) * 240, ("frontier",) * 240, y)


def test_a_model_unseen_at_training_is_described_by_its_errors_per_cluster(
    clusters: Callable[..., Any], draws: Callable[..., Any]
) -> None:
    X, label = clusters(80)
    router = ClusterErrorRouter(clusters=8).fit(X, draws(np.array([0.9, 0.1, 0.5, 0.5])[label]))
    few, few_label = clusters(15, seed=5)
    new = router.for_model(few, draws(np.array([0.1, 0.5, 0.5, 0.95])[few_label], 2))
    assert new.centroids_ is router.centroids_
    scores = new.predict(X)
    assert scores[label == 3].mean() > scores[label == 1].mean() > scores[label == 0].mean()
