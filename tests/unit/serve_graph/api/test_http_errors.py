"""What is refused or fails over HTTP: one shape of every error, and who is counted or recorded."""

import json
import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from router_models.types import DecisionRecord, Query
from serve_graph.cascade.fakes import FakeEngine, ListSink
from serve_graph.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    SaturatedError,
)

Endpoints = Callable[..., Any]
HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


def assert_openai_error(response: httpx.Response, status: int) -> dict[str, Any]:
    """The one shape of every error; nothing of our insides in it."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    data = response.json()
    assert set(data) == {"error"}
    assert set(data["error"]) == {"message", "type", "param", "code"}
    assert data["error"]["message"]
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    error: dict[str, Any] = data["error"]
    return error


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"])
async def test_what_an_error_quotes_of_a_request_is_cut(endpoint: Endpoints, path: str) -> None:
    long = "x" * 100_000
    bodies = [{long: 1}, {"serve_graph": {long: 1}}, {"metadata": {long: 1}}, {"tools": [{"type": long}]}]
    async with endpoint().client() as client:
        for body in bodies:
            response = await client.post(path, json={"model": "auto", **body})
            assert response.status_code in (400, 413)
            assert len(response.content) < 3000


@pytest.mark.parametrize("stream", [False, True])
async def test_half_a_character_in_an_engines_refusal_is_passed_on(endpoint: Endpoints, stream: bool) -> None:
    at = endpoint(frontier=FakeEngine(error=EngineRequestError("bad \ud83d")))
    response = await at.chat("frontier", stream=stream)
    assert (response.status_code, response.json()["error"]["message"]) == (400, "bad \ud83d")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineError("dead"), 503, None),
        (EngineTimeoutError("slow"), 504, None),
        (EngineRequestError("too long", "context_length_exceeded"), 400, "context_length_exceeded"),
    ],
)
async def test_failing_tier_is_an_error_with_a_record(
    endpoint: Endpoints, stream: bool, error: EngineError, status: int, code: str | None
) -> None:
    at = endpoint(frontier=FakeEngine(error=error))
    response = await at.chat("frontier", stream=stream)
    assert assert_openai_error(response, status)["code"] == code
    assert ("retry-after" in response.headers) is (status in (503, 504))
    assert (at.record.status, at.record.outcome) == (status, "forced")


@pytest.mark.parametrize("stream", [False, True])
async def test_bug_of_ours_is_a_500_without_a_trace_and_with_a_record(endpoint: Endpoints, stream: bool) -> None:
    at = endpoint(cheap=FakeEngine(error=ZeroDivisionError("secret detail")))
    response = await at.chat(stream=stream)
    assert "secret" not in assert_openai_error(response, 500)["message"]
    assert (at.record.status, at.record.error) == (500, "server_error")


async def test_engine_reply_that_cannot_be_shown_is_recorded_as_the_failure_it_is(endpoint: Endpoints) -> None:
    class Odd(FakeEngine):
        async def generate(self, query: Query, left_s: float = math.inf):  # type: ignore[no-untyped-def]
            completion = await super().generate(query, left_s)
            return type(completion)(completion.text, payload={"choices": []})

    at = endpoint(cheap=Odd())
    assert_openai_error(await at.chat(), 503)
    assert at.record.status == 503


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_utf8"),
        (json.dumps(HELLO | {"colour": 1}).encode(), 400, "unknown_field"),
        (json.dumps(HELLO | {"model": "gpt-17"}).encode(), 404, "model_not_found"),
        (json.dumps(HELLO | {"n": 9}).encode(), 400, "unsupported_value"),
        (json.dumps(HELLO | {"serve_graph": {"colour": 1}}).encode(), 400, "unknown_field"),
        (json.dumps(HELLO | {"serve_graph": {"stream": "guess"}}).encode(), 400, "invalid_value"),
        (json.dumps(HELLO | {"max_tokens": -1}).encode(), 400, "invalid_value"),
        (json.dumps(HELLO | {"stream_options": {}}).encode(), 400, "invalid_value"),
        (b"x" * 5000, 413, "payload_too_large"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions"])
async def test_bad_request_is_refused_in_openais_shape(
    endpoint: Endpoints, path: str, raw: bytes, status: int, code: str
) -> None:
    at = endpoint()
    async with at.client() as client:
        response = await client.post(path, content=raw)
        assert assert_openai_error(response, status)["code"] == code
        assert (await client.post(path, json=HELLO)).status_code == 200


async def test_body_without_a_length_is_cut_off_at_the_limit(endpoint: Endpoints) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    async with endpoint().client() as client:
        assert_openai_error(await client.post("/v1/chat/completions", content=endless()), 413)


async def test_decision_is_found_by_its_id(endpoint: Endpoints) -> None:
    at = endpoint()
    name = (await at.chat()).headers["x-serve-graph-decision"]
    async with at.client() as client:
        data = (await client.get(f"/v1/decisions/{name}")).json()
        assert_openai_error(await client.get("/v1/decisions/dec-none"), 404)
    assert (data["id"], data["cost_usd"], data["p_cheap_ok"]) == (name, str(at.record.cost_usd), 0.9)


async def test_requests_refused_at_the_door_are_counted_and_are_no_decisions(endpoint: Endpoints) -> None:
    at = endpoint()
    await at.chat(content=5)
    await at.chat(temperature=9)
    await at.chat("no-such-model")
    async with at.client() as client:
        await client.post("/v1/embeddings", json={"model": "auto", "input": "x"})
        await client.get("/nowhere")
    async with at.client(("10.0.0.1", 1)) as client:
        await client.get("/healthz")
    assert at.service.metrics.refused == {400: 2, 404: 3, 403: 1}
    assert at.sink.records == []
    await at.chat()
    assert at.service.metrics.refused.total() == 6


async def test_what_an_engine_refuses_is_a_decision_and_not_counted_twice(endpoint: Endpoints) -> None:
    at = endpoint(frontier=FakeEngine(error=EngineRequestError("too odd")))
    assert (await at.chat("frontier")).status_code == 400
    assert at.record.status == 400
    assert at.service.metrics.refused == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_record_that_cannot_be_kept_does_not_cost_the_answer(endpoint: Endpoints, stream: bool) -> None:
    class Full(ListSink):
        def write(self, record: DecisionRecord) -> None:
            raise OSError(28, "No space left on device")

    at = endpoint(sink=Full())
    reply = await at.chat(stream=stream)
    assert reply.status_code == 200
    assert "error" not in reply.text
    assert at.service.metrics.unrecorded == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/chat", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/docs", 404),
        ("GET", "/v1/decisions/", 404),
        ("GET", "/v1/decisions/dec-%00", 404),
    ],
)
async def test_unknown_path_or_method_is_refused_in_openais_shape(
    endpoint: Endpoints, method: str, path: str, status: int
) -> None:
    async with endpoint().client() as client:
        response = await client.request(method, path)
    assert_openai_error(response, status)
    assert ("allow" in response.headers) is (status == 405)


@pytest.mark.parametrize("caller", ["10.1.2.3", "192.168.1.7", "2001:db8::1", "::ffff:10.0.0.1", "a-name"])
@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/v1/decisions/x", "/nothing"])
async def test_caller_from_elsewhere_is_refused(endpoint: Endpoints, caller: str, path: str) -> None:
    async with endpoint().client((caller, 1)) as client:
        response = await client.get(path, headers={"x-forwarded-for": "127.0.0.1"})
    assert assert_openai_error(response, 403)["type"] == "permission_error"


@pytest.mark.parametrize("caller", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_caller_from_this_machine_is_let_in(endpoint: Endpoints, caller: str) -> None:
    async with endpoint().client((caller, 1)) as client:
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_saturated_tier_is_a_429_that_says_when_to_come_back(endpoint: Endpoints, stream: bool) -> None:
    full = SaturatedError("tier 'frontier' is saturated: its queue is full", retry_after_s=12.2)
    at = endpoint(frontier=FakeEngine(error=full))
    response = await at.chat("frontier", stream=stream)
    assert assert_openai_error(response, 429)["code"] == "tier_saturated"
    assert response.headers["retry-after"] == "13"
    assert at.record.status == 429
