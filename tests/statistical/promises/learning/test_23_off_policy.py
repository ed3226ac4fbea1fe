"""Experiment 12: a policy's mean grade, estimated from another one's log, lies in its interval as often as said.

Grades depend on the prompt in a way that no line follows, and the log explores at 5 % at least. The negative controls:
the regression alone (the direct method), and propensities of what was wanted where overload executed something else.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from router_models import LoggedDecisions, estimate_off_policy
from router_models.errors import DataError

N = 1500


def rates(x: np.ndarray) -> np.ndarray:
    """The probability that each tier's answer is right, (n, 2): the cheap one fails near 0 of the first feature."""
    cheap = 0.9 - 0.7 * np.exp(-(x[:, 0] ** 2))
    return np.stack([cheap, 0.92 - 0.05 * (x[:, 1] > 0)], axis=1)


def target(x: np.ndarray) -> np.ndarray:
    """The policy: hard prompts to the last tier, whom the log asks with the fewest of them."""
    last = np.where(np.abs(x[:, 0]) < 0.6, 0.9, 0.1)
    return np.stack([1 - last, last], axis=1)


def log_of(rng: np.random.Generator, overload: float = 0.0) -> tuple[LoggedDecisions, np.ndarray]:
    """A log, and the propensities of what was wanted: a full last tier leaves its requests to the cheap one."""
    x = rng.normal(size=(N, 3))
    least = 0.05 / (1 - overload)
    wanted = np.clip(1 / (1 + np.exp(-3 * (np.abs(x[:, 0]) - 1))), least, 0.95)
    executed = wanted * (1 - overload)
    action = (rng.random(N) < executed).astype(int)
    grade = (rng.random(N) < rates(x)[np.arange(N), action]).astype(float)
    of = [np.where(action == 1, p, 1 - p) for p in (executed, wanted)]
    return LoggedDecisions(x, action, of[0], grade), of[1]


@pytest.fixture(scope="module")
def truth() -> float:
    x = np.random.default_rng(1).normal(size=(2_000_000, 3))
    return float((target(x) * rates(x)).sum(axis=1).mean())


def direct(logged: LoggedDecisions) -> tuple[float, float]:
    """The regression's 95 % interval, by itself."""
    x = np.column_stack([np.ones(N), logged.features])
    predicted = np.empty((N, 2))
    for a in (0, 1):
        rows = logged.action == a
        predicted[:, a] = np.clip(x @ np.linalg.lstsq(x[rows], logged.grade[rows], rcond=None)[0], 0, 1)
    values = (target(logged.features) * predicted).sum(axis=1)
    half = 1.96 * values.std() / np.sqrt(N)
    return values.mean() - half, values.mean() + half


def test_intervals_hold_the_truth_as_often_as_they_say_and_a_regression_alone_does_not(
    size: Callable[[int, int], int], measured: Callable[[str], None], truth: float
):
    runs = size(100, 400)
    held = alone = 0
    rng = np.random.default_rng(12)
    for _ in range(runs):
        logged, _ = log_of(rng)
        found = estimate_off_policy(logged, target(logged.features)).value
        low, high = direct(logged)
        held += found.low <= truth <= found.high
        alone += low <= truth <= high
    measured(f"95 % intervals hold the truth in {held / runs:.3f}, of the direct method {alone / runs:.3f}, of {runs}")
    assert (0.92 if runs >= 400 else 0.88) <= held / runs <= (0.98 if runs >= 400 else 1.0)
    assert alone / runs < 0.6


def test_propensities_of_what_was_wanted_and_not_executed_are_refused(
    size: Callable[[int, int], int], measured: Callable[[str], None], truth: float
):
    runs = size(60, 400)
    held = refused = 0
    rng = np.random.default_rng(13)
    for _ in range(runs):
        logged, wanted = log_of(rng, overload=0.4)
        policy = target(logged.features)
        found = estimate_off_policy(logged, policy).value
        held += found.low <= truth <= found.high
        try:
            estimate_off_policy(replace(logged, propensity=wanted), policy)
        except DataError:
            refused += 1
    measured(f"overloaded: {held / runs:.3f} hold it; by what was wanted {refused} of {runs} refused")
    assert held / runs >= 0.88
    assert refused >= 0.95 * runs
