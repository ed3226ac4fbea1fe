"""Out of domain the default router orders as length does, but for what it surely gains over it on held-out groups."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.artifacts import State
from router_models.estimators.routers import DefaultRouter, LengthRouter
from router_models.estimators.routers.length_share import (
    BEGINS,
    NARROWEST,
    SURE,
    estimate_by_length,
    gain_on_groups,
    length_line,
    log_lengths,
    log_odds,
    order_gain,
    ramp_of,
    ramp_without_loss,
    share_of_base,
)
from router_models.types import FloatArray, Prompts

Auc = Callable[[FloatArray, FloatArray], float]
GAINS, ERRORS = st.floats(-1, 1), st.floats(0, 1)


@given(GAINS, GAINS, ERRORS, ERRORS)
def test_the_larger_and_surer_the_gain_the_less_is_left_to_the_base(
    gain: float, other: float, error: float, larger: float
) -> None:
    low, high = sorted((gain, other))
    sure, unsure = sorted((error, larger))
    assert 0 <= share_of_base(high, sure) <= share_of_base(low, sure) <= 1
    assert share_of_base(gain, sure) <= share_of_base(gain, unsure)
    assert share_of_base(min(gain, 0.0), error) == 1.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(-1, 1), st.floats(NARROWEST, 1))
def test_the_share_grows_from_nothing_to_all_as_prompts_lie_farther(
    similarity: list[float], begin: float, width: float
) -> None:
    s = np.sort(np.array(similarity))
    parts = ramp_of(s, begin, begin - width)
    assert ((parts >= 0) & (parts <= 1)).all()
    assert (np.diff(parts) <= 0).all()
    assert (parts[s >= begin] == 0).all()
    assert (parts[s <= begin - width - 1e-9] == 1).all()


@given(st.integers(0, 10_000), st.floats(0, 0.8), st.floats(0, 1))
def test_the_share_begins_where_familiar_prompts_lose_nothing_sure(seed: int, learns: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    familiar, unfamiliar = rng.uniform(0.2, 0.8, 200), rng.uniform(0.0, 0.5, 90)
    y, group = rng.integers(0, 2, 200).astype(float), rng.integers(0, 3, 200)
    learned = np.clip(0.5 + learns * (y - 0.5) + 0.2 * rng.normal(size=200), 0, 1)
    by_length = rng.uniform(0.2, 0.8, 200)

    def lost(begin: float, end: float) -> tuple[float, float]:
        mixed = learned + share * ramp_of(familiar, begin, end) * (by_length - learned)
        return order_gain(learned, mixed, y, group)

    begin, end = ramp_without_loss(learned, by_length, share, y, group, familiar, unfamiliar)
    assert end == pytest.approx(min(np.median(unfamiliar), begin - NARROWEST))
    begins = [float(np.quantile(familiar, quantile)) for quantile in BEGINS]
    gain, error = order_gain(learned, by_length, y, group)
    if gain < SURE * error or share == 0:
        assert begin == begins[0], "nothing at home is surely better than length: nothing is to be protected"
    elif begin != begins[-1]:
        loss, of_that = lost(begin, end)
        assert loss <= of_that
    for earlier in begins[: begins.index(begin)]:
        loss, of_that = lost(earlier, min(float(np.median(unfamiliar)), earlier - NARROWEST))
        assert loss > of_that, "it begins as early as it may"


@given(st.integers(0, 10_000))
def test_an_orders_gain_is_that_of_areas_whatever_the_scale_and_taken_within_groups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.append([0.0, 1.0], rng.integers(0, 2, 58))
    one, other = rng.integers(0, 9, 60).astype(float), rng.normal(size=60)
    whole = np.zeros(60, dtype=np.int64)
    gain, error = order_gain(one, other, y, whole)
    pairs = y.mean() * (1 - y.mean()) * 60 / 61

    def area(scores: FloatArray) -> float:
        good, bad = scores[y == 1][:, None], scores[y == 0][None]
        return float((good > bad).mean() + (good == bad).mean() / 2)

    assert gain == pytest.approx(pairs * (area(one) - area(other)))
    assert order_gain(np.exp(one), 3 * other, y, whole) == pytest.approx((gain, error))
    assert order_gain(other, one, y, whole) == pytest.approx((-gain, error))
    assert order_gain(one, one, y, whole) == (0.0, 0.0)
    halves = np.repeat([0, 1], 30)
    assert order_gain(one + 100 * halves, other, y, halves) == pytest.approx(order_gain(one, other, y, halves))


def test_a_gain_on_most_groups_is_less_sure_for_another_group_than_for_other_prompts_of_these() -> None:
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 2, 1200).astype(float), np.repeat(np.arange(4), 300)
    base = rng.normal(size=1200)
    better = np.where(group < 3, y, 1 - y) + rng.normal(size=1200)  # right on three groups, wrong on the fourth
    gain, of_prompts = order_gain(better, base, y, group)
    same, of_groups = gain_on_groups(better, base, y, group)
    assert same == gain > 0
    means = [order_gain(better[group == g], base[group == g], y[group == g], group[group == g])[0] for g in range(4)]
    assert of_groups == pytest.approx(np.std(means, ddof=1) / 2)
    assert share_of_base(gain, of_prompts) < 0.3
    assert share_of_base(gain, of_groups) > 0.9
    assert share_of_base(*gain_on_groups(better, base, y, np.zeros(1200, dtype=np.int64))) == 1.0, "one tells nothing"


def topics(
    seed: int, of: list[int], holds_everywhere: float, longer_is: float, spread: float = 0.1
) -> tuple[Prompts, FloatArray]:
    """Prompts of topics with levels of their own; one word makes a prompt hard in all topics, length does too."""
    rng = np.random.default_rng(seed)
    topic = rng.choice(of, 480)
    vectors = np.eye(24, dtype=np.float32)[topic] + spread * rng.normal(size=(480, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    length, proof = rng.integers(3, 60, 480), rng.integers(0, 2, 480)
    words = "alpha beta gamma delta".split()
    texts = tuple(
        " ".join([*rng.choice(words, k), "(x+y)^2 = 17"][: k + flag]) + f" {i}"
        for i, (k, flag) in enumerate(zip(length, proof, strict=True))
    )
    p = 0.5 + 0.4 * np.sin(2 * topic) + holds_everywhere * (0.5 - proof) + longer_is * (length - 30) / 30
    y = (rng.random(480) < np.clip(p, 0.02, 0.98)).astype(np.float64)
    return Prompts(texts, vectors, {"domain": tuple(map(str, topic))}), y


def test_held_out_topics_are_ordered_by_length_where_what_was_learned_holds_nowhere_else(auc: Auc) -> None:
    seen, unseen = list(range(10)), list(range(12, 22))
    X, y = topics(2, seen, 0.0, -0.15)
    other, right = topics(3, unseen, 0.0, -0.4)
    alone = DefaultRouter(trees=20).fit(X, y)
    assert alone.length_ is not None
    assert alone.length_[2] > 0.7
    by_length = auc(LengthRouter().predict(other), right)
    assert auc(alone.predict(other), right) >= by_length - 0.01
    alone.length_ = None
    assert auc(alone.predict(other), right) < by_length - 0.05, "the members alone are misled"


def test_what_holds_on_held_out_topics_is_kept_where_length_would_lose_it(auc: Auc) -> None:
    X, y = topics(6, list(range(10)), 0.7, 0.0)
    other, right = topics(7, list(range(12, 22)), 0.7, 0.0)
    router = DefaultRouter(trees=20).fit(X, y)
    assert router.length_ is not None
    assert router.length_[2] < 0.3
    assert auc(router.predict(other), right) > auc(LengthRouter().predict(other), right) + 0.15


def test_familiar_prompts_keep_the_order_that_was_learned_where_held_out_topics_leave_most_to_length(auc: Auc) -> None:
    served, before, alone = [], [], []
    for seed in (2, 4):
        seen = list(range(10))
        X, y = topics(seed, seen, 0.0, 0.0, spread=0.3)
        same, right = topics(seed + 20, seen, 0.0, 0.0, spread=0.3)
        router = DefaultRouter(trees=20).fit(X, y)
        assert router.length_ is not None
        assert router.length_[2] > 0.6
        served.append(auc(router.predict(same), right))
        router.ramp_ = None  # the share grows from the median training prompt on, as in earlier releases
        before.append(auc(router.predict(same), right))
        router.length_ = None
        alone.append(auc(router.predict(same), right))
    assert np.mean(served) >= np.mean(alone) - 0.006
    assert np.mean(before) < np.mean(alone) - 0.015, "the test could not fail"


def test_without_a_share_length_changes_nothing_wherever_it_begins() -> None:
    X, y = topics(4, list(range(6)), 0.5, -0.2)
    other, _ = topics(5, [1, 2, 15, 16], 0.5, -0.2)
    router = DefaultRouter(trees=20).fit(X, y)
    assert router.length_ is not None
    served = router.predict(other)
    router.length_ = np.array([*router.length_[:2], 0.0])
    none = router.predict(other)
    assert (none != served).any()
    router.ramp_ = np.array([1.0, 0.9])
    np.testing.assert_array_equal(router.predict(other), none)
    router.length_ = None
    np.testing.assert_allclose(router.predict(other), none, atol=1e-12)


def test_the_line_spreads_as_the_estimates_do_and_longer_is_never_easier() -> None:
    p = np.linspace(0.1, 0.9, 50)
    length = log_lengths(["x" * n for n in range(10, 60)])
    level, slope = length_line(log_odds(p), length)
    by_length = estimate_by_length(level, slope, length)
    assert log_odds(by_length).std() == pytest.approx(log_odds(p).std(), rel=0.01)
    assert log_odds(by_length).mean() == pytest.approx(log_odds(p).mean(), abs=0.01)
    assert (np.diff(by_length) < 0).all()
    assert length_line(log_odds(p), np.ones(50))[1] == 0.0, "prompts of one length say nothing of length"


@pytest.mark.parametrize("without", [("length", "ramp"), ("ramp",)])
def test_a_router_that_an_earlier_release_made_predicts_as_it_did(without: tuple[str, ...]) -> None:
    X, y = topics(4, list(range(6)), 0.5, -0.2)
    router = DefaultRouter(trees=20).fit(X, y)
    other, _ = topics(5, [1, 2, 15, 16], 0.5, -0.2)
    state = router.state()
    served = DefaultRouter.from_state(state).predict(other)
    np.testing.assert_array_equal(served, router.predict(other))
    kept = {name: array for name, array in state.arrays.items() if name not in without}
    old = DefaultRouter.from_state(State(kept, state.meta)).predict(other)
    assert (served != old).any()
    length, router.length_ = router.length_, None
    expected = router.predict(other)
    if "length" not in without:
        assert length is not None
        away = np.clip(router.distance(other), 0, 1)  # where the share grew with the distance
        level, slope, share = length
        expected += share * away * (estimate_by_length(level, slope, log_lengths(other.texts)) - expected)
    np.testing.assert_allclose(old, expected, atol=1e-12)
