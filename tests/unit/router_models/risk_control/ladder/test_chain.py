"""A chain's thresholds: no better ones for one tier at a time, replayed as they are served, cheaper than jumps."""

from itertools import product

import numpy as np
import pytest

from router_models.planning.simulation.itineraries import policy_itineraries
from router_models.risk_control.certificates.risks import HARM_RISK
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.joint import certify_joint
from router_models.risk_control.ladder.chain import chained
from router_models.risk_control.ladder.tuning import Grid, always_top, pareto_path, soft_losses, tune_all
from router_models.types import Action
from router_models.versions.policy import Policy
from tests.unit.router_models.risk_control.test_thresholds import terms

TIERS = ("small", "medium", "large")
COST = (1.0, 6.0, 30.0)


def ladder(n: int, seed: int) -> CascadeEvidence:
    """Calibrated estimates of three tiers whose skill grows with their price."""
    rng = np.random.default_rng(seed)
    logits = np.array([0.6, 1.4, 2.4]) - rng.normal(0, 1.3, n)[:, None]
    right = rng.random((n, 3)) < 1 / (1 + np.exp(-logits))
    p_ok = 1 / (1 + np.exp(-(logits + 1.2 * (right - 0.5))))
    return CascadeEvidence.of(TIERS, 1 / (1 + np.exp(-logits[:, :2])), p_ok, COST, right)


def loss(data: CascadeEvidence, thresholds: Thresholds, weight: float) -> float:
    """What Stage A minimises, by the replay."""
    replayed = replay_policy(data, thresholds)
    lost = soft_losses(data, harm=True)[np.arange(len(data)), replayed.answered_by]
    return float((lost + weight * replayed.cost_usd).mean())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("weight", [0.002, 0.01, 0.05])
def test_no_other_thresholds_of_one_tier_are_better(seed: int, weight: float) -> None:
    data = ladder(400, seed)
    grid = Grid.of(data, harm=True)
    edges = list(zip(grid.route, grid.verify, strict=True))
    bins = list(zip(grid.route_bin.T, grid.verify_bin.T, strict=True))
    [start] = tune_all(data, grid, [weight], np.inf, harm=True)
    found = chained(data, start, edges, bins, soft_losses(data, harm=True), weight)
    assert found.chain
    assert loss(data, found, weight) <= loss(data, start, weight) + 1e-12
    for i in range(2):
        for route, accept in product((-np.inf, *edges[i][0], np.inf), (-np.inf, *edges[i][1], np.inf)):
            routes, accepts = list(found.route_at), list(found.accept_at)
            routes[i], accepts[i] = route, accept
            other = Thresholds(tuple(routes), tuple(accepts), found.abstain_below, chain=True)
            assert loss(data, found, weight) <= loss(data, other, weight) + 1e-9


def test_a_chain_is_replayed_as_it_is_decided_and_judged() -> None:
    data = ladder(300, 2)
    thresholds = Thresholds((0.4, 0.6), (0.8, 0.7), (-np.inf,) * 3, chain=True)
    replayed = replay_policy(data, thresholds)
    policy = Policy(TIERS, thresholds.points(TIERS), chain=True)
    ways = policy_itineraries(
        policy,
        {tier: data.p_route[:, i] for i, tier in enumerate(TIERS[:2])},
        {tier: data.p_ok[:, i] for i, tier in enumerate(TIERS)},
    )
    called = [[tier for step in way.steps for tier in step.tiers] for way in ways]
    assert [[TIERS[i] for i in np.flatnonzero(row)] for row in replayed.called] == called
    assert [TIERS[i] for i in replayed.answered_by] == [way.answered_by for way in ways]
    assert list(replayed.escalated) == [way.action is Action.ESCALATED for way in ways]
    assert {len(tiers) for tiers in called} == {1, 2, 3}, "the last tier alone, one before it, both"
    assert replayed.cost_usd == pytest.approx((data.cost_usd * replayed.called).sum(axis=1))


def test_a_faulty_answer_goes_on_along_the_chain() -> None:
    data = ladder(50, 3)
    broken = CascadeEvidence(*[getattr(data, f) for f in ("tiers", "p_route", "p_ok", "cost_usd", "right")],
                             faulty=np.tile([True, False], (50, 1)))  # fmt: skip
    replayed = replay_policy(broken, Thresholds((0.0, 0.0), (0.0, 0.0), (-np.inf,) * 3, chain=True))
    assert set(replayed.answered_by) == {1}


def test_two_tiers_are_the_same_with_and_without_a_chain() -> None:
    data = ladder(300, 4)
    pair = CascadeEvidence.of(TIERS[1:], data.p_route[:, 1:], data.p_ok[:, 1:], COST[1:], data.right[:, 1:])
    jump = Thresholds((0.5,), (0.8,), (-np.inf,) * 2)
    plain, chain = (replay_policy(pair, Thresholds(*jump_of(jump), chain=chain)) for chain in (False, True))
    assert (plain.answered_by == chain.answered_by).all()
    assert (plain.cost_usd == chain.cost_usd).all()


def jump_of(thresholds: Thresholds) -> tuple[tuple[float, ...], ...]:
    return thresholds.route_at, thresholds.accept_at, thresholds.abstain_below


def test_a_chains_settings_are_kept_with_its_certificate() -> None:
    tune, cert = ladder(800, 5), ladder(3000, 6)
    jump, chain = (certify_joint(tune, cert, terms(0.1), harm=True, escalation=where) for where in ("top", "next"))
    assert (jump.chain, chain.chain) == (False, True)
    assert chain.certificate.what == HARM_RISK
    assert chain.chosen is not None
    assert Thresholds.from_named(chain.certificate.settings, TIERS) == chain.chosen.thresholds
    assert "chain" not in jump.certificate.settings
    assert Thresholds.from_points(chain.points, TIERS, chain=True).chain
    counted = replay_policy(cert, chain.chosen.thresholds)
    assert (chain.certificate.accepted_n, chain.certificate.errors) == (
        counted.accepted.sum(),
        counted.harmed(cert.right).sum(),
    )
    assert chain.chosen.cost_usd < jump.chosen.cost_usd, "a tier between that is cheap and good saves"


def test_the_path_of_a_chain_ends_at_the_last_tier_alone_and_leaves_out_what_abstains_too_often() -> None:
    data = ladder(500, 7)
    path = pareto_path(data, harm=True, escalation="next")
    assert path[-1].thresholds == always_top(3)
    assert all(c.thresholds.chain for c in path[:-1])
    risks = [c.risk for c in path]
    assert risks == sorted(risks, reverse=True)
    silent = pareto_path(data, abstain_share=0.1, escalation="next")
    assert all(c.abstain <= 0.1 for c in silent)
    assert any(c.abstain > 0 for c in silent)
    assert all(c.thresholds.abstain_below[:2] == (-np.inf, -np.inf) for c in silent if c.thresholds.chain)
