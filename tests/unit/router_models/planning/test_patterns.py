"""Patterns: when a cascade pays, by its own arithmetic; and that what is certified holds, by simulation."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from router_models.errors import NotCertifiedError
from router_models.planning.patterns import (
    Extra,
    Operated,
    Pattern,
    RiskBudget,
    operate,
    patterns_of,
    play_out,
    provisional,
)
from router_models.planning.traffic_mix import TrafficSlice, workload_of_mix
from router_models.planning.what_if import break_even
from router_models.planning.workload import Workload
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.one_threshold.risk_and_drop import Paired, certify_both

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = {
    "cheap": TierCosts(Price(Decimal("0.1"), Decimal("0.4"))),
    "frontier": TierCosts(Price(Decimal(2), Decimal(8))),
}


def mix(weak: float, verifier_auc: float, n: int) -> Workload:
    slices = [TrafficSlice("all", 1.0, weak, 0.95, 300, 100)]
    return workload_of_mix(slices, "cheap", "frontier", TERMS, router_auc=0.6, verifier_auc=verifier_auc, prompts=n)


def test_the_most_lenient_threshold_within_budget_keeps_ties_together() -> None:
    scores = np.array([0.9, 0.9, 0.8, 0.5, 0.5, 0.1])
    wrong = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    assert provisional(scores, wrong, 0.2) == 0.5
    assert provisional(scores, wrong, 0.1) == 0.8
    assert provisional(scores, np.ones(6), 0.5) == np.inf
    assert provisional(scores, wrong, 0.2, lost=np.ones(6), max_lost=3.0) == 0.8


@given(st.floats(0.01, 0.9), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_a_cascade_pays_exactly_below_the_break_even_share(cheap_cost: float, escalated: float) -> None:
    """p < 1 - (cheap + router + verifier) / frontier, on prompts that all cost the same."""
    n = 200
    scores = np.linspace(0, 1, n)
    flat = np.ones(n)
    seen = CascadeEvidence(
        ("cheap", "frontier"),
        flat[:, None],
        np.column_stack([scores, flat]),
        np.column_stack([cheap_cost * flat, flat]),
        np.ones((n, 2), dtype=bool),
    )
    work = Workload("w", "cheap", "frontier", seen, np.zeros(n, bool), None, None, "r", "v", True)
    operated = Operated(Pattern("cascade", "", after=scores), None, float(np.quantile(scores, escalated)), True, "")
    extra = Extra(verifier_usd=0.01)
    replayed = play_out(work, operated, np.ones(n, bool), extra)
    even = break_even(work, operated, replayed, extra)
    assert even.p_star == pytest.approx(1 - cheap_cost - 0.01)
    assert even.pays == (float(replayed.usd.mean()) < 1.0) or abs(even.p - even.p_star) < 1e-9


def test_prompts_that_no_certificate_would_cover_go_to_the_last_tier_and_prove_nothing() -> None:
    work = mix(weak=0.75, verifier_auc=0.75, n=2_000)
    covered = np.arange(2_000) % 3 > 0
    known = replace(work, seen=replace(work.seen, covered=covered), labelled=True)
    assert known.counted.tolist() == covered.tolist()
    budget, everything = RiskBudget(0.2, 0.1), np.ones(2_000, dtype=np.bool_)
    cascade = next(
        o for o in operate(known, patterns_of(known, budget, None), budget, NOW) if o.pattern.name == "cascade"
    )
    played = play_out(known, cascade, everything, Extra(0.0, 0.0, 0.0, 0.0))
    assert played.kept.any()
    assert not (played.tried | played.kept)[~covered].any()
    assert played.usd[~covered].tolist() == work.seen.cost_usd[~covered, 1].tolist()


def test_what_a_plan_certifies_holds_on_the_traffic_and_a_plain_pick_does_not() -> None:
    """Plans from samples of a known pool, δ = .1: violations stay within binom.ppf(.999); the plug-in's do not."""
    pool = mix(weak=0.75, verifier_auc=0.75, n=20_000)
    budget, runs = RiskBudget(0.1, 0.1), 300
    broken = broken_pick = 0
    kept = []
    chance = np.random.default_rng(0)
    for _ in range(runs):
        rows = chance.integers(0, len(pool), 700)
        seen = pool.seen.take(rows)
        sample = replace(pool, seen=seen, choosing=np.arange(700) < 280, labelled=True)
        wrong = 1 - pool.seen.grades[:, 0]
        found = operate(sample, patterns_of(sample, budget, None), budget, NOW)
        risks = [_risk(pool, option, wrong) for option in found if option.certified]
        broken += any(risk > budget.epsilon for risk in risks)
        kept += [float((pool.seen.p_ok[:, 0] >= o.accept_at).mean()) for o in found if o.certified and o.accept_at]
        cert = seen.p_ok[:, 0][280:], 1 - seen.grades[:, 0][280:]
        at = provisional(*cert, budget.epsilon)
        broken_pick += wrong[pool.seen.p_ok[:, 0] >= at].mean() > budget.epsilon
    most = binom.ppf(0.999, runs, budget.delta)
    assert broken <= most
    assert broken_pick > most
    assert np.mean(kept) > 0.2


def _risk(pool: Workload, option: Operated, wrong: np.ndarray) -> float:
    """The pool's true P(wrong | kept) under an option's thresholds."""
    kept = np.ones(len(pool), dtype=np.bool_)
    if option.route_at is not None:
        kept &= pool.seen.p_route[:, 0] >= option.route_at
    if option.accept_at is not None:
        kept &= pool.seen.p_ok[:, 0] >= option.accept_at
    return float(wrong[kept].mean()) if kept.any() else 0.0


def test_both_promises_hold_together_and_a_plain_pick_breaks_them() -> None:
    """Risk among the kept and drop against the frontier, proved by one sequence at δ = .1 on samples of a pool."""
    pool = mix(weak=0.75, verifier_auc=0.75, n=20_000)
    scores, cheap, frontier = pool.seen.p_ok[:, 0], pool.seen.grades[:, 0], pool.seen.grades[:, -1]
    epsilon, max_drop, runs = 0.15, 0.04, 300
    chance = np.random.default_rng(1)
    broken = broken_pick = 0
    kept = []
    for _ in range(runs):
        rows = chance.integers(0, len(pool), 1500)
        parts = [Paired(scores[r], cheap[r], frontier[r]) for r in (rows[:600], rows[600:])]
        try:
            at = certify_both(parts[0], parts[1], epsilon=epsilon, max_drop=max_drop, level=0.1).threshold
        except NotCertifiedError:
            at = np.inf
        kept.append(float((scores >= at).mean()))
        broken += _broken(pool, at, epsilon, max_drop)
        lost = parts[1].frontier_right - parts[1].cheap_right
        pick = provisional(parts[1].scores, 1 - parts[1].cheap_right, epsilon, lost, max_drop * 900)
        broken_pick += _broken(pool, pick, epsilon, max_drop)
    most = binom.ppf(0.999, runs, 0.1)
    assert broken <= most
    assert broken_pick > most
    assert np.mean(kept) > 0.25


def _broken(pool: Workload, at: float, epsilon: float, max_drop: float) -> bool:
    kept = pool.seen.p_ok[:, 0] >= at
    if not kept.any():
        return False
    drop = np.where(kept, pool.seen.grades[:, -1] - pool.seen.grades[:, 0], 0.0).mean()
    return bool((1 - pool.seen.grades[:, 0][kept]).mean() > epsilon or drop > max_drop)
