"""Failover over deployments that do as they are told, on a clock that only they move."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

from serve_graph.config.tiers.parts import FailoverConfig
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.failover import Failover
from tests.fixtures.made_up_time import settled

BODY: dict[str, Any] = {"messages": []}
REPLY = {"choices": [{"message": {"content": "hi"}}]}
ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
WORD = {"choices": [{"delta": {"content": "word"}}]}
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
DOWN = DeploymentError("down", 503)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Scripted:
    """A deployment that plays one entry for each call: a reply, a list of chunks and errors, an error, or 'hang'."""

    clock: Clock
    script: list[Any]
    latency_s: float = 0.0
    timeouts: list[float] = field(default_factory=list)
    closed: int = 0

    async def generate(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.timeouts.append(timeout_s)
        await self.clock.sleep(self.latency_s)
        step = self.script.pop(0)
        if step == "hang":
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        return dict(step)

    async def stream(self, body: dict[str, Any], timeout_s: float) -> AsyncGenerator[dict[str, Any], None]:
        self.timeouts.append(timeout_s)
        try:
            for chunk in self.script.pop(0):
                await self.clock.sleep(self.latency_s)
                if isinstance(chunk, Exception):
                    raise chunk
                if chunk == "silence":
                    await asyncio.Event().wait()
                yield chunk
        finally:
            self.closed += 1


def tier(clock: Clock, *scripts: list[Any], latency_s: float = 0.0, **config: Any) -> Failover:
    """Deployments a, b, …, asked in that order."""
    targets = {name: Scripted(clock, script, latency_s) for name, script in zip("abcd", scripts, strict=False)}
    return Failover(
        targets, dict.fromkeys(targets, 1.0), FailoverConfig(**config), 60.0, clock, clock.sleep, draw=lambda: 0.0
    )


def names(attempts: Any) -> list[tuple[str, int]]:
    return [(attempt.deployment, attempt.status) for attempt in attempts]


async def collected(failover: Failover, timeout_s: float = 60.0) -> list[dict[str, Any]]:
    return [chunk async for chunk, _ in failover.stream(BODY, timeout_s)]


async def test_another_deployment_answers_and_both_calls_are_reported() -> None:
    reply, attempts = await tier(Clock(), [DOWN], [REPLY]).generate(BODY, 60.0)
    assert reply == REPLY
    assert names(attempts) == [("a", 503), ("b", 200)]


async def test_time_given_shrinks_along_the_way() -> None:
    clock = Clock()
    failover = tier(clock, [DOWN, REPLY], latency_s=10.0)
    await failover.generate(BODY, 60.0)
    assert failover.targets["a"].timeouts == [60.0, pytest.approx(49.75)]  # type: ignore[attr-defined]


async def test_one_call_gets_no_more_than_its_share() -> None:
    failover = tier(Clock(), [DOWN], [REPLY], attempt_timeout_s=20.0)
    await failover.generate(BODY, 60.0)
    assert failover.targets["b"].timeouts == [20.0]  # type: ignore[attr-defined]


async def test_everything_failing_is_one_error_with_every_call() -> None:
    with pytest.raises(DeploymentError, match="no attempt is left") as caught:
        await tier(Clock(), [DOWN, DOWN], [DOWN]).generate(BODY, 60.0)
    assert caught.value.status == 503
    assert names(caught.value.attempts) == [("a", 503), ("b", 503), ("a", 503)]


async def test_failed_call_that_was_billed_is_passed_up() -> None:
    billed = DeploymentError("nothing in it", 502, usage={"prompt_tokens": 7})
    _, attempts = await tier(Clock(), [billed], [REPLY]).generate(BODY, 60.0)
    assert [attempt.usage for attempt in attempts] == [{"prompt_tokens": 7}, {}]


async def test_stream_that_fails_before_its_first_chunk_is_retried_elsewhere() -> None:
    failover = tier(Clock(), [[ROLE, DOWN]], [[ROLE, WORD, END]])
    assert await collected(failover) == [ROLE, WORD, END]


async def test_stream_that_ends_without_content_is_retried_elsewhere() -> None:
    assert await collected(tier(Clock(), [[ROLE]], [[WORD, END]])) == [WORD, END]


async def test_no_other_deployment_is_called_after_the_first_chunk() -> None:
    failover = tier(Clock(), [[ROLE, WORD, DOWN]], [[WORD, END]])
    chunks = failover.stream(BODY, 60.0)
    got = [(await anext(chunks))[0], (await anext(chunks))[0]]
    with pytest.raises(DeploymentError, match="down"):
        await anext(chunks)
    assert got == [ROLE, WORD]
    assert failover.targets["b"].timeouts == []  # type: ignore[attr-defined]


async def test_streams_that_break_trip_the_breaker_too() -> None:
    failover = tier(Clock(), [[WORD, DOWN]] * 2, trip_after=2)
    for resting in (0, 1):
        with pytest.raises(DeploymentError):
            await collected(failover)
        assert failover.counters()["deployments_resting"] == resting
    assert failover.counters() == {
        "deployment_calls": 2,
        "deployment_failures": 2,
        "deployment_throttled_total": 0,
        "deployments_resting": 1,
        "deployments_refusing": 0,
    }


async def test_stream_that_is_closed_closes_the_deployments() -> None:
    failover = tier(Clock(), [[WORD, WORD, END]])
    chunks = failover.stream(BODY, 60.0)
    await anext(chunks)
    await chunks.aclose()
    assert failover.targets["a"].closed == 1  # type: ignore[attr-defined]


async def test_probe_whose_caller_leaves_does_not_keep_the_deployment_out_for_ever() -> None:
    clock = Clock()
    failover = tier(clock, [DOWN, "hang", REPLY], trip_after=1, max_attempts=1)
    with pytest.raises(DeploymentError):
        await failover.generate(BODY, 60.0)
    clock.now += 31.0
    probe = asyncio.ensure_future(failover.generate(BODY, 60.0))
    await settled()
    with pytest.raises(DeploymentError, match="every deployment is cooling down"):
        await failover.generate(BODY, 60.0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert (await failover.generate(BODY, 60.0))[0] == REPLY


async def test_probing_stream_that_is_cancelled_before_its_first_chunk_frees_the_probe() -> None:
    clock = Clock()
    failover = tier(clock, [[DOWN], [ROLE, "silence"], [WORD, END]], trip_after=1, max_attempts=1)
    with pytest.raises(DeploymentError):
        await collected(failover)
    clock.now += 31.0
    probe = asyncio.ensure_future(collected(failover))
    await settled()
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert await collected(failover) == [WORD, END]


async def test_healed_deployment_is_probed_by_one_call() -> None:
    clock = Clock()
    failover = tier(clock, [DOWN, REPLY, REPLY], [REPLY], trip_after=1)
    await failover.generate(BODY, 60.0)
    assert failover.counters()["deployments_resting"] == 1
    clock.now += 31.0
    assert names((await failover.generate(BODY, 60.0))[1]) == [("a", 200)]
    assert failover.counters()["deployments_resting"] == 0


LATE = DeploymentError("the hosted API did not answer within 0.1 s", 504)


@pytest.mark.parametrize("way", ["whole", "stream", "after the role"])
async def test_a_callers_own_deadline_trips_nothing_and_a_late_deployment_does(way: str) -> None:
    step = {"whole": LATE, "stream": [LATE], "after the role": [ROLE, LATE]}[way]

    async def ask(failover: Failover, timeout_s: float) -> None:
        asked = failover.generate(BODY, timeout_s) if way == "whole" else collected(failover, timeout_s)
        with pytest.raises(DeploymentError, match="did not answer"):
            await asked

    def slow(latency_s: float) -> Failover:
        pieces = 2 if way == "after the role" else 1
        return tier(Clock(), [step] * 3, latency_s=latency_s / pieces, trip_after=3)

    hurried, hanging = slow(0.1), slow(60.0)
    for _ in range(3):
        await ask(hurried, 0.1)
        await ask(hanging, 60.0)
    assert hurried.counters()["deployments_resting"] == 0
    assert hurried.counters()["deployment_failures"] == 3
    assert hanging.counters()["deployments_resting"] == 1


async def test_a_failure_that_comes_before_a_callers_deadline_counts() -> None:
    failover = tier(Clock(), [DOWN], trip_after=1, max_attempts=1)
    with pytest.raises(DeploymentError):
        await failover.generate(BODY, 5.0)
    assert failover.counters()["deployments_resting"] == 1


async def test_a_probe_that_a_deadline_cuts_short_is_no_failure_and_keeps_nobody_out() -> None:
    clock = Clock()
    failover = tier(clock, [DOWN, LATE, "hang", REPLY], trip_after=1, max_attempts=1)
    target = failover.targets["a"]
    assert isinstance(target, Scripted)
    with pytest.raises(DeploymentError, match="down"):
        await failover.generate(BODY, 60.0)
    clock.now += 31.0
    target.latency_s = 0.1
    with pytest.raises(DeploymentError, match="did not answer"):
        await failover.generate(BODY, 0.1)
    assert failover.counters()["deployments_resting"] == 0
    hurried = asyncio.ensure_future(failover.generate(BODY, 5.0))
    await settled()
    with pytest.raises(DeploymentError, match="every deployment is cooling down"):
        await failover.generate(BODY, 5.0)  # one of them at a time
    assert (await failover.generate(BODY, 60.0))[0] == REPLY
    hurried.cancel()
    await asyncio.gather(hurried, return_exceptions=True)


async def test_calls_that_nobody_waits_for_trip_no_breaker_and_take_no_probe() -> None:
    clock = Clock()
    failover = tier(clock, [DOWN] * 9 + [REPLY], trip_after=3, max_attempts=3, max_fallbacks=0)
    for _ in range(3):
        with pytest.raises(DeploymentError):
            await failover.generate(BODY, 60.0, is_beside=True)
    assert failover.counters()["deployments_resting"] == 0, "nine failures of a judge's calls are no caller's matter"
    assert (await failover.generate(BODY, 60.0))[0] == REPLY

    failover = tier(clock, [DOWN, DOWN, REPLY], trip_after=1, max_attempts=1, max_fallbacks=0)
    with pytest.raises(DeploymentError):
        await failover.generate(BODY, 60.0)
    assert failover.counters()["deployments_resting"] == 1, "callers' failures do"
    clock.now += 3600.0
    with pytest.raises(DeploymentError):
        await failover.generate(BODY, 60.0, is_beside=True)
    assert (await failover.generate(BODY, 60.0))[0] == REPLY, "the one probe was left for it"


async def test_what_an_api_throttles_is_counted_apart_from_its_other_failures() -> None:
    clock = Clock()
    targets = {"one": Scripted(clock, [DeploymentError("slow down", 429), DOWN, REPLY])}
    config = FailoverConfig(max_attempts=3, trip_after=10)
    tier = Failover(targets, {"one": 1.0}, config, 60.0, clock, clock.sleep, lambda: 0.5)
    await tier.generate(BODY, 60.0)
    counted = tier.counters()
    assert (counted["deployment_throttled_total"], counted["deployment_failures"]) == (1, 2)


async def test_a_request_that_is_refused_in_mid_stream_says_nothing_of_its_deployment() -> None:
    """Else one caller's filtered prompts would have the deployment rest for everybody."""
    filtered = [WORD, DeploymentError("filtered", 400)]
    failover = tier(Clock(), [filtered, [WORD, END]], trip_after=1)
    with pytest.raises(DeploymentError, match="filtered"):
        await collected(failover)
    assert await collected(failover) == [WORD, END]


@pytest.mark.parametrize("way", ["whole", "stream"])
@pytest.mark.parametrize(("name", "odd"), [("usage", "none"), ("retry_after_s", "soon"), ("meaning", None)])
async def test_an_error_that_cannot_be_recorded_ends_its_probe(way: str, name: str, odd: Any) -> None:
    clock, error = Clock(), DeploymentError("odd", 502)
    setattr(error, name, odd)
    steps = [DOWN, error, REPLY] if way == "whole" else [[DOWN], [error], [WORD, END]]
    failover = tier(clock, steps, trip_after=1, max_attempts=1)
    for _ in range(2):
        with pytest.raises((DeploymentError, AttributeError, TypeError, ValueError)):
            await (failover.generate(BODY, 60.0) if way == "whole" else collected(failover))
        clock.now += 31.0
    assert await (failover.generate(BODY, 60.0) if way == "whole" else collected(failover))
