"""Experiment 16: a promise about harm is kept by two tiers and by a ladder.

A plug-in threshold breaks it, and so does a grader who is harsh with the last tier alone.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.certify import Guarantee, certify_policy, routed
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.joint import certify_joint
from router_models.risk_control.joint_path import counts
from router_models.risk_control.ladder.tuning import Escalation
from router_models.risk_control.sequence import Labelled, counts_at, quantile_grid
from router_models.types import OperatingPoint

DELTA = 0.1
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLACED = {"small": OperatingPoint(0.0, 0.5), "large": OperatingPoint(np.inf, -np.inf)}
Pair = tuple[np.ndarray, np.ndarray]


def terms(epsilon: float) -> CertificateTerms:
    return CertificateTerms(epsilon, DELTA, "programmatic", NOW, NOW + timedelta(days=90))


def evidence(tiers: tuple[str, ...], scores: np.ndarray, right: np.ndarray, route: np.ndarray) -> CascadeEvidence:
    cost = (1.0, 6.0, 30.0) if len(tiers) == 3 else (1.0, 30.0)
    return CascadeEvidence.of(tiers, route, scores, cost, right)


def synthetic() -> CascadeEvidence:
    """A cheap tier whose score is too sure of itself, and a last one that errs mostly on the same hard questions."""
    rng = np.random.default_rng(31)
    n = 20_000
    z = rng.normal(1.0, 1.5, n)
    right = np.column_stack([rng.random(n) < 1 / (1 + np.exp(-z)), rng.random(n) < 1 / (1 + np.exp(-(z + 1)))])
    scores = np.column_stack([1 / (1 + np.exp(-1.5 * z)), np.full(n, 0.8)])
    return evidence(("small", "large"), scores, right, np.ones((n, 1)))


def answers(table) -> CascadeEvidence:
    """Llama 8B before gpt-4o, by the confidence of the answer's tokens."""
    small, large = "Meta-Llama-3.1-8B-Instruct", "gpt-4o"
    table = table[[small, large, f"{small}|max_token_confidence"]].dropna()
    right = table[[small, large]].to_numpy() > 0.5
    score = np.clip(table[f"{small}|max_token_confidence"].to_numpy(float), 0, 1)
    scores = np.column_stack([score, np.full(len(score), 0.8)])
    return evidence(("small", "large"), scores, right, np.ones((len(score), 1)))


@pytest.fixture(scope="module", params=[("synthetic", 0.10), ("answers", 0.10)], ids=lambda given: given[0])
def population(request):
    name, epsilon = request.param
    return (synthetic() if name == "synthetic" else answers(request.getfixturevalue("qa_table"))), epsilon


def plug_in(cert: Labelled, grid: np.ndarray, epsilon: float) -> float:
    """The most lenient threshold whose harm on the labels is within the budget."""
    accepted, harmed = counts_at(grid, cert)
    fits = np.flatnonzero(harmed <= epsilon * accepted)
    return float(grid[fits[0]]) if len(fits) else np.inf


def harm_and_share(whole: CascadeEvidence, threshold: float) -> tuple[float, float]:
    """True P(cheap wrong and last right | accepted) and P(accepted)."""
    kept = whole.p_ok[:, 0] >= threshold
    return (float(whole.harm[kept, 0].mean()) if kept.any() else 0.0), float(kept.mean())


def harshly_graded(seen: CascadeEvidence, rng: np.random.Generator, share: float = 0.3) -> CascadeEvidence:
    """Some of the last tier's right answers marked wrong."""
    grades = seen.grades
    grades[:, -1] *= rng.random(len(grades)) >= share
    return CascadeEvidence.of(seen.tiers, seen.p_route, seen.p_ok, seen.cost_usd, grades)


