"""Thresholds that need no certificate, and what a cascade costs on labelled prompts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.risk_control.evidence import CascadeEvidence, replay_policy
from router_models.training.evidence import cheapest_route_at, one_pair, route_at_for_share

scores = st.lists(st.floats(0, 1), min_size=1, max_size=60).map(np.array)


def evidence(n: int = 200, seed: int = 0) -> CascadeEvidence:
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=n)
    right = rng.uniform(size=n) < p
    p_ok = np.column_stack([np.clip(p * 0.7 + 0.3 * right, 0, 1), np.ones(n)])
    return CascadeEvidence.of(("cheap", "dear"), p[:, None], p_ok, (0.1, 1.0), np.column_stack([right, np.ones(n)]))


@given(scores, st.floats(0, 1))
def test_the_share_knob_never_sends_more_than_asked_to_the_last_tier(p: np.ndarray, share: float) -> None:
    assert (p < route_at_for_share(p, share)).mean() <= share + 1e-9


def test_a_share_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(DataError, match="share"):
        route_at_for_share(np.array([0.5]), 1.5)


def test_trying_nothing_costs_what_always_frontier_costs() -> None:
    seen = evidence()
    assert replay_policy(seen, one_pair(np.inf, 0.0)).cost_usd.mean() == pytest.approx(1.0)


def test_a_rejected_cheap_answer_is_paid_for_twice() -> None:
    replayed = replay_policy(evidence(), one_pair(0.0, np.inf))
    assert replayed.cost_usd.mean() == pytest.approx(1.1)
    assert replayed.right(evidence().right).all()


def test_the_cheapest_routing_threshold_costs_no_more_than_any_other() -> None:
    seen = evidence()
    route_at, accept_at = cheapest_route_at(seen, epsilon=0.1)
    best = replay_policy(seen, one_pair(route_at, accept_at)).cost_usd.mean()
    assert all(
        best <= replay_policy(seen, one_pair(other, accept_at)).cost_usd.mean() + 1e-12
        for other in np.quantile(seen.p_route[:, 0], [0, 0.3, 0.6])
    )


@given(st.floats(0, 1), st.floats(0, 1))
def test_raising_the_acceptance_threshold_never_accepts_more(low: float, high: float) -> None:
    seen = evidence(60)
    low, high = min(low, high), max(low, high)
    assert (
        replay_policy(seen, one_pair(0.0, high)).accepted <= replay_policy(seen, one_pair(0.0, low)).accepted
    ).all()
