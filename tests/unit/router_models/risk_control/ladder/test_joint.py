"""Joint thresholds of a ladder: the rules of the policy, the minimum of Stage A, the certificate of Stage B."""

import itertools
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.errors import DataError, NotCertifiedError
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ABSTAIN_RISK, ANSWERED_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.joint import certify_joint
from router_models.risk_control.joint_path import PathBudget, follow, nothing_rejected
from router_models.risk_control.labels import labels_needed, p_value
from router_models.risk_control.ladder.tuning import (
    PATH,
    Grid,
    always_top,
    edges_of,
    pareto_path,
    predict,
    tune_all,
)
from router_models.types import Action
from router_models.versions.policy import Policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIERS = ("small", "medium", "large")


def terms(epsilon: float, delta: float = 0.1, look_index: int = 0) -> CertificateTerms:
    return CertificateTerms(epsilon, delta, "human", NOW, NOW + timedelta(days=30), look_index=look_index)


def ladder(n: int, seed: int, tiers: int = 3) -> CascadeEvidence:
    """Calibrated by construction: labels are drawn from the estimates themselves."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1.5, n)
    skills = np.array([1.0, 2.2, 3.4])[3 - tiers :]
    p_ok = 1 / (1 + np.exp(-(skills - difficulty[:, None] + rng.normal(0, 0.7, (n, tiers)))))
    p_route = 1 / (1 + np.exp(-(skills[:-1] - 0.8 * difficulty[:, None] + rng.normal(0, 0.5, (n, tiers - 1)))))
    cost = np.array([1.0, 6.0, 30.0])[3 - tiers :]
    return CascadeEvidence.of(TIERS[3 - tiers :], p_route, p_ok, cost, rng.random((n, tiers)) < p_ok)


probability = st.one_of(st.floats(0, 1, width=16), st.sampled_from([0.0, 0.5, 1.0]))
cut = st.one_of(probability, st.just(-np.inf), st.just(np.inf))


@given(
    st.lists(st.tuples(*[probability] * 5), min_size=1, max_size=8),
    st.tuples(cut, cut),
    st.tuples(cut, cut),
    st.tuples(*[st.one_of(probability, st.just(-np.inf))] * 3),
)
def test_playing_a_ladder_is_what_the_served_policy_does(rows, route_at, accept_at, abstain_below):
    # An answer is never both accepted and abstained on: Stage A only proposes abstain ≤ accept.
    accept_at = tuple(max(a, b) for a, b in zip(accept_at, abstain_below, strict=False))
    data = CascadeEvidence.of(TIERS, [r[:2] for r in rows], [r[2:] for r in rows], (1.0, 6.0, 30.0))
    thresholds = Thresholds(route_at, accept_at, abstain_below)
    policy = Policy(TIERS, thresholds.points(TIERS))
    replayed = replay_policy(data, thresholds)
    for i, row in enumerate(rows):
        decision = policy.decide({"small": row[0], "medium": row[1]})
        calls = [decision.tier]
        verdict = policy.judge(decision.tier, row[2 + TIERS.index(decision.tier)])
        if verdict.action is Action.ESCALATED:
            calls.append("large")
            verdict = policy.judge("large", row[4])
        abstained = verdict.action is Action.ABSTAINED
        assert replayed.answered_by[i] == (-1 if abstained else TIERS.index(calls[-1]))
        assert replayed.cost_usd[i] == sum({"small": 1.0, "medium": 6.0, "large": 30.0}[t] for t in calls)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 1))
def test_raising_a_router_score_never_moves_a_query_to_a_dearer_tier(seed, tier):
    data = ladder(30, seed)
    thresholds = Thresholds((0.6, 0.7), (0.5, 0.5), (-np.inf,) * 3)
    raised = data.p_route.copy()
    raised[:, tier] = np.minimum(raised[:, tier] + 0.2, 1.0)
    policy = Policy(TIERS, thresholds.points(TIERS))
    for before, after in zip(data.p_route, raised, strict=True):
        first, then = (TIERS.index(policy.decide(dict(zip(TIERS, p, strict=False))).tier) for p in (before, after))
        assert then <= first


@pytest.mark.parametrize("tiers", [2, 3])
@pytest.mark.parametrize("abstain_weight", [np.inf, 0.35])
def test_stage_a_finds_the_grids_minimum(tiers, abstain_weight):
    data = ladder(120, 1, tiers)
    grid = Grid.of(data)
    coarse = [np.concatenate([[-np.inf], e[::5], [np.inf]]) for e in (*grid.route, *grid.verify)]
    top_abstain = 1 - abstain_weight if abstain_weight < 1 else -np.inf

    def loss(thresholds: Thresholds, cost_weight: float) -> float:
        replayed = replay_policy(data, thresholds)
        answered = ~replayed.abstained
        soft = data.p_ok[np.arange(len(data)), np.maximum(replayed.answered_by, 0)]
        silent = abstain_weight * replayed.abstained.mean() if replayed.abstained.any() else 0.0
        return ((1 - soft) * answered).mean() + cost_weight * replayed.cost_usd.mean() + silent

    for cost_weight in (0.001, 0.01):
        found = tune_all(data, grid, [cost_weight], abstain_weight)[0]
        others = []
        for route in itertools.product(*coarse[: tiers - 1]):
            for accept in itertools.product(*coarse[tiers - 1 :]):
                below = (
                    [(-np.inf,)] if np.isinf(abstain_weight) else itertools.product([-np.inf, 0.2], repeat=tiers - 1)
                )
                for abstain in below:
                    silent = (*abstain, *(-np.inf,) * (tiers - 1 - len(abstain)))
                    if all(s <= a for s, a in zip(silent, accept, strict=True)):
                        others.append(loss(Thresholds(route, accept, (*silent, top_abstain)), cost_weight))
        assert loss(found, cost_weight) <= min(others) + 1e-9


def test_forbidden_abstention_never_happens():
    data = ladder(400, 2)
    for configuration in pareto_path(data):
        assert configuration.abstain == 0
        assert set(configuration.thresholds.abstain_below) == {-np.inf}


def test_the_path_descends_in_risk_rises_in_cost_and_keeps_the_cap():
    path = pareto_path(ladder(800, 3), abstain_share=0.1)
    assert 3 <= len(path) <= 100
    risks = [c.risk for c in path]
    assert risks == sorted(risks, reverse=True)
    front = [c for c in path if c.thresholds != always_top(3)]
    assert [c.cost_usd for c in front] == sorted(c.cost_usd for c in front)
    assert all(c.abstain <= 0.1 for c in path)
    assert any(c.thresholds == always_top(3) for c in path)


def test_early_abstention_saves_cost_at_equal_risk():
    """Allowed to be silent, the ladder reaches the same predicted risk for less (arXiv 2502.09054)."""
    data = ladder(4000, 4)
    speaking, silent = pareto_path(data), pareto_path(data, abstain_share=0.1)
    at = predict(data, always_top(3)).risk
    assert min(c.cost_usd for c in silent if c.risk <= at) < 0.9 * min(c.cost_usd for c in speaking if c.risk <= at)
    assert any(t > -np.inf for c in silent for t in c.thresholds.abstain_below[:-1]), (
        "some abstain before the top tier"
    )


def test_the_certificate_counts_what_the_whole_system_answered():
    tune, cert = ladder(500, 5), ladder(1500, 6)
    result = certify_joint(tune, cert, terms(0.2), abstain_share=0.1)
    c = result.certificate
    replayed = replay_policy(cert, result.chosen.thresholds)
    assert c.what == ANSWERED_RISK
    assert (c.n, c.accepted_n, c.errors) == (1500, (~replayed.abstained).sum(), replayed.wrong(cert.right).sum())
    assert p_value(c.errors, c.accepted_n, 0.2) <= 0.1
    assert [p.what for p in c.also] == [ABSTAIN_RISK]
    assert c.also[0].errors == replayed.abstained.sum()
    assert p_value(c.also[0].errors, 1500, 0.1) <= 0.1
    assert c.settings["small.route_at"] == result.chosen.thresholds.route_at[0]
    assert Certificate.from_json(c.to_json()) == c
    assert Policy(TIERS, result.points)
    path = result.paths[""]
    cheaper = [x.cost_usd for x, ok in zip(path.configurations, path.rejected, strict=True) if ok]
    assert result.chosen.cost_usd == min(cheaper)


def test_unlabelled_traffic_is_enough_for_stage_a():
    tune, cert = ladder(500, 5), ladder(1500, 6)
    blind = CascadeEvidence(tune.tiers, tune.p_route, tune.p_ok, tune.cost_usd)
    result = certify_joint(blind, cert, terms(0.2))
    assert result.certificate.errors / result.certificate.accepted_n < 0.2


def test_three_tiers_are_certified_in_under_five_seconds():
    tune, cert = ladder(5000, 7), ladder(5000, 8)
    started = time.process_time()
    certify_joint(tune, cert, terms(0.2), abstain_share=0.1)
    assert time.process_time() - started < 5


def test_an_unreachable_budget_is_explained_with_what_always_top_would_err():
    tune, cert = ladder(500, 5), ladder(800, 6)
    with pytest.raises(NotCertifiedError, match=r"always large: \d") as caught:
        certify_joint(tune, cert, terms(0.01))
    assert caught.value.labels_missing is None


def test_too_few_labels_are_counted():
    tune, cert = ladder(500, 5), ladder(20, 6)
    with pytest.raises(NotCertifiedError, match="more labels are needed") as caught:
        certify_joint(tune, cert, terms(0.15))
    assert caught.value.labels_missing > 10


def test_what_lies_behind_a_gap_is_not_certified_however_small_its_p_value():
    """The tests end at the first that fails: what is riskier on TUNE was not tested, whatever CERT says of it."""
    n, only = 300, {"small": (-np.inf, -np.inf), "medium": (np.inf, -np.inf), "large": (np.inf, np.inf)}
    thresholds = [Thresholds(only[tier], (-np.inf,) * 2, (-np.inf,) * 3) for tier in TIERS]
    even, ok = np.full((n, 2), 0.5), np.tile([0.9, 0.95, 0.99], (n, 1))
    tune = CascadeEvidence.of(TIERS, even, ok, (1.0, 6.0, 30.0), np.arange(n)[:, None] >= [30, 15, 0])
    cert = CascadeEvidence.of(TIERS, even, ok, (1.0, 6.0, 30.0), np.tile([True, False, True], (n, 1)))
    path = follow([predict(tune, t) for t in thresholds], tune, cert, PathBudget(0.2, 0.1))
    assert path.anchor == 2
    assert (path.p_values <= 0.1).tolist() == [True, False, True]
    assert path.rejected.tolist() == [False, False, True]


def certain(n: int, *, silent: int = 0) -> CascadeEvidence:
    """Nobody errs; of the first `silent` prompts the top tier's verifier thinks little."""
    p_ok = np.where(np.arange(n) < silent, 0.1, 0.9)[:, None] * np.ones(2)
    return CascadeEvidence.of(("small", "large"), np.zeros((n, 1)), p_ok, (1.0, 30.0), np.ones((n, 2)))


