"""Experiment 8: looking at the same labels again and again, with another score each time, until something passes."""

import numpy as np
import pytest

from router_models.risk_control.sequence import Labelled, anchored_path, quantile_grid, spent_delta

DELTA = 0.1
LOOKS = 8


def passes(tune, cert, epsilon, look):
    level = spent_delta(DELTA, look)
    path = anchored_path(tune, cert, quantile_grid(tune.scores), epsilon=epsilon, level=level)
    return bool(path.rejected.any())


@pytest.mark.parametrize(("epsilon", "n"), [(0.10, 300), (0.20, 400)])
def test_repeated_looks_keep_delta_only_when_they_spend_it(epsilon, n, size, allowed, measured):
    """Every answer is wrong with probability ε whatever its score, so that every certificate is false."""
    runs = size(200, 2000)
    rng = np.random.default_rng(8)
    spending = in_full = 0
    for _ in range(runs):
        tune_wrong, cert_wrong = rng.random(300) < epsilon, rng.random(n) < epsilon
        scores = [(Labelled(rng.random(300), tune_wrong), Labelled(rng.random(n), cert_wrong)) for _ in range(LOOKS)]
        spending += any(passes(tune, cert, epsilon, look) for look, (tune, cert) in enumerate(scores, 1))
        in_full += any(passes(tune, cert, epsilon, 0) for tune, cert in scores)
    limit = allowed(runs, DELTA)
    measured(f"ε={epsilon} n={n} looks={LOOKS} B={runs}: broken {spending} (≤ {limit}), at full δ each {in_full}")
    assert spending <= limit
    assert in_full > limit, "the negative control must fail"
