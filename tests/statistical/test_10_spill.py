"""Experiment 10: an overload fallback keeps its promise of the answers it serves, though the same labels chose them.

`accept_at` and `serve_at` are both chosen on one CERT sample. In the tight null every rejected answer is wrong with a
probability just above ε₂, so that any such certificate is a broken promise, and where the rejected begin is
decided by luck with the very same labels.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled, counts_at, quantile_grid
from router_models.risk_control.thresholds import certify_threshold
from router_models.training.certify_overload import certify_overload

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DELTA = 0.1


def terms(epsilon: float) -> CertificateTerms:
    return CertificateTerms(epsilon, DELTA, "programmatic", NOW, NOW + timedelta(days=90))


def below(data: Labelled, accept_at: float) -> Labelled:
    rows = data.scores < accept_at
    return Labelled.of(data.scores[rows], data.wrong[rows])


def both(tune: Labelled, cert: Labelled, epsilon: float, overload_epsilon: float) -> tuple[float, float | None]:
    """`accept_at` and `serve_at` (None: none certified), each at δ = .1, as `certify --spill-epsilon` finds them."""
    accept_at = certify_threshold(tune, cert, terms(epsilon)).threshold_for()
    try:
        made = certify_overload(below(tune, accept_at), below(cert, accept_at), terms(overload_epsilon))
    except NotCertifiedError:
        return accept_at, None
    return accept_at, made.threshold_for()


def plug_in(tune: Labelled, cert: Labelled, epsilon: float) -> float | None:
    """The most lenient threshold whose error on the labels is within the budget."""
    if len(tune) == 0:
        return None
    grid = quantile_grid(tune.scores)
    spilled, wrong = counts_at(grid, cert)
    fits = np.flatnonzero((spilled > 0) & (wrong <= epsilon * spilled))
    return float(grid[fits[0]]) if len(fits) else None


@pytest.mark.parametrize(("epsilon", "overload_epsilon", "n"), [(0.1, 0.35, 1500), (0.1, 0.3, 3000)])
def test_spilled_answers_keep_their_risk_and_naively_spilled_ones_do_not(
    epsilon, overload_epsilon, n, pools, size, allowed, measured
):
    pool, runs = pools("synthetic"), size(200, 2000)
    rng = np.random.default_rng(1)
    broken = naive_broken = certified = total = 0
    shares = []
    for _ in range(runs):
        tune, cert = (rng.integers(0, len(pool), m) for m in (n // 2, n))
        tune, cert = (Labelled.of(pool.scores[rows], pool.wrong[rows]) for rows in (tune, cert))
        try:
            accept_at, serve_at = both(tune, cert, epsilon, overload_epsilon)
        except NotCertifiedError:
            continue
        total += 1
        rejected = pool.scores < accept_at
        if serve_at is not None:
            risk, share = pool.risk_and_share(serve_at, rejected)
            certified += 1
            broken += risk > overload_epsilon
            shares.append(share)
        naive = plug_in(below(tune, accept_at), below(cert, accept_at), overload_epsilon)
        naive_broken += naive is not None and pool.risk_and_share(naive, rejected)[0] > overload_epsilon
    share = np.mean(shares) if shares else 0.0
    measured(
        f"ε₂={overload_epsilon} n={n} B={total}: broken {broken} (≤ {allowed(total, DELTA)}), naive {naive_broken}, "
        f"certified {certified / total:.0%}, spilling {share:.0%} of the rejected"
    )
    assert total > runs / 2
    assert broken <= allowed(total, DELTA)
    assert naive_broken > allowed(total, DELTA)
    assert certified > total / 3
    assert share > 0.1


def test_tight_null_where_luck_with_the_same_labels_says_who_is_rejected(size, allowed, measured):
    runs, overload_epsilon = size(400, 20_000), 0.3
    rng = np.random.default_rng(2)
    broken = naive_broken = total = 0
    places = set()
    for _ in range(runs):
        scores = [rng.random(m) for m in (300, 600)]
        tune, cert = (
            Labelled.of(s, rng.random(len(s)) < np.where(s >= 0.5, 0.02, overload_epsilon + 1e-6)) for s in scores
        )
        try:
            accept_at, serve_at = both(tune, cert, 0.1, overload_epsilon)
        except NotCertifiedError:
            continue
        total += 1
        places.add(round(accept_at, 1))
        if accept_at > 0.5:  # then the rejected hold good answers too, and a fallback may be right
            continue
        broken += serve_at is not None
        naive_broken += plug_in(below(tune, accept_at), below(cert, accept_at), overload_epsilon) is not None
    measured(f"tight null B={total}: broken {broken} (≤ {allowed(total, DELTA)}), naive {naive_broken}")
    assert len(places) >= 3, "where the rejected begin does vary"
    assert total > 0.9 * runs
    assert broken <= allowed(total, DELTA)
    assert naive_broken > 2 * allowed(total, DELTA)