QUIET = Thresholds((np.inf,), (-np.inf,), (-np.inf, 0.5))
"""Always the top tier, which says nothing where its verifier thinks little."""


def test_where_abstention_has_no_proof_the_refusal_counts_its_labels():
    tune, cert, budget = certain(200, silent=2), certain(60, silent=1), PathBudget(0.2, 0.1, abstain_share=0.05)
    path = follow((predict(tune, QUIET),), tune, cert, budget)
    assert not path.rejected.any()
    refused = nothing_rejected(path, tune, cert, budget)
    assert refused.labels_missing == labels_needed(0.05, 2 / 200, 0.1) - 60 == 72
    assert "abstained on 1 of 60 CERT prompts" in refused.reason
    assert "for a share of 0.05" in refused.reason


def test_where_a_largest_drop_has_no_proof_no_number_of_labels_is_made_up():
    with pytest.raises(
        NotCertifiedError, match=r"changes the share right by 0\.0 points .* a drop of 0\.005"
    ) as caught:
        certify_joint(certain(300), certain(300), terms(0.3), max_drop=0.005)
    assert caught.value.reason.endswith("allow a larger drop, or label more")
    assert caught.value.labels_missing is None


def test_unusable_ladders_are_refused():
    good = ladder(10, 0)
    for change, message in (
        ({"p_ok": good.p_ok * 2}, "calibrated probabilities"),
        ({"p_route": good.p_ok}, "p_route"),
        ({"cost_usd": (1.0, 40.0, 30.0)}, "'medium' costs 40"),
        ({"cost_usd": (0.0, 0.0, 0.0)}, "costs nothing"),
        ({"cost_usd": (-1.0, 1.0, 2.0)}, "not negative"),
        ({"right": np.full((10, 3), 0.5)}, "0 or 1"),
    ):
        columns = {"p_route": good.p_route, "p_ok": good.p_ok, "cost_usd": good.cost_usd, "right": good.right} | change
        with pytest.raises(DataError, match=message):
            CascadeEvidence.of(TIERS, **columns)
    blind = CascadeEvidence(good.tiers, good.p_route, good.p_ok, good.cost_usd)
    with pytest.raises(DataError, match="no labels"):
        certify_joint(good, blind, terms(0.2))
    with pytest.raises(DataError, match="TUNE is about"):
        certify_joint(ladder(10, 0, tiers=2), good, terms(0.2))


def test_a_fine_path_ends_nearer_to_the_last_configuration_that_holds():
    """A path of 20 leaves out what lies between; a finer one costs no confidence: none is divided by its length."""
    assert [edges_of(tiers) for tiers in (2, 3, 4)] == [100, 40, 20]
    assert len(pareto_path(ladder(800, 3), harm=True)) > 60
    budget, cost = PathBudget(0.1, 0.1, harm=True), {20: [], PATH: []}
    for seed in range(12):
        tune, cert = ladder(300, seed), ladder(1000, 100 + seed)
        for size, costs in cost.items():
            path = follow(pareto_path(tune, size=size, harm=True), tune, cert, budget)
            held = [c for c, rejected in zip(path.configurations, path.rejected, strict=True) if rejected]
            costs.append(min(c.cost_usd for c in held) / cert.cost_usd[:, -1].mean())
    assert np.mean(cost[PATH]) < np.mean(cost[20]) - 0.01
