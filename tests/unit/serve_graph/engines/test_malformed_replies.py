"""An engine's reply that is none is its tier's failure: on every way out, whole and streamed, and in the record."""

import math
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from itertools import chain
from time import process_time
from typing import Any

import httpx
import pytest

from router_models.types import Completion, Query
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.config.judge import HostedVerifierConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.engines.hosted.event_stream import EventReader
from serve_graph.errors import EngineError
from serve_graph.protocol.chunks import check_chunk
from serve_graph.protocol.responses import MALFORMED, completion_of

Endpoints = Callable[..., Any]
GOOD: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
COMMON: dict[str, dict[str, Any]] = {
    "index text": {"index": "x"},
    "index list": {"index": [1]},
    "index below 0": {"index": -1},
    "finish list": {"finish_reason": ["stop"]},
    "logprobs text": {"logprobs": "x"},
    "tokens text": {"logprobs": {"content": "abc"}},
    "token without a logprob": {"logprobs": {"content": [{"token": "a"}]}},
    "logprob NaN": {"logprobs": {"content": [{"token": "a", "logprob": math.nan}]}},
}
SAID: dict[str, Any] = {
    "message text": "hi",
    "message list": [["content", "a"]],
    "content number": {"content": 5},
    "content object": {"content": {"text": "hi"}},
    "refusal number": {"content": None, "refusal": 5},
    "refusal list": {"content": None, "refusal": ["no"]},
    "reasoning number": {"content": "x", "reasoning": 5},
    "calls number": {"tool_calls": 5},
    "calls object": {"tool_calls": {"a": {}}},
    "call text": {"tool_calls": ["call"]},
    "function text": {"tool_calls": [{"id": "a", "type": "function", "function": "x"}]},
    "name number": {"tool_calls": [{"id": "a", "function": {"name": 5, "arguments": "{}"}}]},
    "arguments object": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"a": 1}}}]},
    "call's id list": {"tool_calls": [{"id": ["a"], "function": {"name": "f", "arguments": "{}"}}]},
    "call's index text": {"tool_calls": [{"index": "x", "id": "a", "function": {"name": "f", "arguments": "{}"}}]},
}
WHOLE = {name: GOOD | changed for name, changed in COMMON.items()} | {
    n: GOOD | {"message": m} for n, m in SAID.items()
}
WHOLE["no function"] = GOOD | {"message": {"tool_calls": [{"id": "a", "type": "function", "function": None}]}}
WHOLE["no name"] = GOOD | {"message": {"tool_calls": [{"id": "a", "function": {"arguments": "{}"}}]}}
PIECES = {n: {"index": 0, "delta": {"content": "a"}} | changed for n, changed in COMMON.items()}
PIECES |= {n: {"index": 0, "delta": delta} for n, delta in SAID.items()}
WAYS = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "q"}]}),
    ("/v1/responses", {"input": "q"}),
]


@dataclass
class Replying(FakeEngine):
    """Says what it is given, read as a tier's handle reads it."""

    choices: list[dict[str, Any]] = field(default_factory=list)
    chunks: list[Any] = field(default_factory=list)

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        try:
            return completion_of({"choices": self.choices}, 0.1)
        except MALFORMED as error:
            raise EngineError("no completion") from error

    async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Any, None]:
        for chunk in self.chunks:
            yield chunk


async def ask(at: Any, path: str, body: dict[str, Any]) -> httpx.Response:
    async with at.client() as client:
        reply: httpx.Response = await client.post(path, json={"model": "auto"} | body)
    return reply


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("first", [True, False])
def test_a_choice_that_is_none_is_refused_wherever_it_stands(name: str, first: bool) -> None:
    with pytest.raises(MALFORMED):
        completion_of({"choices": [WHOLE[name]] if first else [GOOD, WHOLE[name]]}, 0.0)


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_that_is_none_is_refused(name: str) -> None:
    check_chunk({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    with pytest.raises(MALFORMED):
        check_chunk({"choices": [PIECES[name]]})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), WAYS)
@pytest.mark.parametrize("name", ["index text", "token without a logprob", "refusal number", "arguments object"])
async def test_a_malformed_reply_is_the_tiers_failure(
    endpoint: Endpoints, name: str, path: str, body: dict[str, Any], stream: bool
) -> None:
    at = endpoint(cheap=Replying(choices=[GOOD, WHOLE[name]]))
    reply = await ask(at, path, body | {"stream": stream})
    assert (reply.status_code, at.record.status, at.record.tier) == (200, 200, "frontier"), "another answers instead"
    assert "internal error" not in reply.text


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("path", "body"), WAYS)
@pytest.mark.parametrize("name", ["index text", "finish list", "refusal number", "arguments object", "no chunk"])
async def test_a_malformed_piece_is_the_tiers_failure(
    endpoint: Endpoints, name: str, path: str, body: dict[str, Any], later: bool
) -> None:
    bad = 5 if name == "no chunk" else {"choices": [PIECES[name]]}
    said = [{"choices": [{"index": 0, "delta": {"content": "hello "}}]}]
    at = endpoint(cheap=Replying(chunks=[*said, bad] if later else [bad, *said]))
    reply = await ask(at, path, body | {"stream": True, "serve_graph": {"stream": "route"}})
    if later:
        assert (at.record.status, at.record.error) == (503, "service_unavailable_error")
        assert "the answer was interrupted: tier 'cheap' sent a malformed chunk" in reply.text
    else:
        assert (at.record.status, at.record.tier) == (200, "frontier")
        assert "error" not in reply.text.replace('"error":null', "")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_one_answer_however_many_a_tier_gives(endpoint: Endpoints, stream: bool) -> None:
    other = {"index": 1, "message": {"role": "assistant", "content": "OTHER"}, "finish_reason": "stop"}
    at = endpoint(cheap=Replying(choices=[GOOD, other]))
    reply = await ask(at, "/v1/responses", {"input": "q", "stream": stream})
    assert (reply.status_code, at.record.status) == (200, 200)
    assert "hi" in reply.text
    assert "OTHER" not in reply.text


