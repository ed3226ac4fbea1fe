"""One span tree a request, as a real collector receives it over OTLP."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from router_models.types import Action, Completion, Query
from serve_graph.cascade.fakes import FakeDecider, FakeEmbedder, FakeEngine, FakeJudge
from serve_graph.cluster.hosted_deployment import HostedDeployment
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.prices import PriceConfig
from serve_graph.config.records import TracingConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.telemetry.call_context import CALL, trace_headers
from serve_graph.engines.telemetry.otel import OtelRequestTrace, OtelTracer, TierModel
from serve_graph.errors import EngineError
from tests.fixtures.local_graph import LocalHandle, ScriptedApi, listening
from tests.fixtures.serving import Endpoint
from tests.unit.serve_graph.engines.telemetry.collector import CANCELLED, CollectedSpan, Collector, collecting

MARKER = "zebra-crossing-4711"
SERVER, CLIENT, ERROR = 2, 3, 2
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACED = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
NOT_TRACED = {"traceparent": f"00-{TRACE}-{SPAN}-00"}


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    token = CALL.set(None)
    yield
    CALL.reset(token)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def traced(collector: Collector, endpoint: Callable[..., Endpoint]) -> Iterator[Callable[..., Endpoint]]:
    tracers = []

    def make(settings: dict[str, Any] | None = None, **fakes: Any) -> Endpoint:
        config = TracingConfig.model_validate({"otlp_endpoint": collector.url, **(settings or {})})
        tiers = {"cheap": TierModel("vllm", "small"), "frontier": TierModel("openai", "gpt-x")}
        tracers.append(OtelTracer(config, tiers, {"replica": "r1"}))
        made = endpoint(**fakes)
        made.service.tracer = tracers[-1]
        return made

    yield make
    for tracer in tracers:
        tracer.close()


async def ask(endpoint: Endpoint, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": MARKER}], "temperature": 0.5, **fields}
    async with endpoint.client() as client:
        return await client.post("/v1/chat/completions", json=body, headers=headers)


async def tree(endpoint: Endpoint, collector: Collector) -> CollectedSpan:
    """The request's tree, sent at once: by itself a second passes before anything is (`test_accepted`)."""
    tracer = endpoint.service.tracer
    assert isinstance(tracer, OtelTracer)
    return await asyncio.to_thread(collector.tree_of, endpoint.record.id, tracer.provider.force_flush)


async def test_accepted(traced: Callable[..., Endpoint], collector: Collector) -> None:
    endpoint = traced()
    await ask(endpoint, max_tokens=64)
    root = await asyncio.to_thread(collector.tree_of, endpoint.record.id)
    assert (root.name, root.kind, root.parent) == ("chat auto", SERVER, "")
    assert root.shape() == ["route", "chat small", "judge"]
    record = endpoint.record
    assert record.evidence["trace"] == root.trace
    said = root.attributes
    assert said["serve_graph.outcome"] == "accepted"
    assert said["http.response.status_code"] == 200
    assert said["gen_ai.request.temperature"] == 0.5
    assert said["serve_graph.cost_usd"] == pytest.approx(float(record.cost_usd))
    called = root.child("chat small")
    assert called.kind == CLIENT
    wanted = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "vllm", "gen_ai.request.model": "small",
        "gen_ai.request.max_tokens": 64, "gen_ai.response.finish_reasons": ["stop"], "serve_graph.action": "routed",
        "gen_ai.usage.input_tokens": record.calls[0].usage.prompt_tokens,
        "gen_ai.usage.output_tokens": record.calls[0].usage.completion_tokens,
    }  # fmt: skip
    assert {name: called.attributes[name] for name in wanted} == wanted
    assert root.child("route").attributes["serve_graph.p_cheap_ok"] == 0.9
    assert root.child("judge").attributes["serve_graph.verdict"] == "accepted"
    assert root.resource["service.name"] == "serve-graph"
    assert root.resource["service.instance.id"] == "r1"
    assert set(collector.paths) == {"/v1/traces"}


