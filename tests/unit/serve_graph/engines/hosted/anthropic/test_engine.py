"""A hosted tier over Anthropic's API, scripted in this process: what it is sent, and what its callers get."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from router_models.types import Usage
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.tiers import HostedTierConfig
from serve_graph.engines.echo.scripted import check_script
from serve_graph.engines.echo.server import FAULTS, EchoServer
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.errors import ConfigError
from serve_graph.policy.bindings import _engine
from tests.fixtures.serving import Api
from tests.fixtures.upstream import DirectHandle
from tests.unit.serve_graph.engines.hosted.anthropic.test_reply import CALL, SIGNED, events_of, message_of

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 64}
ANSWER = message_of({"type": "text", "text": "Hello, you.\u2028☃"})
WEATHER = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
PRICE = {"input_usd_per_mtok": 10, "output_usd_per_mtok": 20}


class Tier:
    """A tier of deployments that are all one scripted API, and the endpoint in front of it."""

    def __init__(self, endpoint: Callable[..., Any], **fields: Any) -> None:
        self.server = EchoServer("frontier")
        api = {"model": "claude", "api": "anthropic", "base_url": "http://upstream"}
        if "deployments" in fields:
            fields["deployments"] = [api | own for own in fields["deployments"]]
            api = {}
        base = {
            "name": "frontier",
            "engine": "openai",
            "price": PRICE,
            "failover": {"max_attempts": 1},
            "timeout_s": 2.0,
        }
        self.config = HostedTierConfig.model_validate(base | api | fields)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.server))
        self.engine = HostedEngine(self.config, client)
        handle: Any = DirectHandle(self.engine)
        self.endpoint = endpoint(frontier=HandleEngine(handle, self.config), max_body_bytes=100_000)

    def plays(self, *entries: dict[str, Any]) -> None:
        self.server.script.clear()
        self.server.script.extend(check_script(list(entries), FAULTS))

    @property
    def sent(self) -> dict[str, Any]:
        """The body of the last request to the API."""
        body: dict[str, Any] = self.server.last["body"]
        return body

    async def ask(self, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
        async with self.endpoint.client() as client:
            return await client.post(path, json=HELLO | {"model": "frontier"} | fields)


@pytest.fixture
async def tier(endpoint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Tier]]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    made: list[Tier] = []

    def make(**fields: Any) -> Tier:
        made.append(Tier(endpoint, **fields))
        return made[-1]

    yield make
    for each in made:
        await each.engine.close()


def streamed(message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A script's entry that streams a message, in packets of 7 bytes."""
    events = [
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events_of(message)
    ]
    return {"events": events, "split": 7, **fields}


def chunks_in(reply: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in reply.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


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
        ({"json": ANSWER, "pause_s": 5.0}, 504),
    ],
)
async def test_a_reply_that_is_none_is_the_tiers_failure(
    tier: Callable[..., Tier], entry: dict[str, Any], status: int
) -> None:
    at = tier(timeout_s=0.3)
    at.plays(entry)
    assert (await at.ask()).status_code == status


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
    at = tier(timeout_s=0.5)
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
        ({"events": [*streamed(ANSWER)["events"][:4], 5.0]}, 504),
        ({"fault": "reset"}, 503),
        ({"fault": "hang"}, 504),
        (streamed(ANSWER, pause_s=0.1), None),
    ],
    ids=["silence", "reset", "hang", "slow, but never silent for long"],
)
async def test_over_a_socket_silence_and_resets_end_the_stream_in_time(
    api: Api, monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any], status: int | None
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    config = HostedTierConfig.model_validate(
        {"name": "frontier", "engine": "openai", "price": PRICE, "model": "claude", "api": "anthropic",
         "base_url": api.url, "timeout_s": 0.6, "failover": {"max_attempts": 1}}
    )  # fmt: skip
    engine = HostedEngine(config)
    api.plays(entry)
    *_, last = [chunk async for chunk in engine.stream(HELLO | {"stream": True}, 0.6)]
    assert last.get("error", {}).get("code") == status
    await engine.close()


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