def test_harm_stays_within_its_bound_where_plug_in_and_harsh_grading_of_the_last_tier_break_it(
    population: tuple[CascadeEvidence, float],
    size: Callable[[int, int], int],
    allowed: Callable[[int, float], int],
    measured: Callable[[str], None],
) -> None:
    whole, epsilon = population
    runs, rng, promised = size(200, 2000), np.random.default_rng(32), Guarantee("harm")
    oracle = max(
        (share for at in quantile_grid(whole.p_ok[:, 0], 200) for harm, share in [harm_and_share(whole, at)]
         if harm <= epsilon), default=0.0,
    )  # fmt: skip
    broken = plugged = harsh = none = 0
    shares = []
    for _ in range(runs):
        tune, cert = (whole.take(rng.integers(0, len(whole), n)) for n in (300, 1000))
        try:
            made = certify_policy(tune, cert, promised, terms(epsilon), PLACED).certificate
            harm, share = harm_and_share(whole, made.threshold)
            broken += harm > epsilon
            shares.append(share)
        except NotCertifiedError:
            none += 1
            shares.append(0.0)
        grid = quantile_grid(tune.p_ok[:, 0])
        plugged += harm_and_share(whole, plug_in(routed(cert, 0.0, harm=True), grid, epsilon))[0] > epsilon
        try:
            seen = (harshly_graded(part, rng) for part in (tune, cert))
            made = certify_policy(*seen, promised, terms(epsilon), PLACED).certificate
            harsh += harm_and_share(whole, made.threshold)[0] > epsilon
        except NotCertifiedError:
            pass
    limit, useful = allowed(runs, DELTA), np.mean(shares) / oracle
    measured(
        f"ε={epsilon} B={runs}: broken {broken} (≤ {limit}), plug-in {plugged}, 30 % of right last answers marked "
        f"wrong {harsh}; accepted {np.mean(shares):.3f} = {useful:.0%} of the oracle's, none {none / runs:.1%}"
    )
    assert broken <= limit
    assert plugged > limit, "the negative control must fail"
    assert harsh > limit, "the negative control must fail"
    assert useful >= 0.6


def ladder() -> CascadeEvidence:
    """Three tiers; the largest is right four times in five."""
    rng = np.random.default_rng(33)
    n = 6000
    logits = np.array([0.6, 1.4, 2.0]) - rng.normal(0, 1.3, n)[:, None]
    right = rng.random((n, 3)) < 1 / (1 + np.exp(-logits))
    scores = 1 / (1 + np.exp(-(0.7 * logits + 1.1 * (right - 0.5) + rng.normal(0.2, 0.7, (n, 3)))))
    route = 1 / (1 + np.exp(-(0.5 * logits[:, :2] + rng.normal(0, 0.8, (n, 2)))))
    return evidence(("small", "medium", "large"), scores, right, route)


@pytest.mark.parametrize("escalation", ["top", "next"])
def test_harm_of_a_ladder_and_of_a_chain_stays_within_its_bound(
    escalation: Escalation,
    size: Callable[[int, int], int],
    allowed: Callable[[int, float], int],
    measured: Callable[[str], None],
) -> None:
    whole, epsilon = ladder(), 0.10
    runs, rng = size(60, 500), np.random.default_rng(34)
    broken = picked = none = 0
    saved = []

    def truth(thresholds: Thresholds) -> tuple[float, float]:
        replayed = replay_policy(whole, thresholds)
        harm = replayed.harmed(whole.right).sum() / max(int(replayed.accepted.sum()), 1)
        return float(harm), float(1 - replayed.cost_usd.mean() / whole.cost_usd[:, -1].mean())

    for _ in range(runs):
        tune, cert = (whole.take(rng.integers(0, len(whole), n)) for n in (200, 1500))
        try:
            found = certify_joint(tune, cert, terms(epsilon), harm=True, escalation=escalation)
        except NotCertifiedError:
            none += 1
            saved.append(0.0)
            continue
        assert found.chosen is not None
        harm, saving = truth(found.chosen.thresholds)
        broken += harm > epsilon
        saved.append(saving)
        path = found.paths[""]
        tuned = [counts(tune, c.thresholds, harm=True) for c in path.configurations]
        fits = [kept > 0 and harmed <= epsilon * kept for kept, harmed, _ in tuned]  # the riskiest that looks fine
        picked += any(fits) and truth(path.configurations[fits.index(True)].thresholds)[0] > epsilon
    limit = allowed(runs, DELTA)
    measured(
        f"ladder, rejected to {escalation}, ε={epsilon} B={runs}: broken {broken} (≤ {limit}), plug-in {picked}, "
        f"none certified {none}; saved {np.mean(saved):.0%} of the cost"
    )
    assert broken <= limit
    assert picked > limit, "the negative control must fail"
    assert np.mean(saved) > 0.1
