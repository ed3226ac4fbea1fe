"""Experiment 23: a promise about all that a router sends to the cheap tier, judged by nobody, is kept.

So is that of the cheaper of two patterns that share δ. A plug-in routing threshold breaks it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.certify import Guarantee, certify_policy
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.sequence import quantile_grid
from router_models.types import OperatingPoint

DELTA, EPSILON = 0.1, 0.1
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLACED = {"small": OperatingPoint(0.3, 0.5), "large": OperatingPoint(np.inf, -np.inf)}


def terms(patterns: int = 1) -> CertificateTerms:
    return CertificateTerms(EPSILON, DELTA, "programmatic", NOW, NOW + timedelta(days=90), patterns_tried=patterns)


@pytest.fixture(scope="module")
def whole() -> CascadeEvidence:
    """A router that is too sure of itself, a verifier that sees more, some answers that break their shape."""
    rng = np.random.default_rng(231)
    n = 20_000
    z = rng.normal(1.2, 1.6, n)
    right = np.column_stack([rng.random(n) < 1 / (1 + np.exp(-z)), rng.random(n) < 1 / (1 + np.exp(-(z + 1.5)))])
    faulty = ~right[:, :1] & (rng.random((n, 1)) < 0.2)
    route = 1 / (1 + np.exp(-(1.4 * z + rng.normal(0, 0.8, n))))
    judged = 1 / (1 + np.exp(-(1.4 * z + 1.5 * (right[:, 0] - 0.5) + rng.normal(0, 0.5, n))))
    seen = CascadeEvidence.of(
        ("small", "large"), route[:, None], np.column_stack([judged, np.full(n, 0.8)]), (1.0, 20.0), right
    )
    return replace(seen, faulty=faulty)


def true_risk(whole: CascadeEvidence, points: dict[str, OperatingPoint]) -> tuple[float, float]:
    """True P(harm | a cheap answer is given), and the share of prompts that get one."""
    replayed = replay_policy(whole, Thresholds.from_points(points, whole.tiers))
    assert whole.right is not None
    kept = int(replayed.accepted.sum())
    return float(replayed.harmed(whole.right).sum()) / max(kept, 1), kept / len(whole)


def routed_from(at: float) -> dict[str, OperatingPoint]:
    return {"small": OperatingPoint(at, -np.inf)}


def plug_in(tune: CascadeEvidence, cert: CascadeEvidence) -> dict[str, OperatingPoint]:
    """The most lenient threshold whose harm on the labels is within the budget."""
    found = (routed_from(float(at)) for at in quantile_grid(tune.p_route[:, 0]))
    return next((points for points in found if true_risk(cert, points)[0] <= EPSILON), {})


def test_a_pre_routed_promise_holds_where_a_plug_in_threshold_breaks_it(
    whole: CascadeEvidence,
    size: Callable[[int, int], int],
    allowed: Callable[[int, float], int],
    measured: Callable[[str], None],
) -> None:
    runs, rng, promised = size(150, 2000), np.random.default_rng(232), Guarantee("harm", pre_route=True)
    possible = (true_risk(whole, routed_from(float(at))) for at in quantile_grid(whole.p_route[:, 0], 200))
    oracle = max((share for harm, share in possible if harm <= EPSILON), default=0.0)
    broken = plugged = cheaper = 0
    shares = []
    for _ in range(runs):
        tune, cert = (whole.take(rng.integers(0, len(whole), n)) for n in (300, 1000))
        made: dict[str, list[dict[str, OperatingPoint]]] = {"alone": [], "of two": []}
        for way, guarantee, share in (
            ("alone", promised, terms()),
            ("of two", promised, terms(2)),
            ("of two", Guarantee("harm"), terms(2)),
        ):
            with suppress(NotCertifiedError):
                made[way].append(dict(certify_policy(tune, cert, guarantee, share, PLACED).points))
        harm, share_kept = true_risk(whole, made["alone"][0]) if made["alone"] else (0.0, 0.0)
        broken += harm > EPSILON
        shares.append(share_kept)
        taken = min(
            made["of two"],
            key=lambda points: replay_policy(cert, Thresholds.from_points(points, cert.tiers)).cost_usd.mean(),
            default={},
        )
        cheaper += true_risk(whole, taken)[0] > EPSILON
        plugged += true_risk(whole, plug_in(tune, cert))[0] > EPSILON
    limit = allowed(runs, DELTA)
    measured(
        f"ε={EPSILON} B={runs}: broken {broken} (≤ {limit}), the cheaper of two patterns {cheaper}, "
        f"plug-in {plugged}; routed {np.mean(shares):.3f} = {np.mean(shares) / oracle:.0%} of the oracle's"
    )
    assert broken <= limit
    assert cheaper <= limit
    assert plugged > limit, "the negative control must fail"
    assert np.mean(shares) >= 0.6 * oracle


def test_answers_that_a_rule_sends_on_belong_to_no_thresholds_answers(whole: CascadeEvidence) -> None:
    cert = whole.take(np.arange(2000))
    made = certify_policy(whole.take(np.arange(2000, 3000)), cert, Guarantee("harm", pre_route=True), terms(), {})
    kept = (cert.p_route[:, 0] >= made.points["small"].route_at) & ~cert.faulty[:, 0]
    assert (made.certificate.accepted_n, made.certificate.errors) == (kept.sum(), cert.harm[kept, 0].sum())
    assert true_risk(cert, dict(made.points))[1] == pytest.approx(kept.mean())
    sound = replace(cert, faulty=None)
    assert true_risk(sound, dict(made.points))[1] > kept.mean()
