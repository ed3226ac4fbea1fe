"""Experiment 9: answers shown by their first tokens keep a promise of their own, at any number of lengths tried."""

from datetime import UTC, datetime, timedelta

import numpy as np

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled, anchored_path, quantile_grid
from router_models.risk_control.thresholds import certify_threshold
from router_models.training.prefix import first_certified

DELTA, EPSILON = 0.1, 0.10
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = CertificateTerms(EPSILON, DELTA, "programmatic", NOW, NOW + timedelta(days=90))


def test_beginnings_keep_their_promise_and_the_threshold_of_whole_answers_does_not(pools, size, allowed, measured):
    """The first tokens say less than the whole answer: the same estimate stands for more wrong answers."""
    pool, runs = pools("synthetic"), size(200, 2000)
    rng = np.random.default_rng(9)
    odds = np.log(pool.scores) - np.log1p(-pool.scores)
    early = 1 / (1 + np.exp(-odds - 1.2 * rng.normal(size=len(pool))))
    long = rng.random(len(pool)) < 0.7
    begun = type(pool)(early[long], pool.wrong[long], pool.slices[long])
    broken = with_the_other = none = 0
    shares = []
    for _ in range(runs):
        rows = [rng.integers(0, len(pool), m) for m in (500, 2000)]
        whole = [Labelled.of(pool.scores[r], pool.wrong[r]) for r in rows]
        first = [Labelled.of(early[r][long[r]], pool.wrong[r][long[r]]) for r in rows]
        try:
            main = certify_threshold(*whole, TERMS)
            with_the_other += begun.risk_and_share(main.threshold_for())[0] > EPSILON
            made = first_certified([8], lambda _: tuple(first), TERMS)  # noqa: B023
            risk, share = begun.risk_and_share(made.threshold_for())
            broken += risk > EPSILON
            shares.append(share)
        except NotCertifiedError:
            none += 1
            shares.append(0.0)
    limit, useful = allowed(runs, DELTA), np.mean(shares) / begun.oracle_share(EPSILON)
    measured(
        f"ε={EPSILON} B={runs}: broken {broken} (≤ {limit}), at the threshold of whole answers {with_the_other}, "
        f"accepted {np.mean(shares):.3f} = {useful:.0%} of the oracle's, no certificate {none / runs:.1%}"
    )
    assert broken <= limit
    assert with_the_other > limit, "the negative control must fail"
    assert useful >= 0.6


def test_lengths_that_are_tried_share_delta(size, allowed, measured):
    """Every answer is wrong with probability ε whatever it begins with, so that every certificate is false."""
    lengths, runs = [2, 4, 6, 8, 12, 16, 24, 32], size(60, 300)
    rng = np.random.default_rng(10)
    sharing = in_full = 0
    for _ in range(runs):
        tune, cert = rng.random(300) < EPSILON, rng.random(600) < EPSILON
        seen = {n: (Labelled(rng.random(300), tune), Labelled(rng.random(600), cert)) for n in lengths}
        sharing += certifies(lengths, seen)
        in_full += any(
            anchored_path(*pair, quantile_grid(pair[0].scores), epsilon=EPSILON, level=DELTA).rejected.any()
            for pair in seen.values()
        )
    limit = allowed(runs, DELTA)
    measured(f"{len(lengths)} lengths, B={runs}: broken {sharing} (≤ {limit}), at full δ each {in_full}")
    assert sharing <= limit
    assert in_full > limit, "the negative control must fail"


def certifies(lengths, seen) -> bool:
    try:
        first_certified(lengths, seen.__getitem__, TERMS)
    except NotCertifiedError:
        return False
    return True
