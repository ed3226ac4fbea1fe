"""One tier over several deployments of an API: storms of 429s, failover, rest and deadlines."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from router_models.types import Attempt
from serve_graph.errors import (
    EngineError,
    EngineTimeoutError,
    SaturatedError,
)
from tests.fixtures.made_up_time import hurry_when
from tests.unit.serve_graph.engines.hosted.asked import (
    BODY,
    LONG_S,
    QUICK,
    Api,
    asked,
    hosted,
    soon,
)
from tests.unit.serve_graph.engines.test_api_connection import BROKEN, IN_CHUNKS, OK, Packets, Sender, running, sized

Tier = Callable[..., Awaitable[Any]]


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


ANSWER = json.dumps({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}], "usage": {
    "prompt_tokens": 3, "completion_tokens": 1}}).encode()  # fmt: skip
SPEAKS = {"index": 0, "delta": {"role": "assistant"}}
ROLE = (
    b"data: %s\n\n" % json.dumps({"choices": [SPEAKS], "usage": {"prompt_tokens": 7, "completion_tokens": 0}}).encode()
)
SAYS = {"index": 0, "delta": {"content": "fine"}, "finish_reason": "stop"}
EVENTS = b"data: %s\n\ndata: [DONE]\n\n" % json.dumps({"choices": [SAYS]}).encode()


@pytest.fixture
async def tier(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tier]:
    """Makes a hosted tier of senders."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setattr("serve_graph.engines.http_client.getproxies", dict)
    async with AsyncExitStack() as held:

        async def of(*senders: Sender, **fields: Any) -> Any:
            urls = [await held.enter_async_context(running(sender)) for sender in senders]
            return hosted(*(SimpleNamespace(url=url) for url in urls), **fields)

        yield of


@pytest.mark.parametrize("packets", [packets for packets, _ in BROKEN.values()], ids=BROKEN)
async def test_another_deployment_answers_for_one_whose_reply_is_no_http(
    tier: Tier, packets: Packets, stream: bool
) -> None:
    well = Sender(sized(EVENTS, OK + b"content-type: text/event-stream\r\n") if stream else sized(ANSWER))
    graph = await tier(Sender(*packets), well, timeout_s=LONG_S)
    async with asyncio.timeout(LONG_S / 2):
        text, calls = await asked(graph, stream, LONG_S)
    assert (text, [call.status for call in calls]) == ("fine", [502, 200])


async def test_where_there_is_no_other_the_error_says_what_is_wrong_with_the_reply(tier: Tier, stream: bool) -> None:
    packets, _ = BROKEN["lengths that differ"]
    graph = await tier(Sender(*packets), failover={"max_attempts": 1})
    with pytest.raises(EngineError, match="the hosted API's reply is no valid HTTP: Duplicate Content-Length"):
        await asked(graph, stream)


async def test_what_a_stream_that_broke_counted_is_on_the_bill(tier: Tier) -> None:
    chunk = b"%x\r\n%s\r\n" % (len(ROLE), ROLE)
    well = Sender(sized(EVENTS))
    graph = await tier(Sender(IN_CHUNKS + chunk, b"zz\r\n"), well)
    text, calls = await asked(graph, True)
    assert text == "fine"
    first: Attempt = calls[0]
    assert (first.status, first.usage["prompt_tokens"]) == (502, 7)


async def test_an_answer_that_is_whole_before_a_fault_is_an_answer(tier: Tier) -> None:
    chunk = b"%x\r\n%s\r\n" % (len(EVENTS), EVENTS)
    graph = await tier(Sender(IN_CHUNKS + chunk + b"zz\r\n"), failover={"max_attempts": 1})
    assert (await asked(graph, True))[0] == "fine"


def in_chunk(*events: Any) -> bytes:
    text = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)
    return b"%x\r\n%s\r\n" % (len(text), text)


def said(text: str, end: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": end}]}


MESSAGE = (
    {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "fine"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
)


@pytest.mark.parametrize("end", ["silence", "a hang-up", "no HTTP", "half a line"])
@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_what_comes_after_the_last_word_takes_no_answer_back(
    tier: Tier, api: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    for module in ("openai_compatible", "anthropic.engine"):
        monkeypatch.setattr(f"serve_graph.engines.hosted.{module}.LAST_WORD_S", 0.2)
    events = MESSAGE if api == "anthropic" else (said("fi"), said("ne", "stop"))
    more = {"no HTTP": b"zz\r\n", "half a line": b'8\r\ndata: {"\r\n'}.get(end, b"")
    sender = Sender(
        IN_CHUNKS + in_chunk(*events), *([more] if more else []), leaves=end in ("a hang-up", "half a line")
    )
    graph = await tier(sender, api=api, timeout_s=LONG_S, failover={"max_attempts": 1})
    async with asyncio.timeout(LONG_S / 2):
        assert (await asked(graph, True, LONG_S))[0] == "fine"


async def test_silence_between_two_choices_is_no_end(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_graph.engines.hosted.openai_compatible.LAST_WORD_S", 0.001)
    second = in_chunk(said("two", "stop", index=1)) + b"0\r\n\r\n"
    graph = await tier(Sender(IN_CHUNKS + in_chunk(said("one ", "stop")), second), failover={"max_attempts": 1})
    pieces = [piece async for piece in graph.stream({**BODY, "n": 2, "stream": True}, LONG_S)]
    assert [piece["choices"][0]["delta"]["content"] for piece in pieces] == ["one ", "two"]
