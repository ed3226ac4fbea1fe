"""Experiment 1: a certified threshold keeps its promise, a plug-in threshold does not, and little is lost."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled, counts_at, quantile_grid
from router_models.risk_control.thresholds import certify_threshold

DELTA = 0.1
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def plug_in(cert: Labelled, grid: np.ndarray, epsilon: float) -> float:
    """What most people do: the most lenient threshold whose error on the labels is within the budget."""
    accepted, wrong = counts_at(grid, cert)
    fits = np.flatnonzero(wrong <= epsilon * accepted)
    return float(grid[fits[0]]) if len(fits) else np.inf


@pytest.mark.parametrize(
    ("name", "epsilon", "n"),
    [
        ("synthetic", 0.10, 1000),
        ("qa-8b", 0.15, 800),
        ("qa-8b-easy", 0.10, 300),
        ("qa-70b", 0.15, 1000),
        ("mmlu", 0.25, 1000),
    ],
)
def test_certified_thresholds_keep_the_risk_and_plug_in_thresholds_do_not(
    name, epsilon, n, pools, size, allowed, measured
):
    pool, runs = pools(name), size(200, 2000)
    rng = np.random.default_rng(1)
    broken = plug_in_broken = none = 0
    shares = []
    for _ in range(runs):
        tune, cert = (rng.integers(0, len(pool), m) for m in (300, n))
        tune, cert = (Labelled.of(pool.scores[rows], pool.wrong[rows]) for rows in (tune, cert))
        grid = quantile_grid(tune.scores)
        try:
            certificate = certify_threshold(
                tune, cert, CertificateTerms(epsilon, DELTA, "programmatic", NOW, NOW + timedelta(days=90))
            )
            risk, share = pool.risk_and_share(certificate.threshold)
            broken += risk > epsilon
            shares.append(share)
        except NotCertifiedError:
            none += 1
            shares.append(0.0)
        plug_in_broken += pool.risk_and_share(plug_in(cert, grid, epsilon))[0] > epsilon
    useful = np.mean(shares) / pool.oracle_share(epsilon)
    measured(
        f"ε={epsilon} n={n} B={runs}: broken {broken} (≤ {allowed(runs, DELTA)}), plug-in {plug_in_broken}, "
        f"accepted {np.mean(shares):.3f} = {useful:.0%} of the oracle's, no certificate {none / runs:.1%}"
    )
    assert broken <= allowed(runs, DELTA)
    assert plug_in_broken > allowed(runs, DELTA), "the negative control must fail"
    assert useful >= 0.75
