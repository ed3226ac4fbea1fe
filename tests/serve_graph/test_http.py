import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, NotFoundError
from prometheus_client.parser import text_string_to_metric_families

from router_models.types import Action, Attempt, DecisionRecord, Query, Usage
from serve_graph.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    PolicyUnavailableError,
    SaturatedError,
)
from serve_graph.testing import FakeDecider, FakeEngine, FakeJudge, ListSink

Endpoints = Callable[..., Any]
HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
LONG = "word " * 60


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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_half_a_character_from_an_engine_is_passed_on(endpoint: Endpoints, path: str, stream: bool) -> None:
    half = "half \ud83d"  # what json.loads makes of an API that cuts its answer in UTF-16
    at = endpoint(frontier=FakeEngine(half, piece_chars=64))
    asked = {"messages": [{"role": "user", "content": "x"}]}
    asked = {"/v1/completions": {"prompt": "x"}, "/v1/responses": {"input": "x"}}.get(path, asked)
    async with at.client() as client:
        response = await client.post(path, json={"model": "frontier", "stream": stream, **asked})
    assert (response.status_code, at.record.status) == (200, 200)
    assert "half \\ud83d" in response.content.decode("utf-8")
    assert b"error" not in response.content.replace(b'"error":null', b"")


@pytest.mark.parametrize("stream", [False, True])
async def test_half_a_character_in_an_engines_refusal_is_passed_on(endpoint: Endpoints, stream: bool) -> None:
    at = endpoint(frontier=FakeEngine(error=EngineRequestError("bad \ud83d")))
    response = await at.chat("frontier", stream=stream)
    assert (response.status_code, response.json()["error"]["message"]) == (400, "bad \ud83d")


