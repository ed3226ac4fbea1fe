"""A hosted tier over Anthropic's API, scripted in this process: what it is sent, and what its callers get."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from router_models.types import Usage
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.errors import ConfigError
from serve_graph.policy.bindings import _engine
from tests.unit.serve_graph.engines.hosted.anthropic.conftest import ANSWER, HELLO, PRICE, Tier, chunks_in, streamed
from tests.unit.serve_graph.engines.hosted.anthropic.test_reply import CALL, SIGNED, message_of


async def test_it_is_asked_as_anthropics_clients_ask(tier: Callable[..., Tier]) -> None:
    at = tier(headers={"anthropic-beta": "context-1m", "Anthropic-Version": "2026-01-01"})
    at.plays({"json": ANSWER})
    assert (await at.ask()).status_code == 200
    headers = at.server.last["headers"]
    assert headers["x-api-key"] == "sk-ant-test"
    assert (headers["anthropic-version"], headers["anthropic-beta"]) == ("2026-01-01", "context-1m")
    assert at.sent == {"model": "claude", "max_tokens": 64, "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hello"}]}]}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_its_answer_is_a_chat_completion_and_its_usage_is_billed(
    tier: Callable[..., Tier], stream: bool
) -> None:
    at = tier()
    at.plays(streamed(ANSWER) if stream else {"json": ANSWER})
    reply = await at.ask(stream=stream)
    if stream:
        text = "".join(choice["delta"].get("content") or "" for c in chunks_in(reply) for choice in c["choices"])
        assert at.sent["stream"] is True
    else:
        text = reply.json()["choices"][0]["message"]["content"]
        assert reply.json()["usage"]["prompt_tokens"] == 240
    assert text == "Hello, you.\u2028☃"
    [call] = at.endpoint.record.calls
    assert call.usage == Usage(240, 7, 200, 30)


async def test_a_whole_reply_to_a_wish_for_a_stream_is_streamed(tier: Callable[..., Tier]) -> None:
    at = tier()
    at.plays({"json": ANSWER})
    chunks = chunks_in(await at.ask(stream=True))
    assert (
        "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"]) == "Hello, you.\u2028☃"
    )
    assert at.endpoint.record.calls[0].usage == Usage(240, 7, 200, 30)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_goes_through_with_calls_reasoning_and_signatures(
    tier: Callable[..., Tier], stream: bool
) -> None:
    """Anthropic's API in front and behind: blocks go in as they came out."""
    at = tier()
    content = [SIGNED, {"type": "text", "text": "Let me look."}, CALL, CALL | {"id": "toolu_2", "input": {}}]
    said = message_of(*content, stop_reason="tool_use")
    at.plays(streamed(said) if stream else {"json": said}, {"json": ANSWER})
    asked = {"tools": [{"name": "look", "input_schema": {"type": "object"}}], "thinking": {"type": "adaptive"}}
    reply = await at.ask("/v1/messages", stream=stream, **asked)
    if stream:
        blocks = blocks_in(chunks_in(reply))
    else:
        blocks = reply.json()["content"]
        assert reply.json()["usage"]["cache_read_input_tokens"] == 200
        assert (reply.json()["stop_reason"], reply.json()["usage"]["input_tokens"]) == ("tool_use", 10)
    assert [{**block, "id": None} for block in blocks] == [{**block, "id": None} for block in content]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "rain"}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    turns = [*HELLO["messages"], {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
    await at.ask("/v1/messages", messages=turns, **asked)
    [_, assistant, user] = at.sent["messages"]
    assert assistant["content"] == content
    assert [block["tool_use_id"] for block in user["content"]] == ["toolu_1", "toolu_2"]
    assert at.sent["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_tokens_are_told_in_the_words_of_who_asks(tier: Callable[..., Tier], stream: bool) -> None:
    at = tier()
    usage = ANSWER["usage"] | {"output_tokens_details": {"thinking_tokens": 3}}
    said = ANSWER | {"usage": usage}
    if stream:  # they come with the last counts
        entry = streamed(said)
        entry["events"][-2] = entry["events"][-2].replace(
            '"output_tokens": 7', '"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3}'
        )
    for path in ("/v1/messages", "/v1/chat/completions"):
        at.plays(entry if stream else {"json": said})
        reply = await at.ask(
            path, stream=stream, **({"stream_options": {"include_usage": True}} if stream and "chat" in path else {})
        )
        told = [c["usage"] for c in chunks_in(reply) if c.get("usage")][-1] if stream else reply.json()["usage"]
        if path == "/v1/messages":
            assert (told["output_tokens"], told["output_tokens_details"]) == (7, {"thinking_tokens": 3})
        else:
            assert (told["completion_tokens"], told["completion_tokens_details"]["reasoning_tokens"]) == (7, 3)


def blocks_in(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content blocks of a stream of Anthropic's events."""
    blocks: list[dict[str, Any]] = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"] | ({"input": ""} if "input" in event["content_block"] else {}))
        elif event["type"] == "content_block_delta":
            block, delta = blocks[-1], event["delta"]
            name, field = next((k, k) for k in delta if k != "type")
            block["input" if name == "partial_json" else name] += delta[field]
    return [block | ({"input": json.loads(block["input"])} if "input" in block else {}) for block in blocks]


async def test_another_deployment_takes_over_whatever_it_speaks(
    tier: Callable[..., Tier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    deployments = [
        {"name": "claude"},
        {"name": "gateway", "api": "openai", "base_url": "http://upstream/v1", "weight": 0},
    ]
    at = tier(deployments=deployments, failover={"max_attempts": 2})
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    at.plays({"json": busy, "status": 529}, {"fault": "none"})
    thought = {"role": "assistant", "content": "x", "thinking_blocks": [SIGNED]}
    reply = await at.ask(messages=[*HELLO["messages"], thought, *HELLO["messages"]])
    assert reply.json()["choices"][0]["message"]["content"].startswith("echo")
    assert "thinking_blocks" not in at.sent["messages"][1], "only the API that signed it reads it"
    assert "called claude (529" in at.endpoint.record.route_reason


async def test_a_wish_for_caching_reaches_it_and_no_other_api(
    tier: Callable[..., Tier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    block = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    turns = [{"role": "user", "content": [block]}]
    at, other = tier(), tier(api="openai", base_url="http://upstream/v1")
    at.plays({"json": ANSWER})
    await at.ask("/v1/messages", messages=turns)
    await other.ask("/v1/messages", messages=turns)
    assert at.sent["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert "cache_control" not in json.dumps(other.sent)


@pytest.mark.parametrize("parameters", [{}, {"thinking_blocks": "thinking_blocks"}])
async def test_signed_reasoning_goes_to_a_gateway_that_is_said_to_take_it(
    tier: Callable[..., Tier], monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    at = tier(api="openai", base_url="http://upstream/v1", parameters=parameters)
    thought = {"role": "assistant", "content": "x", "thinking_blocks": [SIGNED]}
    await at.ask(messages=[*HELLO["messages"], thought, *HELLO["messages"]])
    assert at.sent["messages"][1].get("thinking_blocks") == ([SIGNED] if parameters else None)


async def test_a_request_it_cannot_take_is_refused_without_a_call(tier: Callable[..., Tier]) -> None:
    at = tier()
    for fields in ({"n": 2}, {"messages": [{"role": "assistant", "tool_calls": [3]}]}):
        reply = await at.ask(**fields)
        assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    assert at.server.seen == 0


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("http://upstream", "/v1/messages"),
        ("http://upstream/v1/", "/v1/messages"),
        ("http://upstream/anthropic", "/anthropic/v1/messages"),
        ("http://upstream/api/v2beta", "/api/v2beta/messages"),
        (None, "/v1/messages"),
    ],
)
async def test_the_address_may_leave_out_the_version(
    tier: Callable[..., Tier], base_url: str | None, path: str
) -> None:
    engine: Any = tier(base_url=base_url).engine.engines["frontier"]
    assert httpx.URL(engine.url).path == path


def test_its_key_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {"name": "frontier", "engine": "openai", "price": PRICE, "model": "claude", "api": "anthropic"}
    config = HostedTierConfig.model_validate(base)
    assert config.api_key_env == config.apis[0].api_key_env == "ANTHROPIC_API_KEY"
    assert HostedTierConfig.model_validate(base | {"api_key_env": "OTHER"}).api_key_env == "OTHER"
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        HostedEngine(config)


@pytest.mark.parametrize(
    "fields",
    [
        {"api": "anthropic", "organization": "x"},
        {"api": "anthropic", "embeddings": True},
        {"thinking": "budget"},
        {"prompt_caching": True},
        {"api": "gemini"},
    ],
)
def test_fields_of_another_api_are_refused(fields: dict[str, Any]) -> None:
    base = {"name": "frontier", "engine": "openai", "price": PRICE, "model": "claude"}
    with pytest.raises(ValidationError):
        HostedTierConfig.model_validate(base | fields)


def test_a_certificate_depends_on_which_api_answers() -> None:
    base = {"name": "frontier", "engine": "openai", "price": PRICE, "model": "claude", "base_url": "http://x/v1"}
    openais, anthropics, budget = (
        _engine(HostedTierConfig.model_validate(base | fields), Path())
        for fields in ({}, {"api": "anthropic"}, {"api": "anthropic", "thinking": "budget"})
    )
    assert openais == {"engine": "openai", "base_url": "http://x/v1"}
    assert openais != anthropics != budget
