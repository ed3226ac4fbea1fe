"""Thresholds that need no certificate, and what a cascade costs on labelled prompts."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import DataError
from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.pricing.call_costs import call_costs
from router_models.pricing.prices import Price
from router_models.risk_control.evidence import CascadeEvidence, replay_policy
from router_models.training.evidence import (
    cheapest_route_at,
    evidence_of,
    one_pair,
    replay_version,
    route_at_for_share,
    tries_of,
)
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

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


def answered(n: int = 40, **more: object) -> OutcomeTable:
    """Prompts of which the cheap tier leaves every third without an answer; tokens of all lengths."""
    frame = {
        "prompt": [f"question {i}" + " long" * (i % 9) for i in range(n)],
        "cheap": [float(i % 3 > 0) for i in range(n)],
        "dear": [1.0] * n,
        "cheap_answer": ["fine" if i % 3 else "" for i in range(n)],
        "dear_answer": ["fine"] * n,
    }
    for tier in ("cheap", "dear"):
        frame |= {
            f"{tier}_prompt_tokens": range(10, 10 + n),
            f"{tier}_completion_tokens": [5 + i % 4 for i in range(n)],
        }
    return table_of(parse_columns(pd.DataFrame(frame | more), ("cheap", "dear")))


PRICES = {"cheap": Price(Decimal("0.2"), Decimal("0.4")), "dear": Price(Decimal(1), Decimal(4))}


@pytest.mark.parametrize("route_at", [0.0, 0.3, 0.5])
def test_what_tries_spend_and_spare_is_what_the_replay_saves(route_at: float) -> None:
    table = answered()
    stages = {
        "cheap": Stage(LengthRouter(), None, NonEmptyVerifier(), None),
        "dear": Stage(None, None, NonEmptyVerifier(), None),
    }
    version = RouterVersion(Policy(("cheap", "dear"), {"cheap": OperatingPoint(route_at, 0.5)}), stages)
    seen = evidence_of(version, table, PRICES)
    tries = tries_of(table, version, seen)
    replayed = replay_version(version, seen)
    assert (tries.rows, tries.tried) == (len(table), int((replayed.tried == 0).sum()))
    assert tries.repeated == sum(not table.answers["cheap"].texts[i] for i in np.flatnonzero(replayed.tried == 0))
    saved = tries.spared.usd(PRICES["dear"]) - tries.spent["cheap"].usd(PRICES["cheap"])
    assert saved == pytest.approx(seen.cost_usd[:, -1].sum() - replayed.cost_usd.sum())


def test_a_tier_that_is_paid_for_by_the_second_costs_its_seconds() -> None:
    by_time = Price(Decimal(0), Decimal(0), engine_usd_per_s=Decimal("0.01"))
    timed = answered(cheap_latency_s=[0.5] * 40)
    assert call_costs(timed, "cheap", by_time) == pytest.approx(0.005)
    with pytest.raises(
        DataError, match="'cheap' is paid for by the second, and 40 of its 40 outcomes carry no latency"
    ):
        call_costs(answered(), "cheap", by_time)
