"""Bets that may be looked at at any time: streaming labels, and the policy against always-frontier."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.risk_control.paired import BETS, log_peak, log_wealth, not_worse
from router_models.risk_control.streaming import HOPED, StreamCertifier


def test_the_e_value_is_the_formulas():
    epsilon, x = 0.1, [0, 1, 0, 0, 1]
    by_hand = np.mean(
        [
            math.prod((p / epsilon) ** i * ((1 - p) / (1 - epsilon)) ** (1 - i) for i in x)
            for p in epsilon * np.array(HOPED)
        ]
    )
    assert StreamCertifier(epsilon).update(x).e_value == pytest.approx(by_hand)


@given(st.lists(st.integers(0, 1), max_size=60), st.integers(0, 60))
def test_labels_one_by_one_and_in_batches_give_the_same_state(labels, cut):
    whole = StreamCertifier(0.1).update(labels)
    parts = StreamCertifier(0.1).update(labels[:cut]).update(labels[cut:])
    assert (whole.n, whole.errors) == (parts.n, parts.errors) == (len(labels), sum(labels))
    assert whole.log_wealth == pytest.approx(parts.log_wealth)
    assert whole.peak == pytest.approx(parts.peak)


def test_a_certificate_once_earned_stays_earned():
    state = StreamCertifier(0.1).update(np.zeros(60))
    assert state.certified(0.1)
    worse = state.update(np.ones(60))
    assert worse.e_value < 1
    assert worse.certified(0.1)


def test_flawless_answers_certify_about_as_soon_as_the_exact_test():
    state, n = StreamCertifier(0.1), 0
    while not state.certified(0.1):
        state, n = state.update(0), n + 1
    assert 22 <= n <= 40


def test_labels_other_than_right_and_wrong_are_refused():
    with pytest.raises(DataError, match="must be 0"):
        StreamCertifier(0.1).update([0.5])
    with pytest.raises(DataError, match="epsilon"):
        StreamCertifier(0.0)


def test_the_betting_process_is_the_formulas():
    d, margin = np.array([0.0, -1.0, 1.0, 0.0]), 0.1
    mu0 = (1 - margin) / 2
    by_hand = np.mean([math.prod(1 + g / mu0 * ((x + 1) / 2 - mu0) for x in d) for g in BETS])
    assert math.exp(log_wealth(d, margin)[-1]) == pytest.approx(by_hand)


@pytest.mark.parametrize("n", [1, 2, 50, 3000])
@pytest.mark.parametrize("margin", [0.02, 0.3, -0.02, 0.999_999_999])
def test_the_peak_is_the_greatest_of_the_whole_process(n, margin):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for d in (rng.integers(-1, 2, n), rng.uniform(-1, 1, n), np.zeros(n), -np.ones(n), np.ones(n)):
            assert log_peak(d, margin) == log_wealth(d, margin).max()


def test_a_policy_that_always_gives_the_frontiers_answer_is_certified_in_a_few_hundred_pairs():
    n = 400
    result = not_worse(np.ones(n), np.ones(n), margin=0.02, delta=0.1)
    assert result.certified
    assert result.drop == 0
    assert 0 < result.upper_drop < 0.02


def test_a_clearly_worse_policy_is_not_certified_and_its_bound_says_so():
    rng = np.random.default_rng(0)
    frontier = (rng.random(2000) < 0.9).astype(float)
    policy = np.where(rng.random(2000) < 0.1, 0.0, frontier)
    result = not_worse(policy, frontier, margin=0.05, delta=0.1)
    assert not result.certified
    assert result.promise().threshold == math.inf
    assert result.drop < result.upper_drop < result.drop + 0.05


def test_the_bound_just_certifies_its_own_margin():
    rng = np.random.default_rng(1)
    frontier = (rng.random(1500) < 0.85).astype(float)
    policy = (rng.random(1500) < 0.84).astype(float)
    bound = not_worse(policy, frontier, margin=0.05, delta=0.1).upper_drop
    assert not_worse(policy, frontier, margin=bound + 1e-4, delta=0.1).certified
    assert log_wealth(policy - frontier, bound - 1e-4)[-1] < math.log(10)


def test_unpaired_or_odd_grades_are_refused():
    with pytest.raises(DataError, match="pairs"):
        not_worse([1.0], [1.0, 0.0], margin=0.1, delta=0.1)
    with pytest.raises(DataError, match="lie in"):
        not_worse([2.0], [1.0], margin=0.1, delta=0.1)
