import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import Action, Completion, Decision, OperatingPoint, Query, Verdict
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cascade.fakes import FakeDecider, FakeEmbedder, FakeEngine, FakeJudge
from serve_graph.cascade.steps import StreamTerms
from serve_graph.errors import EngineError
from serve_graph.gateway.tool_affinity import bound
from tests.fixtures.made_up_time import run

Endpoints = Callable[..., Any]
LONG = "word " * 60
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]

ASKED = bound([{"role": "user", "content": "weather?"}], None)


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n") if line.startswith("data: ") and line != "data: [DONE]"]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def with_result(call: dict[str, Any], last: str = "tool") -> dict[str, Any]:
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "rain"},
    ]
    if last == "user":
        messages.append({"role": "user", "content": "thanks, and tomorrow?"})
    return {"model": "auto", "messages": messages, "tools": TOOLS}


def test_slow_reply_begins_with_comments_and_ends_with_the_answer(endpoint: Endpoints) -> None:
    at = endpoint(cheap=FakeEngine(LONG, slow_s=0.15), keep_alive_s=0.04)
    response = run(at.chat(stream=True))
    assert response.status_code == 200
    assert response.text.startswith(": keep-alive\n\n")
    assert {"x-serve-graph-decision", "x-serve-graph-version"} < set(response.headers)
    assert "x-serve-graph-tier" not in response.headers
    assert events_of(response)[-1]["serve_graph"]["tier"] == "cheap"


def test_reply_that_began_uncommitted_fails_in_an_error_event(endpoint: Endpoints) -> None:
    at = endpoint(frontier=FakeEngine(error=EngineError("died"), slow_s=0.1), keep_alive_s=0.04)
    response = run(at.chat("frontier", stream=True))
    assert response.status_code == 200
    assert events_of(response)[-1]["error"]["code"] == "stream_broken"
    assert "[DONE]" not in response.text
    assert at.record.status == 503


def test_reply_waits_for_the_commit_where_it_may_not_begin_before(endpoint: Endpoints) -> None:
    at = endpoint(
        frontier=FakeEngine(error=EngineError("died"), slow_s=0.1), keep_alive_s=0.02, start_before_commit=False
    )
    assert run(at.chat("frontier", stream=True)).status_code == 503


async def test_a_requests_stream_mode_is_honoured(endpoint: Endpoints) -> None:
    at = endpoint(judge=FakeJudge(Action.ESCALATED))
    response = await at.chat(stream=True, serve_graph={"stream": "route"})
    assert response.headers["x-serve-graph-outcome"] == "routed"
    assert at.context.engines["cheap"].queries[0].parameters.keys() == {"messages"}


async def test_every_choice_of_n_is_shown_and_the_worst_decides(endpoint: Endpoints) -> None:
    class ThirdIsBad(FakeJudge):
        async def judge(self, query, completion, decision):  # type: ignore[no-untyped-def]
            self.action = Action.ESCALATED if len(self.completions) == 2 else Action.ACCEPTED
            return await super().judge(query, completion, decision)

    shown = (await endpoint().chat(n=3)).json()["choices"]
    assert [choice["index"] for choice in shown] == [0, 1, 2]
    at = endpoint(judge=ThirdIsBad())
    reply = (await at.chat(n=3)).json()
    assert reply["serve_graph"]["outcome"] == "escalated"
    assert len(reply["choices"]) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_loop_stays_on_the_tier_that_began_it(endpoint: Endpoints, stream: bool) -> None:
    at = endpoint(frontier=FakeEngine("", tool_calls=[CALL]), decider=FakeDecider("frontier"))
    first = await at.chat(content="weather?", tools=TOOLS, stream=stream)
    if stream:
        deltas = [e["choices"][0]["delta"] for e in events_of(first) if e["choices"]]
        [call] = [call for delta in deltas for call in delta.get("tool_calls", []) if call.get("id")]
    else:
        [call] = first.json()["choices"][0]["message"]["tool_calls"]
    assert call["id"] != "call_1"
    at.context.decider.tier = "cheap"  # the router would now go elsewhere
    async with at.client() as client:
        second = await client.post("/v1/chat/completions", json=with_result({**CALL, "id": call["id"]}))
        after = await client.post("/v1/chat/completions", json=with_result({**CALL, "id": call["id"]}, "user"))
    assert second.headers["x-serve-graph-tier"] == "frontier"
    assert after.headers["x-serve-graph-tier"] == "cheap"
    seen = at.context.engines["frontier"].queries[-1].parameters["messages"]
    assert (seen[1]["tool_calls"][0]["id"], seen[2]["tool_call_id"]) == ("call_1", "call_1")
    assert "frontier began the tool loop" in at.sink.records[1].route_reason


