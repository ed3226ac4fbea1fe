"""Grades that are missing for what they would have said: the estimate is wrong, silently, unless it is looked at.

Two versions share the traffic; of one, right answers are graded more often than wrong ones, of the other the wrong.
The worst-case interval holds the truth; that of the graded decisions alone, the negative control, does not. Where the
shares that are graded differ it is told; where they are alike, nothing can tell it, and only the bounds are left.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from router_models import LoggedDecisions, estimate_off_policy
from router_models.errors import DataError
from router_models.monitoring.missing_grades import MissingGrades, missing_grades

N = 1200
TRUTH = {0: 0.7, 1: 0.75}
BY_CHANCE = {0: (0.6, 0.6), 1: (0.6, 0.6)}
"""By action: the share of wrong and of right answers that are graded."""
TOLD = {0: (0.5, 0.4), 1: (0.3, 0.7)}
UNTOLD = {0: (0.92, 0.6), 1: (0.25, 0.85)}
"""About .7 of the answers of either version are graded: .3·.92 + .7·.6 and .25·.25 + .75·.85."""


def log_of(rng: np.random.Generator, graded: dict[int, tuple[float, float]]) -> tuple[LoggedDecisions, np.ndarray]:
    """A canary at a tenth, then at a half of the traffic, and which decisions were graded."""
    weight = np.where(np.arange(N) < N // 3, 0.1, 0.5)
    action = (rng.random(N) < weight).astype(np.int64)
    right = rng.random(N) < np.array([TRUTH[0], TRUTH[1]])[action]
    share = np.array([graded[0], graded[1]])[action, right.astype(int)]
    x = rng.normal(size=(N, 1))
    return LoggedDecisions(x, action, np.where(action == 1, weight, 1 - weight), right.astype(float)), (
        rng.random(N) < share
    )


def looked(logged: LoggedDecisions, graded: np.ndarray, scores: np.ndarray | None = None) -> MissingGrades:
    target = np.tile([0.0, 1.0], (N, 1))
    return missing_grades(logged, graded, target, {} if scores is None else {"score": scores})


def of_graded(logged: LoggedDecisions, graded: np.ndarray) -> bool:
    """Whether the interval of the graded decisions alone holds the truth; one that is refused misleads nobody."""
    rows = {name: getattr(logged, name)[graded] for name in ("features", "action", "propensity", "grade")}
    try:
        found = estimate_off_policy(LoggedDecisions(**rows), np.tile([0.0, 1.0], (int(graded.sum()), 1))).value
    except DataError:
        return True
    return found.low <= TRUTH[1] <= found.high


def test_what_is_missing_by_chance_is_seldom_called_otherwise(
    size: Callable[[int, int], int], allowed: Callable[[int, float], int], measured: Callable[[str], None]
) -> None:
    runs, rng, called, held = size(100, 1000), np.random.default_rng(34), 0, 0
    for _ in range(runs):
        logged, graded = log_of(rng, BY_CHANCE)
        called += bool(looked(logged, graded, rng.random(N)).found)
        held += of_graded(logged, graded)
    measured(f"missing by chance: called otherwise in {called} of {runs}, the usual interval holds in {held}")
    assert called <= allowed(runs, 0.01)
    assert held >= 0.88 * runs


@pytest.mark.parametrize(("name", "graded", "least"), [("told", TOLD, 0.9), ("untold", UNTOLD, 0.0)])
def test_where_rightness_and_version_decide_the_bounds_hold_and_the_usual_interval_does_not(
    name: str,
    graded: dict[int, tuple[float, float]],
    least: float,
    size: Callable[[int, int], int],
    measured: Callable[[str], None],
) -> None:
    runs, rng = size(60, 400), np.random.default_rng(35)
    held = plain = called = 0
    width = 0.0
    for _ in range(runs):
        logged, which = log_of(rng, graded)
        found = looked(logged, which)
        held += found.value.low <= TRUTH[1] <= found.value.high
        gain = TRUTH[1] - float(np.mean(np.where(np.arange(N) < N // 3, 0.1, 0.5) * (TRUTH[1] - TRUTH[0]) + TRUTH[0]))
        held -= not found.gain.low <= gain <= found.gain.high
        plain += of_graded(logged, which)
        called += bool(found.found)
        width += (found.value.high - found.value.low) / runs
    measured(
        f"{name}: bounds hold in {held} of {runs} (width {width:.2f}), the usual interval in {plain}, called {called}"
    )
    assert held >= 0.95 * runs
    assert plain <= 0.5 * runs
    assert called >= least * runs


def test_grades_that_follow_a_score_are_told(size: Callable[[int, int], int], measured: Callable[[str], None]) -> None:
    runs, rng, called = size(40, 400), np.random.default_rng(36), 0
    for _ in range(runs):
        logged, _ = log_of(rng, BY_CHANCE)
        scores = rng.random(N)
        called += bool(looked(logged, rng.random(N) < 0.4 + 0.4 * scores, scores).found)
    measured(f"graded by score (.4 to .8): called in {called} of {runs}")
    assert called >= 0.95 * runs


def test_what_was_graded_whole_is_the_estimate_itself() -> None:
    logged, _ = log_of(np.random.default_rng(37), BY_CHANCE)
    everything = np.ones(N, dtype=np.bool_)
    plain = estimate_off_policy(logged, np.tile([0.0, 1.0], (N, 1)))
    found = looked(logged, everything)
    assert (found.missing, found.found) == (0, {})
    assert (found.value.low, found.gain.high) == pytest.approx((plain.value.low, plain.gain.high))
    hidden = replace(logged, grade=np.where(everything, logged.grade, 0.5))
    assert looked(hidden, everything) == found
