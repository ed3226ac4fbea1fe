"""Novel prompts are scored by their length, whatever the router's family; familiar ones as the router scores them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.data.artifacts import State, load_state, save_state, seal
from router_models.errors import ArtifactError, DataError
from router_models.estimators.calibrators.scores import CALIBRATORS
from router_models.estimators.novelty import LEAST
from router_models.estimators.routers import ROUTERS, LengthRouter
from router_models.estimators.routers.fallback import (
    END,
    LEAST_SLOPE,
    NEVER_NOVEL,
    START,
    LengthFallback,
    RouterWithFallback,
    weight_of_length,
)
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.metrics import auc
from router_models.types import FloatArray, IntArray, OperatingPoint, Prompts, Query
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from router_models.versions.sealed.digest import models_digest

SEEN, UNSEEN = "alpha beta gamma delta epsilon zeta".split(), "Q1: 7 8 9 15 = ? 22".split()
CHEAP_FAMILIES = ("surface", "tfidf", "linear", "ridge", "knn", "stacked")
DISTANCES = st.floats(0, 10)


def asked(seed: int, n: int, words: list[str], topics: IntArray, longer_is: float) -> tuple[Prompts, FloatArray]:
    """Prompts of some topics; the cheap answer is right by topic, and more (or less) often on longer ones."""
    rng = np.random.default_rng(seed)
    topic = rng.choice(topics, n)
    length = rng.integers(3, 60, n)
    vectors = np.eye(24, dtype=np.float32)[topic] + 0.15 * rng.normal(size=(n, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = tuple(" ".join(rng.choice(words, k)) + f" {t}" for k, t in zip(length, topic, strict=True))
    p = 0.5 + 0.3 * np.sin(topic) + longer_is * (length - 30) / 30
    return Prompts(texts, vectors), (rng.random(n) < np.clip(p, 0.02, 0.98)).astype(float)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-0.3, 0.0, 0.3]), st.sampled_from(CHEAP_FAMILIES))
def test_no_router_orders_novel_prompts_worse_than_length_does_nor_familiar_ones_otherwise_than_before(
    seed: int, longer_is: float, family: str
) -> None:
    X, y = asked(seed, 500, SEEN, np.arange(8), longer_is)
    router = RouterWithFallback(ROUTERS[family]()).fit(X, y)
    novel, right = asked(seed + 1, 400, UNSEEN, np.arange(16, 24), -0.3)
    assert auc(router.predict(novel), right) >= auc(LengthRouter().predict(novel), right) - 0.01
    familiar, right = asked(seed + 2, 400, SEEN, np.arange(8), longer_is)
    # Some 5 % of familiar prompts are novel too. Where longer ones are easier, their order is turned round.
    turned = 0.08 if longer_is > 0 else 0.02
    assert abs(auc(router.predict(familiar), right) - auc(router.router.predict(familiar), right)) < turned
    near = familiar.take(weight_of_length(router.fallback_.novelty_.distance(familiar)) == 0)  # type: ignore[union-attr]
    np.testing.assert_array_equal(router.predict(near), router.router.predict(near))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(-0.3, 0.3))
def test_length_counts_as_much_as_in_training_and_longer_is_harder_whatever_was_true_there(
    seed: int, longer_is: float
) -> None:
    X, y = asked(seed, 200, SEEN, np.arange(8), longer_is)
    fallback, turned = (LengthFallback().fit(X, graded, embedded=False) for graded in (y, 1 - y))
    assert fallback.line_ is not None
    assert turned.line_ is not None
    assert fallback.line_[1] == pytest.approx(turned.line_[1])
    assert fallback.line_[1] >= LEAST_SLOPE
    novel = asked(seed, 40, UNSEEN, np.arange(16, 24), 0)[0]
    p = fallback.blended(novel, np.full(40, 0.5))[0]
    by_length = np.argsort([len(text) for text in novel.texts], kind="stable")
    assert (np.diff(p[by_length]) <= 0).all()


@given(DISTANCES, DISTANCES)
def test_the_weight_of_length_rises_with_distance_and_makes_no_jumps(one: float, other: float) -> None:
    low, high = weight_of_length(np.sort(np.array([one, other])))
    assert 0 <= low <= high <= 1
    assert high - low <= 1.5 * abs(one - other) / (END - START) + 1e-9
    assert weight_of_length(np.array([START, END])).tolist() == [0.0, 1.0]


@pytest.fixture(scope="module")
def routed() -> RouterWithFallback:
    return RouterWithFallback(ROUTERS["ridge"]()).fit(*asked(0, 400, SEEN, np.arange(8), -0.2))


@pytest.fixture(scope="module")
def mixed() -> Prompts:
    """Familiar and novel prompts, and some between."""
    near, far = asked(1, 60, SEEN, np.arange(8), 0)[0], asked(2, 30, UNSEEN, np.arange(16, 24), 0)[0]
    between = replace(near, texts=tuple(text + "?" * (i % 6) for i, text in enumerate(near.texts)))
    texts = near.texts + far.texts + between.texts
    assert near.embeddings is not None
    assert far.embeddings is not None
    return Prompts(texts, np.concatenate([near.embeddings, far.embeddings, near.embeddings]))


def test_a_score_lies_between_the_routers_and_lengths_by_the_distance(
    routed: RouterWithFallback, mixed: Prompts
) -> None:
    assert routed.fallback_ is not None
    raw = routed.router.predict(mixed)
    blended, distance = routed.fallback_.blended(mixed, raw)
    w = weight_of_length(distance)
    assert {0.0, 1.0} < set(w), "the prompts are near, far and between"
    by_length = routed.fallback_.blended(mixed, np.zeros(len(mixed)))[0] / np.where(w > 0, w, np.nan)
    np.testing.assert_allclose(blended, np.where(w > 0, (1 - w) * raw + w * np.nan_to_num(by_length), raw))
    far = np.flatnonzero(w == 1)
    order = np.argsort([len(mixed.texts[i]) for i in far], kind="stable")
    assert (np.diff(blended[far][order]) <= 0).all(), "longer is never easier"


def test_the_estimate_of_a_novel_prompt_is_calibrated_as_that_of_a_familiar_one() -> None:
    X, y = asked(3, 3000, SEEN, np.arange(8), -0.25)
    router = RouterWithFallback(ROUTERS["linear"]()).fit(X.take(np.arange(2000)), y[:2000])
    tune, graded = X.take(np.arange(2000, 3000)), y[2000:]
    calibrator = CALIBRATORS["platt"]().fit(router.router.predict(tune), graded)
    served = Stage(router.router, calibrator, NonEmptyVerifier(), None, router.fallback_)
    novel = replace(tune, embeddings=-tune.embeddings)  # type: ignore[operator]
    p = served.estimate_route(novel)
    short = np.array([len(text) for text in novel.texts]) < 150
    for rows in (short, ~short):
        assert abs(p[rows].mean() - graded[rows].mean()) < 0.06


def stage(routed: RouterWithFallback) -> Stage:
    platt = CALIBRATORS["platt"]().fit(np.linspace(0.1, 0.9, 40), np.tile([0.0, 1.0], 20))
    return Stage(routed.router, platt, NonEmptyVerifier(), None, routed.fallback_)


def test_alone_in_a_batch_and_loaded_again_a_prompt_gets_the_same_estimate(
    routed: RouterWithFallback, mixed: Prompts, tmp_path: Path
) -> None:
    served = stage(routed)
    together, distance = served.route(mixed)
    assert served.route(mixed.take(np.arange(0)))[0].shape == (0,)
    alone = [served.estimate_route(mixed.take([i]))[0] for i in range(len(mixed))]
    np.testing.assert_allclose(alone, together, atol=2e-6)
    assert distance is not None
    assert routed.fallback_ is not None
    save_state(tmp_path, "fallback", routed.fallback_.state())
    seal(tmp_path)
    again = replace(served, fallback=LengthFallback.from_state(load_state(tmp_path, "fallback")))
    np.testing.assert_array_equal(again.estimate_route(mixed), together)


def test_a_version_serves_the_fallback_that_it_was_saved_with_and_an_older_one_none(
    mixed: Prompts, tmp_path: Path
) -> None:
    routed = RouterWithFallback(ROUTERS["surface"]()).fit(*asked(0, 400, SEEN, np.arange(8), 0.2))
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, 0.5)})
    new = RouterVersion(policy, {"cheap": stage(routed)})
    old = RouterVersion(policy, {"cheap": replace(stage(routed), fallback=None)})
    for name, version in (("new", new), ("old", old)):
        version.save(tmp_path / name)
    far = Query.from_prompt(mixed.texts[70])
    loaded = {name: RouterVersion.load(tmp_path / name) for name in ("new", "old")}
    assert loaded["new"].decide(far) == new.decide(far)
    assert loaded["old"].decide(far) == old.decide(far)
    assert new.decide(far).p_cheap_ok != old.decide(far).p_cheap_ok
    assert (new.decide(far).distance or 0) > END
    assert models_digest(loaded["new"]) == models_digest(new) != models_digest(old)
    assert "fallback" not in (tmp_path / "old" / "policy.json").read_text()


def test_damage_is_named_and_too_few_prompts_are_no_reason_to_refuse_a_router(routed: RouterWithFallback) -> None:
    assert routed.fallback_ is not None
    state = routed.fallback_.state()
    for missing in ("line", "novelty.surface.memory"):
        with pytest.raises(ArtifactError, match=missing.rsplit(".", 1)[-1]):
            LengthFallback.from_state(State({n: a for n, a in state.arrays.items() if n != missing}, state.meta))
    few, y = asked(0, LEAST - 1, SEEN, np.arange(4), 0)
    assert RouterWithFallback(ROUTERS["surface"]()).fit(few, y).fallback_ is None
    with pytest.raises(DataError, match="at least"):
        LengthFallback().fit(few, y, embedded=False)


def test_what_learns_nothing_of_prompts_has_no_fallback(draws: Callable[..., FloatArray]) -> None:
    X, _ = asked(0, 60, SEEN, np.arange(4), 0)
    X = replace(X, metadata={"oracle": ("1",) * 60})
    for family in NEVER_NOVEL:
        assert RouterWithFallback(ROUTERS[family]()).fit(X, draws(np.full(60, 0.5))).fallback_ is None