async def test_a_loop_that_began_on_a_cheaper_tier_than_the_router_now_chooses_is_not_held_there(
    endpoint: Endpoints,
) -> None:
    at = endpoint(decider=FakeDecider("frontier"))
    marked = {**CALL, "id": at.service.tool_affinity.tag("cheap", "call_1", ASKED)}
    async with at.client() as client:
        response = await client.post("/v1/chat/completions", json=with_result(marked))
    assert response.headers["x-serve-graph-tier"] == "frontier"
    assert at.context.engines["cheap"].queries == []
    assert "not held on cheap, which began it" in at.record.route_reason


async def test_a_tier_asked_for_by_name_wins_over_the_one_that_began_the_loop(endpoint: Endpoints) -> None:
    at = endpoint()
    marked = {**CALL, "id": at.service.tool_affinity.tag("frontier", "call_1", ASKED)}
    async with at.client() as client:
        response = await client.post("/v1/chat/completions", json={**with_result(marked), "model": "cheap"})
    assert (response.headers["x-serve-graph-tier"], response.headers["x-serve-graph-outcome"]) == ("cheap", "forced")


async def test_live_tool_calls_are_marked_too(endpoint: Endpoints) -> None:
    at = endpoint(
        frontier=FakeEngine("", tool_calls=[CALL, {**CALL, "id": "call_2"}]), decider=FakeDecider("frontier")
    )
    deltas = [e["choices"][0]["delta"] for e in events_of(await at.chat(stream=True, tools=TOOLS)) if e["choices"]]
    ids = [call["id"] for delta in deltas for call in delta.get("tool_calls", []) if "id" in call]
    holds = bound([{"role": "user", "content": "hello"}], None)
    assert [at.service.tool_affinity.read(name, holds) for name in ids] == [
        ("frontier", "call_1"),
        ("frontier", "call_2"),
    ]
    arguments = [
        call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", []) if call["index"] == 1
    ]
    assert "".join(arguments) == CALL["function"]["arguments"]  # type: ignore[index]


async def test_rejected_answer_moves_the_loop_to_the_last_tier(endpoint: Endpoints) -> None:
    at = endpoint(judge=FakeJudge(Action.ESCALATED))
    marked = {
        **CALL,
        "id": at.service.tool_affinity.tag("cheap", "call_1", ASKED),
    }
    async with at.client() as client:
        response = await client.post("/v1/chat/completions", json=with_result(marked))
    assert (response.headers["x-serve-graph-tier"], response.headers["x-serve-graph-outcome"]) == (
        "frontier",
        "escalated",
    )


async def test_forged_mark_does_not_choose_the_tier(endpoint: Endpoints) -> None:
    async with endpoint().client() as client:
        response = await client.post("/v1/chat/completions", json=with_result({**CALL, "id": "sg00frontier_x"}))
    assert response.headers["x-serve-graph-tier"] == "cheap"


async def test_policy_may_route_every_turn_of_a_loop(endpoint: Endpoints) -> None:
    at = endpoint(decider=FakeDecider("frontier"), pin_tool_loops=False)
    marked = {
        **CALL,
        "id": at.service.tool_affinity.tag("cheap", "call_1", ASKED),
    }
    async with at.client() as client:
        response = await client.post("/v1/chat/completions", json=with_result(marked))
    assert response.headers["x-serve-graph-tier"] == "frontier"


