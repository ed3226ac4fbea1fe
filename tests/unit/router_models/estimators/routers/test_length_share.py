"""Out of domain the default router orders as length does, but for what it surely gains over it on held-out groups."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.artifacts import State
from router_models.estimators.routers import DefaultRouter, LengthRouter
from router_models.estimators.routers.combined.default import (
    EARLIER_RAMPS,
    MANY_DOMAINS,
    PRIOR,
    RAMPS,
    balanced_folds,
)
from router_models.estimators.routers.length_share import (
    SHRUNK,
    SURE,
    estimate_by_length,
    length_line,
    log_lengths,
    log_odds,
    order_gain,
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


@given(st.floats(0.01, 1), st.floats(0, 1))
def test_what_counts_is_the_lower_end_of_the_gains_interval(gain: float, part: float) -> None:
    assert 1 - share_of_base(gain, part * gain) == pytest.approx(max(0.0, gain - SURE * part * gain) / gain)


@given(GAINS, GAINS, ERRORS, ERRORS)
def test_of_many_domains_a_gain_is_believed_by_halves_and_never_cut_off(
    gain: float, other: float, error: float, larger: float
) -> None:
    low, high = sorted((gain, other))
    sure, unsure = sorted((error, larger))
    assert 0 <= share_of_base(high, sure, many_domains=True) <= share_of_base(low, sure, many_domains=True) <= 1
    assert share_of_base(gain, sure, many_domains=True) <= share_of_base(gain, unsure, many_domains=True)
    assert share_of_base(min(gain, 0.0), error, many_domains=True) == 1.0
    assert share_of_base(SHRUNK, 1.0, many_domains=True) == pytest.approx(0.5)
    assert share_of_base(1.0, 1.0, many_domains=True) < 1.0 == share_of_base(1.0, 1.0)


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


def topics(seed: int, of: list[int], holds_everywhere: float, longer_is: float) -> tuple[Prompts, FloatArray]:
    """Prompts of topics with levels of their own; one word makes a prompt hard in all topics, length does too."""
    rng = np.random.default_rng(seed)
    topic = rng.choice(of, 480)
    vectors = np.eye(24, dtype=np.float32)[topic] + 0.1 * rng.normal(size=(480, 24)).astype(np.float32)
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


def test_a_gain_that_is_not_sure_counts_for_more_on_many_named_domains_than_on_three() -> None:
    X, y = topics(11, list(range(MANY_DOMAINS + 2)), 0.25, -0.05)
    many = DefaultRouter(trees=20)
    labels = np.unique(np.array(X.metadata["domain"]), return_inverse=True)[1]
    thirds = balanced_folds(labels.astype(np.int64), many.folds)
    three = Prompts(X.texts, X.embeddings, {"domain": tuple(map(str, thirds))})
    few = DefaultRouter(trees=20).fit(three, y)
    many.fit(X, y)
    assert many.length_ is not None
    assert few.length_ is not None
    errors = SURE / few.length_[2]
    assert SURE < errors < 4, "a gain that is there and not sure"
    assert many.length_[2] == pytest.approx(SHRUNK / (SHRUNK + errors)), "the same members held out, the same gain"
    assert many.length_[2] < few.length_[2]


def test_the_line_spreads_as_the_estimates_do_and_longer_is_never_easier() -> None:
    p = np.linspace(0.1, 0.9, 50)
    length = log_lengths(["x" * n for n in range(10, 60)])
    level, slope = length_line(log_odds(p), length)
    by_length = estimate_by_length(level, slope, length)
    assert log_odds(by_length).std() == pytest.approx(log_odds(p).std(), rel=0.01)
    assert log_odds(by_length).mean() == pytest.approx(log_odds(p).mean(), abs=0.01)
    assert (np.diff(by_length) < 0).all()
    assert length_line(log_odds(p), np.ones(50))[1] == 0.0, "prompts of one length say nothing of length"


def test_a_router_that_an_earlier_release_made_predicts_as_it_did() -> None:
    X, y = topics(4, list(range(6)), 0.5, -0.2)
    router = DefaultRouter(trees=20).fit(X, y)
    other, _ = topics(5, [1, 2, 15, 16], 0.5, -0.2)
    state = router.state()

    def without(*names: str) -> FloatArray:
        arrays = {name: array for name, array in state.arrays.items() if name not in names}
        return DefaultRouter.from_state(State(arrays, state.meta)).predict(other)

    now = DefaultRouter.from_state(state).predict(other)
    np.testing.assert_array_equal(now, router.predict(other))
    router.ramps_ = np.array(EARLIER_RAMPS)
    np.testing.assert_array_equal(without("ramps"), router.predict(other))
    router.length_ = None
    np.testing.assert_array_equal(without("ramps", "length"), router.predict(other))
    assert (without("ramps") != now).any()
    assert (without("ramps") != without("ramps", "length")).any()


def test_other_weights_count_beyond_held_out_domains_alone_and_length_only_away_from_home() -> None:
    X, y = topics(8, list(range(8)), 0.4, -0.3)
    router = DefaultRouter(trees=20).fit(X, y)
    other, _ = topics(9, [0, 1, 2, 15, 16, 17], 0.4, -0.3)
    rows = router.distance(other)
    weights_from, _, length_from, _ = RAMPS
    assert (rows <= length_from).any()
    assert ((rows > length_from) & (rows < weights_from)).any()
    assert (rows > weights_from).any()
    served = router.predict(other)
    router.out_of_domain_weights_ = np.eye(len(PRIOR) + 1)[1]
    np.testing.assert_array_equal(router.predict(other) != served, rows > weights_from)
    router.length_ = None
    np.testing.assert_array_equal(router.predict(other) != served, rows > length_from)


def test_of_few_prompts_the_weights_in_domain_stay_near_the_prior() -> None:
    X, y = topics(10, list(range(8)), 0.4, -0.3)
    router = DefaultRouter(trees=20).fit(X.take(np.arange(60)), y[:60])
    assert router.in_domain_weights_ is not None
    np.testing.assert_allclose(router.in_domain_weights_[: len(PRIOR)], PRIOR, atol=0.03)
