"""How many labels a promise needs: exact, and enough."""

import numpy as np
import pytest
from scipy.stats import binom

from router_models.errors import DataError
from router_models.risk_control.labels import POWER, labels_assured, labels_needed, least_labels, p_value, power

DELTAS = (0.10, 0.05, 0.01)


@pytest.mark.parametrize(
    ("epsilon", "expected"), [(0.01, (230, 299, 459)), (0.05, (45, 59, 90)), (0.10, (22, 29, 44))]
)
def test_without_any_error_the_textbook_numbers_come_out(epsilon, expected):
    assert tuple(labels_needed(epsilon, 0.0, d) for d in DELTAS) == expected


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.10])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("delta", DELTAS)
def test_the_number_suffices_and_no_larger_one_falls_short(epsilon, share, delta):
    n = labels_needed(epsilon, share * epsilon, delta)
    assert power(n, epsilon, share * epsilon, delta) >= 0.9
    assert power(n - 1, epsilon, share * epsilon, delta) < 0.9
    beyond = n + np.unique(np.geomspace(1, n, 60).astype(int))
    assert all(power(int(m), epsilon, share * epsilon, delta) >= 0.9 for m in beyond)


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.85])
def test_the_number_is_the_one_of_every_count_of_errors_looked_at(epsilon, share):
    """Among all counts of errors up to 1,000 the last at which power falls short; it is searched for from the end."""
    starts = least_labels(np.arange(1001), epsilon, 0.1)
    lowest = binom.cdf(np.arange(1000), starts[1:] - 1, share * epsilon)
    short = np.flatnonzero(lowest < POWER)
    assert short.size == 0 or short[-1] < 500
    assert labels_needed(epsilon, share * epsilon, 0.1) == starts[short[-1] + 1 if short.size else 0]


def test_power_is_what_simulation_finds():
    rng = np.random.default_rng(0)
    errors = rng.binomial(200, 0.05, 20_000)
    simulated = (p_value(errors, np.full(20_000, 200), 0.1) <= 0.1).mean()
    assert power(200, 0.1, 0.05, 0.1) == pytest.approx(simulated, abs=0.01)


def test_the_least_labels_for_k_errors_are_exact():
    for k, n in enumerate(least_labels(np.arange(30), 0.07, 0.05)):
        assert binom.cdf(k, n, 0.07) <= 0.05 < binom.cdf(k, n - 1, 0.07)


def test_a_risk_at_or_above_the_budget_needs_a_number_that_does_not_exist():
    assert labels_needed(0.1, 0.1, 0.1) is None
    assert labels_needed(0.1, 0.3, 0.1) is None
    assert labels_needed(0.01, 0.009999, 0.01) is None
    with pytest.raises(DataError, match="true_risk"):
        labels_needed(0.1, -0.1, 0.1)


def test_a_smaller_share_of_delta_costs_more_labels():
    numbers = [labels_needed(0.05, 0.02, 0.1 / g) for g in (1, 2, 4, 8)]
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1]


# What a published table of this plan lists for δ = .1/.05/.01 and true risks ε/4, ε/2, ¾ε.
PUBLISHED = {
    0.01: ((802, 1055, 1603), (2144, 2665, 4089), (9162, 12157, 18323)),
    0.05: ((159, 209, 290), (403, 531, 786), (1763, 2353, 3542)),
    0.10: ((78, 103, 142), (199, 251, 378), (858, 1118, 1708)),
}


@pytest.mark.parametrize("epsilon", PUBLISHED)
def test_published_numbers_suffice_and_lie_between_the_first_that_do_and_the_safe_one(epsilon):
    """Power dips below 90 % again after the first n that reaches it; ours is the one after the last dip."""
    for share, row in zip((0.25, 0.5, 0.75), PUBLISHED[epsilon], strict=True):
        for delta, published in zip(DELTAS, row, strict=True):
            risk, safe = share * epsilon, labels_needed(epsilon, share * epsilon, delta)
            starts = least_labels(np.arange(int(2 * epsilon * safe) + 5), epsilon, delta)
            enough = binom.cdf(np.arange(len(starts)), starts, risk) >= 0.9
            assert power(published, epsilon, risk, delta) >= 0.9
            assert starts[np.argmax(enough)] <= published <= 1.01 * safe


@pytest.mark.parametrize(("errors", "n"), [(0, 40), (5, 200), (20, 600), (60, 1000)])
def test_labels_from_a_measured_risk_allow_for_what_is_not_known_of_it(errors, n):
    assured, at_face_value = labels_assured(0.1, errors, n, 0.06), labels_needed(0.1, errors / n, 0.06)
    assert assured > at_face_value
    ten_times = labels_assured(0.1, 10 * errors, 10 * n, 0.06)
    assert at_face_value <= ten_times <= assured, "the better the risk is known, the fewer"


def test_no_number_of_labels_is_named_where_more_likely_none_would_do():
    assert labels_assured(0.1, 11, 100, 0.06) is None