async def test_answer_has_openais_shape_and_our_object(endpoint: Endpoints) -> None:
    at = endpoint()
    response = await at.chat()
    data = response.json()
    assert response.status_code == 200
    assert data["object"] == "chat.completion"
    assert data["id"].startswith("chatcmpl-")
    assert data["model"] == "cheap"
    assert data["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "cheap says"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert data["usage"]["total_tokens"] == 15
    assert set(data["serve_graph"]) == {"decision", "tier", "outcome", "version", "cost_usd"}


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_say_what_happened(endpoint: Endpoints, stream: bool) -> None:
    at = endpoint(judge=FakeJudge(Action.ESCALATED))
    headers = (await at.chat(stream=stream)).headers
    assert headers["x-serve-graph-decision"] == at.record.id
    assert headers["x-serve-graph-tier"] == "frontier"
    assert headers["x-serve-graph-outcome"] == "escalated"
    assert headers["x-serve-graph-version"] == "fake/1"
    assert ("x-serve-graph-cost-usd" in headers) is not stream


async def test_cost_header_is_the_records(endpoint: Endpoints) -> None:
    at = endpoint()
    response = await at.chat()
    assert float(response.headers["x-serve-graph-cost-usd"]) == float(at.record.cost_usd) == 20e-6


async def test_scores_and_thresholds_stay_inside(endpoint: Endpoints) -> None:
    for stream in (False, True):
        response = await endpoint().chat(stream=stream)
        shown = response.text + str(response.headers)
        assert "0.9" not in shown
        assert "0.8" not in shown
        assert "the fake" not in shown


async def test_buffered_stream_knows_its_cost_at_the_start(endpoint: Endpoints) -> None:
    assert "x-serve-graph-cost-usd" in (await endpoint().chat(stream=True)).headers


async def test_record_tells_the_whole_story_but_no_text(endpoint: Endpoints) -> None:
    at = endpoint(judge=FakeJudge(Action.ESCALATED))
    await at.chat(content="a very secret question", metadata={"task": "secrets"})
    record = at.record
    assert (record.requested_model, record.tier, record.outcome, record.status) == (
        "auto",
        "frontier",
        "escalated",
        200,
    )
    assert [call.tier for call in record.calls] == ["cheap", "frontier"]
    assert record.cost_usd == sum(call.cost_usd for call in record.calls)
    assert (record.p_cheap_ok, record.p_answer_ok, record.prompt_chars) == (0.9, 0.8, 22)
    assert record.metadata == {"task": "secrets"}
    assert "very secret" not in repr(record)


@pytest.mark.parametrize(
    ("fakes", "model", "outcome", "tier"),
    [
        ({}, "auto", "accepted", "cheap"),
        ({"decider": FakeDecider("frontier")}, "auto", "routed", "frontier"),
        ({"judge": FakeJudge(Action.ESCALATED)}, "auto", "escalated", "frontier"),
        ({"judge": FakeJudge(Action.ABSTAINED)}, "auto", "abstained", "cheap"),
        ({"decider": FakeDecider(error=PolicyUnavailableError("x"))}, "auto", "fallback", "frontier"),
        ({"cheap": FakeEngine(error=EngineError("x"))}, "auto", "fallback", "frontier"),
        ({}, "cheap", "forced", "cheap"),
        ({}, "frontier", "forced", "frontier"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_outcome_has_one_record_that_agrees_with_the_reply(
    endpoint: Endpoints, fakes: dict[str, Any], model: str, outcome: str, tier: str, stream: bool
) -> None:
    at = endpoint(**fakes)
    response = await at.chat(model, stream=stream)
    assert response.status_code == 200
    assert response.headers["x-serve-graph-outcome"] == outcome == at.record.outcome
    assert response.headers["x-serve-graph-tier"] == tier == at.record.tier
    assert at.record.id == response.headers["x-serve-graph-decision"]


async def test_abstention_says_so_in_place_of_the_answer(endpoint: Endpoints) -> None:
    [choice] = (await endpoint(judge=FakeJudge(Action.ABSTAINED)).chat()).json()["choices"]
    assert "not confident" in choice["message"]["refusal"]
    assert choice["message"]["content"] == choice["message"]["refusal"]


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


async def test_text_completion_has_its_own_shape(endpoint: Endpoints) -> None:
    at = endpoint()
    async with at.client() as client:
        response = await client.post("/v1/completions", json={"model": "auto", "prompt": "hello", "max_tokens": 3})
    data = response.json()
    assert data["object"] == "text_completion"
    assert data["choices"] == [{"index": 0, "text": "cheap says", "logprobs": None, "finish_reason": "stop"}]
    assert response.headers["x-serve-graph-tier"] == "cheap"
    assert at.graph.engines["cheap"].queries[0].parameters == {"max_tokens": 3}


async def test_text_completion_without_text_is_empty_not_an_error(endpoint: Endpoints) -> None:
    class Thinking(FakeEngine):
        async def generate(self, query: Query, left_s: float = math.inf):  # type: ignore[no-untyped-def]
            completion = await super().generate(query, left_s)
            choice = {
                "index": 0,
                "message": {"role": "assistant", "reasoning_content": "hm"},
                "finish_reason": "length",
            }
            return type(completion)("", "length", Usage(1, 1), payload={"choices": [choice]})

    async with endpoint(cheap=Thinking()).client() as client:
        response = await client.post("/v1/completions", json={"model": "auto", "prompt": "hello"})
    assert response.json()["choices"][0]["text"] == ""


async def test_text_completion_streams_text(endpoint: Endpoints) -> None:
    at = endpoint(frontier=FakeEngine(LONG), decider=FakeDecider("frontier"))
    asked = {"model": "auto", "prompt": ["x"], "stream": True, "stream_options": {"include_usage": True}}
    async with at.client() as http:
        client = AsyncOpenAI(api_key="none", base_url="http://test/v1", http_client=http, max_retries=0)
        pieces = [piece async for piece in await client.completions.create(**asked)]
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == LONG
    assert [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1] == "stop"
    assert {piece.object for piece in pieces} == {"text_completion"}
    assert pieces[-1].usage.completion_tokens == 5


async def test_text_completion_that_breaks_off_ends_in_an_error_event(endpoint: Endpoints) -> None:
    frontier = FakeEngine(LONG, break_after=5, breaks_with=EngineError("died"))
    async with endpoint(frontier=frontier).client() as client:
        response = await client.post("/v1/completions", json={"model": "frontier", "prompt": "x", "stream": True})
    last = response.text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stream_broken"


async def test_models_are_auto_and_the_tiers(endpoint: Endpoints) -> None:
    async with endpoint().client() as client:
        data = (await client.get("/v1/models")).json()
    assert [model["id"] for model in data["data"]] == ["auto", "cheap", "frontier"]


async def test_decision_is_found_by_its_id(endpoint: Endpoints) -> None:
    at = endpoint()
    name = (await at.chat()).headers["x-serve-graph-decision"]
    async with at.client() as client:
        data = (await client.get(f"/v1/decisions/{name}")).json()
        assert_openai_error(await client.get("/v1/decisions/dec-none"), 404)
    assert (data["id"], data["cost_usd"], data["p_cheap_ok"]) == (name, str(at.record.cost_usd), 0.9)


async def test_health_and_readiness(endpoint: Endpoints) -> None:
    at = endpoint()
    async with at.client() as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).status_code == 200
        at.ready = False
        assert (await client.get("/readyz")).status_code == 503


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models"])
async def test_head_is_get_without_the_body(endpoint: Endpoints, path: str) -> None:
    async with endpoint().client() as client:
        head, whole = await client.head(path), await client.get(path)
        assert (await client.head("/v1/chat/completions")).status_code == 405
    assert (head.status_code, head.content, whole.status_code) == (200, b"", 200)
    assert head.headers["content-length"] == whole.headers["content-length"]


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
    assert at.service.tally.refused == {400: 2, 404: 3, 403: 1}
    assert at.sink.records == []
    await at.chat()
    assert at.service.tally.refused.total() == 6


async def test_what_an_engine_refuses_is_a_decision_and_not_counted_twice(endpoint: Endpoints) -> None:
    at = endpoint(frontier=FakeEngine(error=EngineRequestError("too odd")))
    assert (await at.chat("frontier")).status_code == 400
    assert at.record.status == 400
    assert at.service.tally.refused == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_record_that_cannot_be_kept_does_not_cost_the_answer(endpoint: Endpoints, stream: bool) -> None:
    class Full(ListSink):
        def write(self, record: DecisionRecord) -> None:
            raise OSError(28, "No space left on device")

    at = endpoint(sink=Full())
    reply = await at.chat(stream=stream)
    assert reply.status_code == 200
    assert "error" not in reply.text
    assert at.service.tally.unrecorded == 1


async def test_metrics_count_what_was_answered(endpoint: Endpoints) -> None:
    at = endpoint()
    await at.chat()
    await at.chat("frontier")
    async with at.client() as client:
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [s for family in text_string_to_metric_families(response.text) for s in family.samples]
    assert sum(s.value for s in samples if s.name == "serve_graph_requests_total") == 2


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


async def test_the_openai_client_reads_answers_and_streams(endpoint: Endpoints) -> None:
    at = endpoint(judge=FakeJudge(Action.ESCALATED), frontier=FakeEngine(LONG))
    async with at.client() as http:
        client = AsyncOpenAI(api_key="none", base_url="http://test/v1", http_client=http, max_retries=0)
        whole = await client.chat.completions.create(**HELLO)
        assert whole.choices[0].message.content == LONG
        assert whole.usage is not None
        assert whole.serve_graph["outcome"] == "escalated"
        pieces = [
            piece
            async for piece in await client.chat.completions.create(
                **HELLO, stream=True, stream_options={"include_usage": True}
            )
        ]
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == LONG
    assert pieces[-1].usage.completion_tokens == 5
    assert [record.status for record in at.sink.records] == [200, 200]


async def test_two_hundred_requests_at_once_have_two_hundred_records(endpoint: Endpoints) -> None:
    at = endpoint()
    answers = await asyncio.gather(*(at.chat(stream=bool(i % 2), content=f"question {i}") for i in range(200)))
    ids = {answer.headers["x-serve-graph-decision"] for answer in answers}
    assert len(ids) == 200
    assert {record.id for record in at.sink.records} == ids
    assert len(at.sink.records) == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_saturated_tier_is_a_429_that_says_when_to_come_back(endpoint: Endpoints, stream: bool) -> None:
    full = SaturatedError("tier 'frontier' is saturated: its queue is full", retry_after_s=12.2)
    at = endpoint(frontier=FakeEngine(error=full))
    response = await at.chat("frontier", stream=stream)
    assert assert_openai_error(response, 429)["code"] == "tier_saturated"
    assert response.headers["retry-after"] == "13"
    assert at.record.status == 429


async def test_calls_that_a_streaming_tier_took_are_in_the_record_and_not_in_the_stream(endpoint: Endpoints) -> None:
    class Hosted(FakeEngine):
        async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
            calls = {"attempts": (Attempt("east", 429, 0.1), Attempt("west", 200, 0.2))}
            async for piece in super().stream(query, left_s):
                yield {**piece, **calls}
                calls = {}

    at = endpoint(frontier=Hosted())
    response = await at.chat("frontier", stream=True)
    assert "frontier called east (429 after 0.10 s), west (200 after 0.20 s)" in at.record.route_reason
    assert "attempts" not in response.text


async def test_one_model_is_found_by_name_as_openais_client_asks(endpoint: Endpoints) -> None:
    async with endpoint().client() as http:
        client = AsyncOpenAI(api_key="none", base_url="http://test/v1", http_client=http, max_retries=0)
        found = await client.models.retrieve("auto")
        assert found in (await client.models.list()).data
        with pytest.raises(NotFoundError) as refused:
            await client.models.retrieve("gpt-17")
    assert refused.value.code == "model_not_found"
