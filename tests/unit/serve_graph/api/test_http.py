import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest
from openai import AsyncOpenAI, NotFoundError
from prometheus_client.parser import text_string_to_metric_families

from router_models.types import Action, Attempt, Query, Usage
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.errors import (
    EngineError,
    PolicyUnavailableError,
)

Endpoints = Callable[..., Any]
HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
LONG = "word " * 60


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


async def test_text_completion_has_its_own_shape(endpoint: Endpoints) -> None:
    at = endpoint()
    async with at.client() as client:
        response = await client.post("/v1/completions", json={"model": "auto", "prompt": "hello", "max_tokens": 3})
    data = response.json()
    assert data["object"] == "text_completion"
    assert data["choices"] == [{"index": 0, "text": "cheap says", "logprobs": None, "finish_reason": "stop"}]
    assert response.headers["x-serve-graph-tier"] == "cheap"
    assert at.context.engines["cheap"].queries[0].parameters == {"max_tokens": 3}


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


async def test_metrics_count_what_was_answered(endpoint: Endpoints) -> None:
    at = endpoint()
    await at.chat()
    await at.chat("frontier")
    async with at.client() as client:
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [s for family in text_string_to_metric_families(response.text) for s in family.samples]
    assert sum(s.value for s in samples if s.name == "serve_graph_requests_total") == 2


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
