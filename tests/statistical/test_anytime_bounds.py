"""Bets looked at after every label keep their level; a test repeated after every label does not."""

import numpy as np

from router_models.risk_control.labels import p_value
from router_models.risk_control.paired import log_wealth
from router_models.risk_control.streaming import StreamCertifier

DELTA = 0.1


def test_streaming_certification_at_the_budget_itself_stays_within_delta(size, allowed, measured):
    runs, n, epsilon = size(300, 2000), 1500, 0.05
    rng = np.random.default_rng(31)
    false = peeked = useful = 0
    for _ in range(runs):
        null = rng.random(n) < epsilon
        false += StreamCertifier(epsilon).update(null).certified(DELTA)
        peeked += (p_value(np.cumsum(null), np.arange(1, n + 1), epsilon) <= DELTA).any()
        useful += StreamCertifier(epsilon).update(rng.random(n) < epsilon / 2).certified(DELTA)
    limit = allowed(runs, DELTA)
    measured(
        f"B={runs}: false {false} (≤ {limit}), exact test looked at every time {peeked}, certified at ε/2 {useful}"
    )
    assert false <= limit
    assert peeked > limit, "the negative control must fail"
    assert useful >= 0.9 * runs


def test_the_paired_bound_at_the_margin_itself_stays_within_delta(size, allowed, measured):
    runs, n, margin = size(300, 2000), 2000, 0.03
    rng = np.random.default_rng(32)
    goal = -np.log(DELTA)
    false = peeked = useful = 0
    for _ in range(runs):
        differ = rng.random(n) < 0.10
        worse = np.where(differ, np.where(rng.random(n) < 0.65, -1.0, 1.0), 0.0)  # mean -0.03: exactly the margin
        false += log_wealth(worse, margin).max() >= goal
        mean = np.cumsum(worse) / np.arange(1, n + 1)
        spread = np.sqrt(np.maximum(np.cumsum(worse**2) / np.arange(1, n + 1) - mean**2, 1e-12) / np.arange(1, n + 1))
        peeked += ((mean + margin) / spread > 1.2816)[50:].any()
        equal = np.where(differ, np.where(rng.random(n) < 0.5, -1.0, 1.0), 0.0)
        useful += log_wealth(equal, margin).max() >= goal
    limit = allowed(runs, DELTA)
    measured(
        f"B={runs}: false {false} (≤ {limit}), z-test looked at every time {peeked}, equal policy certified {useful}"
    )
    assert false <= limit
    assert peeked > limit, "the negative control must fail"
    assert useful >= 0.9 * runs
