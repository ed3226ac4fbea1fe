"""A policy's mean grade from decisions that another one made."""

from dataclasses import replace

import numpy as np
import pytest

from router_models import LoggedDecisions, estimate_off_policy
from router_models.errors import DataError


def logged(n: int = 400, propensity: float = 0.5, seed: int = 0) -> LoggedDecisions:
    """Coins decide; action 1 is right wherever the first feature is positive, action 0 half of the time."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    action = (rng.random(n) < propensity).astype(int)
    right = np.where(action == 1, x[:, 0] > 0, rng.random(n) < 0.5)
    return LoggedDecisions(x, action, np.where(action == 1, propensity, 1 - propensity), right.astype(float))


def always(action: int, n: int) -> np.ndarray:
    return np.tile(np.eye(2)[action], (n, 1))


def where_right(log: LoggedDecisions) -> np.ndarray:
    return np.eye(2)[(log.features[:, 0] > 0).astype(int)]


def test_a_policy_that_knows_where_is_worth_more_than_the_log():
    log = logged(2000)
    found = estimate_off_policy(log, where_right(log))
    assert found.value.low < 0.75 < found.value.high
    assert found.gain.low > 0.1
    assert 900 < found.effective_n < 1100


def test_the_logs_own_policy_earns_what_it_earned():
    log = logged()
    found = estimate_off_policy(log, np.full((400, 2), 0.5))
    assert found.value.low < log.grade.mean() < found.value.high
    assert found.gain.low < 0 < found.gain.high
    assert found.gain.high - found.gain.low < (found.value.high - found.value.low) / 2


def test_features_make_the_interval_shorter_and_none_are_needed():
    log = logged(2000)
    widths = [
        found.high - found.low
        for found in (
            estimate_off_policy(one, always(1, 2000)).value
            for one in (log, replace(log, features=np.empty((2000, 0))))
        )
    ]
    assert widths[0] < 0.9 * widths[1]


def test_rows_of_one_group_are_no_further_evidence():
    log = logged(300)
    four = {name: np.repeat(getattr(log, name), 4, axis=0) for name in ("features", "action", "propensity", "grade")}
    widths = []
    for group in (None, np.repeat(np.arange(300), 4)):
        value = estimate_off_policy(LoggedDecisions(**four, group=group), always(1, 1200)).value
        widths.append(value.high - value.low)
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.1)


def test_the_same_seed_says_the_same():
    log = logged()
    assert estimate_off_policy(log, always(1, 400)) == estimate_off_policy(log, always(1, 400))


@pytest.mark.parametrize(
    ("log", "target", "reason"),
    [
        (logged(4000, propensity=0.04), always(1, 4000), "below 5%"),
        (logged(60), always(1, 60), "of the policy's own"),
        (replace(logged(), action=np.zeros(400, int)), always(1, 400), "only 0 of the policy's own"),
        (replace(logged(), propensity=np.full(400, 0.9)), always(1, 400), "mean is 0.5"),
        (replace(logged(), propensity=np.ones(400)), always(1, 400), "never tried"),
        (logged(), np.full((400, 2), 0.4), "sum to 1"),
        (logged(), always(1, 399), "sum to 1"),
        (logged(), np.ones((400, 1)), "actions must be 0 to 0"),
        (replace(logged(), group=np.zeros(400, int)), np.full((400, 2), 0.5), "two groups"),
    ],
)
def test_what_cannot_be_estimated_is_refused_with_the_reason(log: LoggedDecisions, target: np.ndarray, reason: str):
    with pytest.raises(DataError, match=reason):
        estimate_off_policy(log, target)


@pytest.mark.parametrize(
    "wrong",
    [
        {"propensity": np.zeros(400)},
        {"grade": np.full(400, np.nan)},
        {"grade": np.full(400, 1.2)},
        {"features": np.full((400, 2), np.inf)},
        {"features": np.zeros(400)},
        {"group": np.zeros(3, int)},
    ],
)
def test_a_log_that_cannot_be_is_refused(wrong: dict[str, np.ndarray]):
    with pytest.raises(DataError):
        replace(logged(), **wrong)


@pytest.mark.parametrize("wrong", [{"level": 1.0}, {"folds": 1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]):
    with pytest.raises(DataError):
        estimate_off_policy(logged(), always(1, 400), **wrong)
