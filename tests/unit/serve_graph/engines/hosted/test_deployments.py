"""One tier over several deployments of an API: storms of 429s, failover, rest and deadlines."""

import asyncio
import time
from typing import Any

import pytest

from serve_graph.errors import (
    EngineTimeoutError,
    SaturatedError,
)
from tests.fixtures.made_up_time import hurry_when
from tests.unit.serve_graph.engines.hosted.asked import (
    LONG_S,
    QUICK,
    Api,
    asked,
    hosted,
    soon,
)


async def test_storm_of_429s_is_sat_out_as_long_as_the_api_asks(api: Api, stream: bool) -> None:
    api.plays({"fault": "status", "status": 429, "retry_after": 0.1, "times": 2})
    started = time.perf_counter()
    text, calls = await asked(hosted(api), stream)
    assert text == "echo east: one two three"
    assert [call.status for call in calls] == [429, 429, 200]
    assert time.perf_counter() - started >= 0.2


async def test_storm_meets_few_calls_however_many_ask(api: Api) -> None:
    api.plays({"fault": "status", "status": 429, "retry_after": 60, "times": 100})
    tier = hosted(api)
    with pytest.raises(SaturatedError):
        await asked(tier, False)
    failures = await asyncio.gather(*(asked(tier, False) for _ in range(30)), return_exceptions=True)
    assert all(isinstance(failure, SaturatedError) and failure.retry_after_s > 50 for failure in failures)  # type: ignore[operator]
    assert api.state()["seen"] == 1


@pytest.mark.sampled
@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "status", "status": 429, "retry_after": 60},
        {"fault": "status", "status": 500},
        {"fault": "status", "status": 401},
        {"fault": "reset"},
        {"fault": "error_body"},
        {"fault": "no_choices"},
        {"fault": "hang"},
    ],
    ids=str,
)
async def test_another_deployment_answers_in_a_failing_ones_place(
    api: Api, other_api: Api, stream: bool, fault: dict[str, Any]
) -> None:
    api.plays(fault)
    tier = hosted(api, other_api, failover=QUICK | {"attempt_timeout_s": LONG_S})
    asking = asyncio.ensure_future(asked(tier, stream, 3 * LONG_S))
    if fault["fault"] == "hang":
        await hurry_when(lambda: api.state()["seen"] == 1, LONG_S)
    text, calls = await soon(asking)
    assert text == "echo west: one two three"
    assert [call.deployment for call in calls] == ["east", "west"]
    if fault["fault"] == "no_choices":
        assert calls[0].usage["prompt_tokens"] == 7


async def test_half_an_answer_of_two_choices_is_none(api: Api, other_api: Api) -> None:
    whole = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    api.plays({"fault": "no_choices", "choices": [whole, {"index": 1, "message": None, "finish_reason": "stop"}]})
    text, calls = await asked(hosted(api, other_api), stream=False)
    assert text == "echo west: one two three"
    assert [(call.deployment, call.status) for call in calls] == [("east", 502), ("west", 200)]


async def test_failing_deployment_rests_and_is_taken_back_when_it_is_well(api: Api, other_api: Api) -> None:
    api.plays({"fault": "status", "status": 500, "times": 2})
    tier = hosted(api, other_api, failover=QUICK | {"trip_after": 2, "cooldown_s": 60.0})
    later = [0.0]
    tier.engine.failover.clock = lambda: time.monotonic() + later[0]
    for _ in range(6):
        assert (await asked(tier, False))[0] == "echo west: one two three"
    assert api.state()["seen"] == 2
    assert (await tier.counters())["deployments_resting"] == 1
    later[0] += 61.0
    assert (await asked(tier, False))[0] == "echo east: one two three"
    assert (await tier.counters())["deployments_resting"] == 0


async def test_whole_request_keeps_its_deadline_whatever_is_tried(api: Api, other_api: Api, stream: bool) -> None:
    api.plays({"fault": "hang", "times": 9})
    other_api.plays({"fault": "hang", "times": 9})
    tier = hosted(api, other_api, failover=QUICK | {"max_attempts": 9, "attempt_timeout_s": LONG_S, "trip_after": 99})
    tier.engine.failover.clock = lambda: asyncio.get_running_loop().time()
    asking = asyncio.ensure_future(asked(tier, stream, 2.5 * LONG_S))
    for tried in (1, 2, 3):
        await hurry_when(lambda tried=tried: api.state()["seen"] + other_api.state()["seen"] == tried, LONG_S)  # type: ignore[misc]
    with pytest.raises(EngineTimeoutError):
        await soon(asking)
    assert api.state()["seen"] + other_api.state()["seen"] == 3