async def test_escalated(traced: Callable[..., Endpoint], collector: Collector) -> None:
    endpoint = traced(judge=FakeJudge(Action.ESCALATED))
    await ask(endpoint)
    root = await tree(endpoint, collector)
    assert root.shape() == ["route", "chat small", "judge", "chat gpt-x"]
    assert root.child("judge").attributes["serve_graph.verdict"] == "escalated"
    assert root.child("chat gpt-x").attributes["serve_graph.action"] == "escalated"
    assert [span.begun for span in root.children] == sorted(span.begun for span in root.children)
    assert all(root.begun <= span.begun <= span.ended <= root.ended for span in root.children)


async def test_a_tier_that_fails_is_an_error_with_its_type(
    traced: Callable[..., Endpoint], collector: Collector
) -> None:
    failing = FakeEngine(error=EngineError(f"the engine said {MARKER}"))
    endpoint = traced(cheap=failing, frontier=failing)
    reply = await ask(endpoint)
    assert reply.status_code == 503
    root = await tree(endpoint, collector)
    assert root.status == root.child("chat gpt-x").status == ERROR
    assert root.attributes["error.type"] == endpoint.record.error
    assert root.child("chat small").attributes["error.type"] == endpoint.record.error
    assert MARKER.encode() not in b"".join(collector.bodies)


async def test_streamed(traced: Callable[..., Endpoint], collector: Collector) -> None:
    endpoint = traced(cheap=FakeEngine("one two three four", piece_chars=4))
    await ask(endpoint, stream=True, serve_graph={"stream": "route"})
    root = await tree(endpoint, collector)
    assert root.shape() == ["route", "chat small"]
    called = root.child("chat small")
    assert called.attributes["gen_ai.request.stream"] is True
    assert [name for name, _ in called.events] == ["gen_ai.first_chunk"]
    assert called.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert "error.type" not in called.attributes
    assert called.attributes["gen_ai.usage.output_tokens"] == endpoint.record.calls[0].usage.completion_tokens


async def test_hung_up(traced: Callable[..., Endpoint], collector: Collector) -> None:
    endpoint = traced(frontier=FakeEngine("one two three four", piece_chars=4, hang_after=2))
    with listening(endpoint.app) as url:
        body = {"model": "frontier", "messages": [{"role": "user", "content": MARKER}], "stream": True}
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=body) as got,
        ):
            async for _ in got.aiter_lines():
                break
        for _ in range(400):
            if endpoint.sink.records:
                break
            await asyncio.sleep(0.02)
        root = await tree(endpoint, collector)
    assert root.shape() == ["chat gpt-x"]
    assert root.attributes["http.response.status_code"] == 499
    assert root.attributes["error.type"] == "client_closed_request"
    assert root.child("chat gpt-x").attributes["error.type"] == CANCELLED
    assert root.child("chat gpt-x").status != ERROR
    assert "gen_ai.response.finish_reasons" not in root.child("chat gpt-x").attributes


async def test_embeddings(traced: Callable[..., Endpoint], collector: Collector) -> None:
    endpoint = traced(embedder=FakeEmbedder())
    async with endpoint.client() as client:
        reply = await client.post("/v1/embeddings", json={"model": "cheap", "input": MARKER})
    assert reply.status_code == 200, reply.text
    root = await tree(endpoint, collector)
    assert (root.name, root.attributes["gen_ai.operation.name"]) == ("embeddings cheap", "embeddings")
    assert MARKER.encode() not in b"".join(collector.bodies)


@pytest.fixture
def two_apis(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ScriptedApi, ScriptedApi, HostedTierConfig]]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    first, second = ScriptedApi("frontier"), ScriptedApi("frontier")
    with listening(first) as one, listening(second) as two:
        deployments = [
            {"name": "first", "model": "gpt-x", "base_url": f"{one}/v1"},
            {"name": "second", "model": "gpt-x", "base_url": f"{two}/v1", "weight": 0},
        ]
        price = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
        yield (
            first,
            second,
            HostedTierConfig.model_validate(
                {"name": "frontier", "engine": "openai", "price": price, "deployments": deployments}
            ),
        )


