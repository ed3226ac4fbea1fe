"""The rules of trying again, over worlds that hypothesis makes up. No clock, no chance but a seeded one."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_graph.config.tiers.parts import FailoverConfig
from serve_graph.engines.hosted.attempts import Attempts, Pause, Try
from serve_graph.engines.hosted.breaker import LONGEST_REST_S, Breaker
from serve_graph.engines.hosted.deployment_error import DeploymentError
from tests.fixtures.sampling import examples

SLACK = 0.002


@dataclass
class World:
    """Deployments that fail until `heals_at`, each in its own way, and what was asked of them."""

    statuses: dict[str, int]
    latency_s: float
    retry_after_s: float | None
    heals_at: float
    calls: list[tuple[str, float]] = field(default_factory=list)

    def call(self, tried: Try, now: float) -> tuple[float, DeploymentError | None]:
        """Seconds it took, and the failure if it was one; it keeps to the time it was given."""
        self.calls.append((tried.deployment, now))
        if self.latency_s > tried.timeout_s:
            return tried.timeout_s, DeploymentError("late", 504)
        status = self.statuses[tried.deployment] if now < self.heals_at else 200
        return self.latency_s, None if status == 200 else DeploymentError("no", status, self.retry_after_s)


@dataclass
class Tier:
    """The breakers of a tier, and requests one after the other."""

    weights: dict[str, float]
    config: FailoverConfig
    draw: Callable[[], float]

    def __post_init__(self) -> None:
        self.breakers = {name: Breaker(self.config.trip_after, self.config.cooldown_s) for name in self.weights}

    def request(self, world: World, now: float, timeout_s: float) -> tuple[float, Attempts, DeploymentError | None]:
        """One request from `now` on: when it ended, its attempts, and its failure if it was one."""
        attempts = Attempts(self.weights, self.breakers, self.config, now + timeout_s, self.draw, 60.0)
        while True:
            try:
                step = attempts.next(now)
            except DeploymentError as error:
                return now, attempts, error
            if isinstance(step, Pause):
                assert step.seconds > 0
                now += step.seconds
                continue
            took, failure = world.call(step, now)
            now += took
            if failure is None:
                attempts.answered(step, took)
                attempts.ended(step)
                return now, attempts, None
            try:
                attempts.failed(step, failure, now, took)
            except DeploymentError as error:
                return now, attempts, error


NAMES = ("a", "b", "c")
configs = st.builds(
    FailoverConfig,
    max_attempts=st.integers(1, 6),
    max_fallbacks=st.integers(0, 3),
    attempt_timeout_s=st.none() | st.floats(0.1, 50),
    backoff_s=st.floats(0.01, 5),
    max_wait_s=st.floats(0, 60),
    trip_after=st.integers(1, 5),
    cooldown_s=st.floats(0.1, 100),
)
statuses = st.fixed_dictionaries({name: st.sampled_from([200, 400, 401, 429, 500, 503]) for name in NAMES})
worlds = st.builds(
    World,
    statuses=statuses,
    latency_s=st.floats(0, 30),
    retry_after_s=st.none() | st.floats(0, 1000),
    heals_at=st.just(float("inf")),
)
weights = st.fixed_dictionaries({name: st.sampled_from([0.0, 1.0, 3.0]) for name in NAMES}).filter(
    lambda shares: any(shares.values())
)


@settings(max_examples=200, deadline=None)
@given(config=configs, world=worlds, shares=weights, timeout_s=st.floats(0.1, 120), seed=st.integers(0, 2**32))
def test_no_request_outlives_its_deadline_or_its_attempts(
    config: FailoverConfig, world: World, shares: dict[str, float], timeout_s: float, seed: int
) -> None:
    tier = Tier(shares, config, random.Random(seed).random)
    now = 0.0
    for _ in range(8):
        world.calls.clear()
        ended, attempts, _ = tier.request(world, now, timeout_s)
        assert ended <= now + timeout_s + SLACK
        assert len(world.calls) == len(attempts.made) <= config.max_attempts
        assert len({name for name, _ in world.calls}) <= 1 + config.max_fallbacks
        now = ended + 0.5


@settings(max_examples=examples(100, whole=300), deadline=None)
@given(config=configs, world=worlds, shares=weights, seed=st.integers(0, 2**32))
def test_nobody_is_called_before_the_retry_after_they_gave(
    config: FailoverConfig, world: World, shares: dict[str, float], seed: int
) -> None:
    tier = Tier(shares, config, random.Random(seed).random)
    world.latency_s = 0.0
    now = 0.0
    for _ in range(6):
        now = tier.request(world, now, 60.0)[0] + 0.1
    asked = min(world.retry_after_s or 0.0, LONGEST_REST_S)
    for name in NAMES:
        times = [at for called, at in world.calls if called == name]
        if world.statuses[name] in (401, 429, 500, 503):
            assert all(later - earlier >= asked - SLACK for earlier, later in pairwise(times))


@settings(max_examples=60, deadline=None)
@given(config=configs, world=worlds, shares=weights, seed=st.integers(0, 2**32))
def test_healed_deployments_get_traffic_again(
    config: FailoverConfig, world: World, shares: dict[str, float], seed: int
) -> None:
    tier = Tier(shares, config, random.Random(seed).random)
    now = 0.0
    for _ in range(20):
        now = tier.request(world, now, 60.0)[0] + 0.1
    world.heals_at, world.latency_s = now, 0.0
    now += max(config.cooldown_s, LONGEST_REST_S) + SLACK
    world.calls.clear()
    for _ in range(120):
        ended, _, failure = tier.request(world, now, 60.0)
        assert failure is None
        now = ended + 0.01
    assert {name for name, _ in world.calls} == {name for name, weight in shares.items() if weight > 0}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_failed_request_goes_to_a_deployment_it_has_not_tried_at_once(status: int) -> None:
    tier = Tier({"a": 1.0, "b": 1.0}, FailoverConfig(), random.Random(0).random)
    world = World({"a": status, "b": status}, 0.0, None, float("inf"))
    tier.request(world, 0.0, 60.0)
    [first, second, third] = world.calls
    assert {first[0], second[0]} == {"a", "b"}
    assert second[1] == first[1]
    assert third[1] >= 0.25


def test_backoff_doubles_and_is_jittered() -> None:
    pauses = []
    for draw in (0.0, 0.999):
        tier = Tier({"a": 1.0}, FailoverConfig(max_attempts=4, trip_after=9), lambda draw=draw: draw)
        world = World({"a": 500}, 0.0, None, float("inf"))
        tier.request(world, 0.0, 60.0)
        times = [at for _, at in world.calls]
        pauses.append([later - earlier for earlier, later in pairwise(times)])
    assert pauses[0] == pytest.approx([0.25, 0.5, 1.0])
    assert pauses[1] == pytest.approx([0.5, 1.0, 2.0], rel=0.01)


def test_weights_share_the_traffic() -> None:
    tier = Tier({"a": 3.0, "b": 1.0, "spare": 0.0}, FailoverConfig(), random.Random(1).random)
    world = World({"a": 200, "b": 200, "spare": 200}, 0.0, None, float("inf"))
    for i in range(2000):
        tier.request(world, float(i), 60.0)
    share = sum(name == "a" for name, _ in world.calls) / 2000
    assert 0.70 < share < 0.80
    assert "spare" not in {name for name, _ in world.calls}


def test_spare_is_called_when_the_others_fail() -> None:
    tier = Tier({"a": 1.0, "spare": 0.0}, FailoverConfig(), random.Random(1).random)
    world = World({"a": 500, "spare": 200}, 0.0, None, float("inf"))
    assert tier.request(world, 0.0, 60.0)[2] is None
    assert [name for name, _ in world.calls] == ["a", "spare"]


def test_a_deployment_with_a_wrong_key_is_not_called_twice_by_one_request() -> None:
    tier = Tier({"a": 1.0}, FailoverConfig(), random.Random(0).random)
    world = World({"a": 401}, 0.0, None, float("inf"))
    failure = tier.request(world, 0.0, 60.0)[2]
    assert failure is not None
    assert failure.status == 401
    assert len(world.calls) == 1


def test_the_requests_own_fault_is_tried_nowhere_else_and_trips_nothing() -> None:
    tier = Tier({"a": 1.0, "b": 1.0}, FailoverConfig(trip_after=1), random.Random(0).random)
    world = World({"a": 400, "b": 400}, 0.0, None, float("inf"))
    failure = tier.request(world, 0.0, 60.0)[2]
    assert failure is not None
    assert failure.status == 400
    assert len(world.calls) == 1
    assert [breaker.free_at(0.0) for breaker in tier.breakers.values()] == [0.0, 0.0]


def test_deployments_that_rest_because_they_fail_are_unavailable_not_saturated() -> None:
    tier = Tier({"a": 1.0}, FailoverConfig(trip_after=1, max_wait_s=5.0), lambda: 0.0)
    world = World({"a": 500}, 0.0, None, float("inf"))
    tier.request(world, 0.0, 60.0)
    failure = tier.request(world, 1.0, 60.0)[2]
    assert failure is not None
    assert (failure.status, failure.retry_after_s) == (503, pytest.approx(29.0))
    assert len(world.calls) == 1


def test_resting_longer_than_one_may_wait_is_said_with_the_time_to_come_back() -> None:
    tier = Tier({"a": 1.0}, FailoverConfig(max_wait_s=5.0), lambda: 0.0)
    world = World({"a": 429}, 0.0, 20.0, float("inf"))
    failure = tier.request(world, 0.0, 60.0)[2]
    assert failure is not None
    assert (failure.status, failure.retry_after_s) == (429, pytest.approx(20.0))
    failure = tier.request(world, 5.0, 60.0)[2]  # the next one is told without a call
    assert failure is not None
    assert (failure.status, failure.retry_after_s) == (429, pytest.approx(15.0))
    assert len(world.calls) == 1
