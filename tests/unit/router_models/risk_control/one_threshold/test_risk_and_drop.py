"""Both promises at one threshold: what is not worked out beyond the first failure changes nothing."""

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.risk_control.labels import p_value
from router_models.risk_control.one_threshold.risk_and_drop import Paired, certify_both, drop_p_value, place_anchor
from router_models.risk_control.sequence import counts_at, fixed_sequence

EPSILON, MAX_DROP, LEVEL = 0.15, 0.04, 0.1


def drawn(n: int, seed: int, last_right: float) -> Paired:
    """Calibrated scores of the cheap tier, and a last tier that is right as often as is said."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(3, 1, n)
    return Paired(scores, (rng.random(n) < scores).astype(float), (rng.random(n) < last_right).astype(float))


@pytest.mark.parametrize("last_right", [0.8, 0.9])
def test_the_threshold_is_the_one_of_all_tests_along_the_sequence(last_right: float) -> None:
    """Beside it: both p-values at every threshold, and the fixed sequence over them."""
    certified = 0
    for seed in range(8):
        tune, cert = drawn(400, seed, last_right), drawn(900, 100 + seed, last_right)
        try:
            found = certify_both(tune, cert, epsilon=EPSILON, max_drop=MAX_DROP, level=LEVEL).threshold
        except NotCertifiedError:
            found = np.inf
        try:
            grid, anchor = place_anchor(tune, 900, 900, epsilon=EPSILON, max_drop=MAX_DROP)
        except NotCertifiedError:
            assert found == np.inf
            continue
        accepted, errors = counts_at(grid, cert.labelled())
        drop = [drop_p_value(cert.change(float(at)), MAX_DROP) for at in grid]
        rejected = np.flatnonzero(fixed_sequence(np.maximum(p_value(errors, accepted, EPSILON), drop), anchor, LEVEL))
        assert found == (grid[rejected[0]] if len(rejected) else np.inf)
        certified += len(rejected)
    assert certified > 0


def test_what_is_not_proved_is_said_with_both_p_values() -> None:
    cert = drawn(60, 1, 0.9)
    with pytest.raises(NotCertifiedError, match=r"most promising threshold.*p = .*share right changes by.*p = "):
        certify_both(drawn(4000, 2, 0.8), cert, epsilon=EPSILON, max_drop=0.5, level=1e-6)
