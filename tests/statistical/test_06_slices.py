"""Experiment 6: eight slices, each promised by itself; a certificate of the whole breaks in its hardest slices."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import certify_threshold

DELTA = 0.05
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def terms(epsilon: float) -> CertificateTerms:
    return CertificateTerms(epsilon, DELTA, "programmatic", NOW, NOW + timedelta(90))


def eight_largest(pool):
    names, counts = np.unique(pool.slices, return_counts=True)
    rows = np.isin(pool.slices, names[np.argsort(-counts)[:8]])
    return type(pool)(pool.scores[rows], pool.wrong[rows], pool.slices[rows])


@pytest.mark.parametrize(
    ("name", "epsilon", "common", "useful"),
    # Three of MMLU's eight largest subjects are wrong half of the time or more: nothing can be promised there.
    [("slices", 0.15, True, 4), ("slices", 0.15, False, 6), ("mmlu", 0.25, False, 2)],
)
def test_no_certified_slice_breaks_its_promise(name, epsilon, common, useful, pools, size, allowed, measured):
    pool, runs = eight_largest(pools(name)), size(80, 1000)
    rng = np.random.default_rng(7)
    inside = {s: pool.slices == s for s in np.unique(pool.slices)}
    broken = whole_broken = 0
    held, shares = [], []
    for _ in range(runs):
        tune, cert = (rng.integers(0, len(pool), m) for m in (2000, 4000))
        sliced = [Labelled(pool.scores[r], pool.wrong[r], tuple(pool.slices[r])) for r in (tune, cert)]
        whole = [Labelled(pool.scores[r], pool.wrong[r]) for r in (tune, cert)]
        try:
            c = certify_threshold(*sliced, terms(epsilon), common_threshold=common)
            at = {s: c.threshold_for(s) for s in inside}
            broken += any(pool.risk_and_share(t, inside[s])[0] > epsilon for s, t in at.items())
            held.append(sum(t < np.inf for t in at.values()))
            shares.append(np.mean([pool.risk_and_share(t, inside[s])[1] for s, t in at.items()]))
        except NotCertifiedError:
            held.append(0)
            shares.append(0.0)
        t = certify_threshold(*whole, terms(epsilon)).threshold
        whole_broken += any(pool.risk_and_share(t, rows)[0] > epsilon for rows in inside.values())
    limit = allowed(runs, DELTA)
    measured(
        f"ε={epsilon} B={runs} {'one threshold' if common else 'own thresholds'}: broken {broken} (≤ {limit}), "
        f"without slices {whole_broken}; slices certified {np.mean(held):.1f} of 8, accepted {np.mean(shares):.2f}"
    )
    assert broken <= limit
    assert whole_broken > limit, "the negative control must fail"
    assert np.mean(held) >= useful, "a certificate for hardly any slice is of no use"