@pytest.mark.parametrize("model", ["auto", "cheap"])
async def test_embeddings_are_passed_through_recorded_and_billed(endpoint: Endpoints, model: str) -> None:
    at = endpoint(embedder=FakeEmbedder())
    async with at.client() as client:
        response = await client.post("/v1/embeddings", json={"model": model, "input": ["a", "b"], "dimensions": 2})
    assert [item["embedding"] for item in response.json()["data"]] == [[0.25, 0.5]] * 2
    assert at.context.embedders["cheap"].bodies == [{"input": ["a", "b"], "dimensions": 2}]
    assert (at.record.tier, at.record.status, at.record.outcome) == (
        "cheap",
        200,
        "routed" if model == "auto" else "forced",
    )
    assert at.record.cost_usd == 4 * 1 / at.record.cost_usd.__class__(1_000_000)


@pytest.mark.parametrize("model", ["auto", "frontier", "gpt-17"])
async def test_embeddings_from_a_tier_that_has_none_are_a_404(endpoint: Endpoints, model: str) -> None:
    at = endpoint(embedder=None if model == "auto" else FakeEmbedder())
    async with at.client() as client:
        response = await client.post("/v1/embeddings", json={"model": model, "input": "a"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_failing_embedder_is_an_error_with_a_record(endpoint: Endpoints) -> None:
    at = endpoint(embedder=FakeEmbedder(EngineError("dead")))
    async with at.client() as client:
        response = await client.post("/v1/embeddings", json={"model": "auto", "input": "a"})
    assert (response.status_code, at.record.status) == (503, 503)
    assert [(line.tier, line.what) for line in at.record.bill] == [("cheap", "failed")]


async def test_embeddings_say_in_headers_what_they_were(endpoint: Endpoints) -> None:
    at = endpoint(embedder=FakeEmbedder())
    named = {"x-serve-graph-tier": "cheap"}
    async with at.client() as client:
        response = await client.post("/v1/embeddings", json={"model": "auto", "input": "a"}, headers=named)
        other = await client.post("/v1/embeddings", json={"model": "frontier", "input": "a"}, headers=named)
    facts = response.json()["serve_graph"]
    assert facts["outcome"] == "forced"
    assert {name: response.headers[f"x-serve-graph-{name.replace('_', '-')}"] for name in facts} == facts
    assert (other.status_code, other.json()["error"]["param"]) == (400, "model")


async def test_embeddings_say_nothing_of_how_long_answers_take(endpoint: Endpoints) -> None:
    at = endpoint(embedder=FakeEmbedder())
    latencies = at.service.routing.latencies
    async with at.client() as client:
        for _ in range(latencies.least):
            assert (await client.post("/v1/embeddings", json={"model": "cheap", "input": "a"})).status_code == 200
    assert latencies.expected_s("cheap") is None
    for _ in range(latencies.least):
        await at.chat("cheap")
    assert latencies.expected_s("cheap") is not None


class VersionJudge:
    """The verdicts of a real version whose verifier likes everything but silence."""

    def __init__(self) -> None:
        stage = Stage(LengthRouter(), None, NonEmptyVerifier(), None)
        policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.0, 0.0)})
        self.version = RouterVersion(policy, {"cheap": stage})

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        return self.version.judge(query, completion, decision)


NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
STRICT_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": NUMBER}}]
WANTED = {"type": "json_schema", "json_schema": {"name": "n", "schema": NUMBER}}


@pytest.mark.parametrize("terms", [None, StreamTerms(first_token_s=30)], ids=["whole", "buffered"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("cheap", "asked", "outcome"),
    [
        (FakeEngine("", tool_calls=[CALL]), {"tools": STRICT_TOOLS}, "escalated"),
        (FakeEngine("", tool_calls=[CALL]), {"tools": TOOLS}, "accepted"),
        (FakeEngine('{"n": "x"}'), {"response_format": WANTED}, "escalated"),
        (FakeEngine('{"n": 3}'), {"response_format": WANTED}, "accepted"),
        (FakeEngine("prose"), {"tools": TOOLS, "tool_choice": "required"}, "escalated"),
    ],
    ids=["arguments off schema", "arguments fit", "JSON off schema", "JSON fits", "required call missing"],
)
async def test_cheap_answer_that_breaks_what_was_declared_is_escalated(
    endpoint: Endpoints,
    cheap: FakeEngine,
    asked: dict[str, Any],
    outcome: str,
    stream: bool,
    terms: StreamTerms | None,
) -> None:
    at = endpoint(cheap=cheap, judge=VersionJudge(), terms=terms)
    await at.chat(stream=stream, **asked)
    assert at.record.outcome == outcome
