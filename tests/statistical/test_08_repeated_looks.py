"""Experiment 8: looking at the same labels again and again, with another score each time, until something passes."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.calibration.certificate import LabelSource
from router_models.calibration.sequence import Labelled
from router_models.calibration.thresholds import certify_threshold
from router_models.errors import NotCertifiedError

pytestmark = pytest.mark.statistical
DELTA = 0.1
LOOKS = 8
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def passes(tune, cert, epsilon, look):
    try:
        certify_threshold(
            tune, cert, epsilon=epsilon, delta=DELTA, binds={}, label_source=LabelSource.HUMAN, made_at=MADE,
            expires_at=MADE + timedelta(days=1), round=look,
        )  # fmt: skip
    except NotCertifiedError:
        return False
    return True


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