@pytest.mark.parametrize("stream", [False, True])
async def test_failed_over(
    stream: bool,
    traced: Callable[..., Endpoint],
    collector: Collector,
    two_apis: tuple[ScriptedApi, ScriptedApi, HostedTierConfig],
) -> None:
    first, second, config = two_apis
    first.plays({"fault": "error", "status": 500, "times": 1})
    deployment = HostedDeployment(config)
    engine = HandleEngine(LocalHandle(deployment), config)  # type: ignore[arg-type]
    endpoint = traced(frontier=engine, decider=FakeDecider("frontier"))
    reply = await ask(endpoint, TRACED, stream=stream)
    assert reply.status_code == 200, reply.text
    root = await tree(endpoint, collector)
    await deployment.engine.close()
    assert (root.trace, root.parent) == (TRACE, SPAN)
    called = root.child("chat gpt-x")
    tried = [said for name, said in called.events if name == "serve_graph.attempt"]
    assert [(one["serve_graph.deployment"], one["http.response.status_code"]) for one in tried] == [
        ("first", 500),
        ("second", 200),
    ]
    sent = second.last["headers"]
    assert sent["traceparent"] == f"00-{TRACE}-{called.id}-01"
    assert sent["tracestate"] == "vendor=1"


async def test_the_caller_decides_unless_it_may_not(traced: Callable[..., Endpoint], collector: Collector) -> None:
    endpoint = traced({"sample": 1.0})
    await ask(endpoint, NOT_TRACED)
    assert "trace" not in endpoint.record.evidence
    own = traced({"sample": 1.0, "follow_callers": False})
    before = len(own.sink.records)
    await ask(own, NOT_TRACED)
    assert own.sink.records[before].evidence["trace"] == TRACE


async def test_what_is_not_sampled_is_not_sent_and_onwards_it_is_said_not_to_be(
    traced: Callable[..., Endpoint], collector: Collector
) -> None:
    told: list[str] = []

    class Listening(FakeEngine):
        async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
            told.append(trace_headers()["traceparent"])
            return await super().generate(query, left_s)

    endpoint = traced({"sample": 0.0}, cheap=Listening())
    await ask(endpoint)
    assert [int(header[-2:], 16) & 1 for header in told] == [0]
    assert "trace" not in endpoint.record.evidence
    endpoint.service.tracer.close()  # type: ignore[union-attr]
    assert collector.spans == []


@pytest.mark.parametrize(
    "header", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "00-" + "é" * 9]
)
async def test_a_trace_that_is_none_begins_another(
    header: str, traced: Callable[..., Endpoint], collector: Collector
) -> None:
    endpoint = traced()
    async with endpoint.client() as client:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
        headers = [(b"traceparent", header.encode("latin-1"))]
        reply = await client.post("/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == 200
    root = await tree(endpoint, collector)
    assert root.parent == ""
    assert root.trace != TRACE


@pytest.mark.parametrize("shown", [False, True])
async def test_texts_are_in_spans_only_where_that_is_switched_on(
    shown: bool, traced: Callable[..., Endpoint], collector: Collector
) -> None:
    endpoint = traced({"capture_content": shown}, cheap=FakeEngine(f"an answer to {MARKER}"))
    await ask(endpoint, stop=[MARKER], user=MARKER, metadata={"task": MARKER})
    root = await tree(endpoint, collector)
    texts = [key for key in root.child("chat small").attributes if key.endswith(".messages")]
    assert texts == (["gen_ai.input.messages", "gen_ai.output.messages"] if shown else [])
    assert (MARKER.encode() in b"".join(collector.bodies)) is shown


async def test_a_collector_that_is_away_costs_no_request(endpoint: Callable[..., Endpoint]) -> None:
    config = TracingConfig(otlp_endpoint="http://127.0.0.1:9")
    made = endpoint()
    made.service.tracer = OtelTracer(config, {}, {})
    reply = await ask(made)
    assert reply.status_code == 200
    await asyncio.to_thread(made.service.tracer.close)


async def test_a_fault_of_tracing_costs_no_reply_and_no_record(
    traced: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no span")

    monkeypatch.setattr(OtelRequestTrace, "ended", fails)
    made = traced()
    assert (await ask(made)).status_code == 200
    assert made.record.status == 200


@pytest.mark.parametrize(
    ("given", "posted"),
    [("http://c:4318", "http://c:4318/v1/traces"), ("https://c/", "https://c/v1/traces"), ("http://c/otlp", "http://c/otlp")],
)  # fmt: skip
def test_the_path_is_otlps_own_unless_there_is_one(given: str, posted: str) -> None:
    assert TracingConfig(otlp_endpoint=given).traces_url == posted