async def test_calls_and_choices_without_an_index_are_counted(endpoint: Endpoints) -> None:
    calls = [{"index": None, "id": n, "function": {"name": n, "arguments": "{}"}} for n in ("f", "g")]
    at = endpoint(cheap=Replying(choices=[{"index": None, "message": {"tool_calls": calls}, "finish_reason": None}]))
    reply = await ask(at, "/v1/responses", {"input": "q"})
    assert [item["name"] for item in reply.json()["output"]] == ["f", "g"]
    [choice] = (await at.chat()).json()["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")


async def test_a_reply_that_cannot_be_converted_is_not_recorded_as_delivered(
    endpoint: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, reply: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr("serve_graph.api.responses.ResponsesFormat.whole", broken)
    at = endpoint()
    reply = await ask(at, "/v1/responses", {"input": "q"})
    assert (reply.status_code, at.record.status) == (500, 500)


def test_an_event_without_an_end_is_given_up() -> None:
    reader, line = EventReader(), b"data: " + b"x" * 2**20 + b"\n"
    with pytest.raises(ValueError, match="an event without an end"):
        list(chain.from_iterable(map(reader.feed, [line] * 40)))


def test_a_long_line_is_read_in_a_time_that_grows_with_its_length() -> None:
    """Of 20 MB in pieces of 1 kB: a few copies of all, not one for each piece, which took minutes."""
    reader, piece = EventReader(), b"x" * 1024
    began = process_time()
    events = [event for part in (b"data: ", *[piece] * 20_000, b"\r", b"\n", b"\n") for event in reader.feed(part)]
    assert [len(event.data) for event in events] == [20_000 * 1024]
    assert process_time() - began < 5.0


def test_many_lines_beside_the_events_are_kept_in_a_time_that_grows_with_their_number() -> None:
    reader, lines = EventReader(), b"a line\n" * 1000
    began = process_time()
    assert [event for _ in range(100) for event in reader.feed(lines)] == []
    assert process_time() - began < 5.0
    assert len(reader.text.splitlines()) == 100_000


class Endless(httpx.AsyncByteStream):
    """A reply's body that goes on and on."""

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        piece = b" " * 2**20
        while True:
            yield piece


HOSTED = {"price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}, "failover": {"max_attempts": 1}}
ASKED = {"messages": [{"role": "user", "content": "q"}], "max_tokens": 5}
SAID_WHOLE = {"choices": [GOOD], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


def hosted(config: type[HostedTierConfig], status: int, **more: Any) -> HostedEngine:
    """A hosted tier whose API at `endless` sends a reply without an end; any other one answers."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "endless":
            return httpx.Response(status, stream=Endless())
        return httpx.Response(200, json=SAID_WHOLE)

    given = {"name": "big", "engine": "openai", **HOSTED, **more}
    return HostedEngine(config.model_validate(given), httpx.AsyncClient(transport=httpx.MockTransport(handle)))


ONE: dict[str, Any] = {"model": "m", "base_url": "http://endless/v1", "api_key_env": "API_KEY"}


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    ("config", "more", "way"),
    [
        (HostedTierConfig, {}, "generate"),
        (HostedTierConfig, {"api": "anthropic"}, "generate"),
        (HostedTierConfig, {}, "embed"),
        (HostedVerifierConfig, {}, "generate"),
    ],
)
async def test_a_reply_without_an_end_is_given_up_with_its_length(
    config: type[HostedTierConfig], more: dict[str, Any], way: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "none")
    engine = hosted(config, status, **ONE, **more)
    reply = await getattr(engine, way)({**ASKED, "input": "q"}, 60.0)
    assert (reply["error"]["code"], reply["error"]["fault"]) == (502, "unavailable")
    assert "the hosted API's reply is longer than 128 MiB" in reply["error"]["message"]
    await engine.close()


@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_a_refusal_of_a_stream_without_an_end_is_given_up(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "none")
    engine = hosted(HostedTierConfig, 503, **ONE, api=api)
    [last] = [chunk async for chunk in engine.stream({**ASKED, "stream": True}, 60.0)]
    assert "longer than 128 MiB" in last["error"]["message"]
    await engine.close()


async def test_a_deployment_whose_reply_has_no_end_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "none")
    own = {"model": "m", "api_key_env": "API_KEY"}
    apis = [
        {"name": "first", "base_url": "http://endless/v1", **own},
        {"name": "second", "base_url": "http://well/v1", "weight": 0, **own},
    ]
    engine = hosted(HostedTierConfig, 200, deployments=apis, failover={"max_attempts": 2, "backoff_s": 0.01})
    reply = await engine.generate(ASKED, 60.0)
    assert reply["choices"][0]["message"]["content"] == "hi"
    assert [(one.deployment, one.status) for one in reply["attempts"]] == [("first", 502), ("second", 200)]
    await engine.close()
