"""Anthropic's API where it fails: errors, replies that are none, streams that break off, silence."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.hosted.engine import HostedEngine
from tests.fixtures.made_up_time import hurry, hurry_when
from tests.fixtures.servers.apis import Api
from tests.unit.serve_graph.engines.hosted.anthropic.conftest import (
    ANSWER,
    HELLO,
    LONG_S,
    PRICE,
    Tier,
    chunks_in,
    streamed,
)


@pytest.mark.parametrize(
    ("entry", "status", "kind"),
    [
        ({"status": 529, "kind": "overloaded_error"}, 429, "rate_limit_error"),
        ({"status": 429, "kind": "rate_limit_error"}, 429, "rate_limit_error"),
        ({"status": 500, "kind": "api_error"}, 503, "service_unavailable_error"),
        ({"status": 504, "kind": "timeout_error"}, 504, "timeout_error"),
        ({"status": 400, "kind": "invalid_request_error"}, 400, "invalid_request_error"),
        ({"status": 413, "kind": "request_too_large"}, 400, "request_too_large"),
        ({"status": 401, "kind": "authentication_error"}, 503, "service_unavailable_error"),
        ({"status": 404, "kind": "not_found_error"}, 503, "service_unavailable_error"),
    ],
    ids=lambda value: str(value.get("status")) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("stream", [False, True])
async def test_its_errors_are_those_of_any_hosted_tier(
    tier: Callable[..., Tier], entry: dict[str, Any], status: int, kind: str, stream: bool
) -> None:
    at = tier()
    error = {"type": "error", "error": {"type": entry["kind"], "message": "the API's words"}, "request_id": "req_1"}
    at.plays({"json": error, "status": entry["status"], "headers": {"retry-after": "3"}})
    reply = await at.ask(stream=stream)
    assert (reply.status_code, reply.json()["error"]["type"]) == (status, kind)
    secret = entry["status"] in (401, 404)
    assert ("the API's words" in reply.text) != secret
    if entry["status"] in (429, 529):
        assert reply.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", "context_length_exceeded"),
        ("input length and `max_tokens` exceed context limit: 197202 + 21333 > 200000", "context_length_exceeded"),
        ("max_tokens: 9000 > 8192, which is the maximum allowed", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_has_openais_code(
    tier: Callable[..., Tier], message: str, code: str | None, stream: bool
) -> None:
    at = tier()
    at.plays(
        {"json": {"type": "error", "error": {"type": "invalid_request_error", "message": message}}, "status": 400}
    )
    reply = await at.ask(stream=stream)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert message in reply.json()["error"]["message"]


async def test_an_account_without_credit_is_the_tiers_fault_and_stays_in_its_log(tier: Callable[..., Tier]) -> None:
    at = tier()
    message = "Your credit balance is too low to access the Anthropic API."
    at.plays(
        {"json": {"type": "error", "error": {"type": "invalid_request_error", "message": message}}, "status": 400}
    )
    reply = await at.ask()
    assert reply.status_code == 503
    assert "credit" not in reply.text


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ({"raw": "<html>", "ct": "text/html"}, 503),
        ({"json": {"type": "message"}}, 503),
        ({"json": []}, 503),
        ({"raw": "", "status": 502}, 503),
        ({"raw": "x", "status": 400}, 400),
        ({"json": ANSWER, "pause_s": 3600.0}, 504),
    ],
)
async def test_a_reply_that_is_none_is_the_tiers_failure(
    tier: Callable[..., Tier], entry: dict[str, Any], status: int
) -> None:
    at = tier()
    at.plays(entry)
    asking = asyncio.ensure_future(at.ask())
    if status == 504:
        await hurry_when(lambda: at.server.seen == 1, 2 * LONG_S)
    assert (await asking).status_code == status


@pytest.mark.parametrize(
    "events",
    [
        ['data: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n'],
        [],
        ["data: no json\n\n"],
        ['data: {"type": "content_block_start", "index": 0}\n\n'],
    ],
    ids=["error", "end", "no json", "malformed"],
)
async def test_a_stream_that_breaks_off_ends_with_an_error_and_is_billed(
    tier: Callable[..., Tier], events: list[Any]
) -> None:
    at = tier()
    begun = streamed(ANSWER)["events"][:4]
    at.plays({"events": [*begun, *events]})
    reply = await at.ask(stream=True)
    *_, last = chunks_in(reply)
    assert last["error"]["code"] == "stream_broken"
    [call] = at.endpoint.record.calls
    assert (call.usage.prompt_tokens, call.metered) == (240, False), "the output that it began with is a placeholder"


@pytest.mark.parametrize("end", [[], ["data: [DONE]\n\n"]], ids=["nothing", "DONE"])
async def test_a_gateways_stream_without_its_last_event_is_whole_and_billed(
    tier: Callable[..., Tier], end: list[Any]
) -> None:
    at = tier()
    *events, stop = streamed(ANSWER)["events"]
    assert "message_stop" in stop
    at.plays({"events": [*events, *end]})
    chunks = chunks_in(await at.ask(stream=True))
    assert not any("error" in chunk for chunk in chunks)
    [call] = at.endpoint.record.calls
    assert (call.usage.prompt_tokens, call.usage.completion_tokens, call.metered) == (240, 7, True)


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ({"events": [*streamed(ANSWER)["events"][:4], 3600.0]}, 504),
        ({"fault": "reset"}, 503),
        ({"fault": "hang"}, 504),
        (streamed(ANSWER, pause_s=0.01), None),
    ],
    ids=["silence", "reset", "hang", "slow, but never silent for long"],
)
async def test_over_a_socket_silence_and_resets_end_the_stream_in_time(
    api: Api, monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any], status: int | None
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    config = HostedTierConfig.model_validate(
        {"name": "frontier", "engine": "openai", "price": PRICE, "model": "claude", "api": "anthropic",
         "base_url": api.url, "timeout_s": LONG_S, "failover": {"max_attempts": 1}}
    )  # fmt: skip
    engine, chunks = HostedEngine(config), []
    api.plays(entry)

    async def read() -> None:
        async for chunk in engine.stream(HELLO | {"stream": True}, LONG_S):
            chunks.append(chunk)
            if status is None:
                hurry(0.6 * LONG_S)

    reading = asyncio.ensure_future(read())
    if status == 504:
        await hurry_when(lambda: chunks if "events" in entry else api.state()["seen"] == 1, 2 * LONG_S)
    await reading
    assert chunks[-1].get("error", {}).get("code") == status
    await engine.close()
