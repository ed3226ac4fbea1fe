"""`/v1/messages` over HTTP: the same gateway, records, keys and limits as chat, in Anthropic's words."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from router_models.types import Action
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.errors import DeadlineError, EngineError, EngineRequestError, EngineTimeoutError, SaturatedError

Endpoints = Callable[..., Any]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
LEAST: dict[str, Any] = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}


async def post(at: Any, path: str = "/v1/messages", headers: dict[str, str] | None = None, **fields: Any) -> Any:
    async with at.client() as client:
        return await client.post(path, json=LEAST | fields, headers=headers)


def events_in(reply: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in reply.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/v1/messages", "/v1/messages?beta=true"])
async def test_a_message_is_answered_like_a_chat(endpoint: Endpoints, path: str) -> None:
    at = endpoint()
    reply = await post(at, path, system="Be brief.")
    message = reply.json()
    assert reply.status_code == 200
    assert message["content"] == [{"type": "text", "text": "cheap says"}]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "cheap")
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (10, 5)
    assert message["serve_graph"]["decision"] == at.record.id == reply.headers["x-serve-graph-decision"]
    plain = at.record.id.removeprefix("dec-")
    assert message["id"] == f"msg_{plain}"
    assert reply.headers["request-id"] == reply.headers["x-request-id"] == at.record.evidence["request_id"]
    assert at.record.calls[0].usage.prompt_tokens == 10
    sent = at.context.engines["cheap"].queries[0].parameters
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


@pytest.mark.parametrize("tier", ["cheap", "frontier"])
async def test_a_stream_carries_what_a_whole_reply_does(endpoint: Endpoints, tier: str) -> None:
    at = endpoint(**{tier: FakeEngine("Let me see.", tool_calls=[CALL])}, decider=FakeDecider(tier))
    reply = await post(at, stream=True, tools=[TOOL])
    events = events_in(reply)
    assert reply.headers["content-type"].startswith("text/event-stream")
    kinds = [event["type"] for event in events if event["type"] != "content_block_delta"]
    assert kinds == [
        "message_start", "ping", "content_block_start", "content_block_stop", "content_block_start",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["input_tokens"] == 10
    assert events[-2]["serve_graph"]["decision"] == at.record.id
    parts = [e["delta"]["partial_json"] for e in events if e.get("delta", {}).get("type") == "input_json_delta"]
    assert json.loads("".join(parts)) == {"city": "Oslo"}


@pytest.mark.parametrize("words", [[], [{"type": "text", "text": "<system-reminder>Hurry.</system-reminder>"}]])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_loop_stays_on_its_tier_whatever_else_its_turn_says(
    endpoint: Endpoints, stream: bool, words: list[dict[str, str]]
) -> None:
    at = endpoint(frontier=FakeEngine("", tool_calls=[CALL]), decider=FakeDecider("frontier"))
    reply = await post(at, tools=[TOOL], stream=stream)
    if stream:
        [call] = [e["content_block"] for e in events_in(reply) if e["type"] == "content_block_start"]
        call |= {"input": {"city": "Oslo"}}
    else:
        [call] = reply.json()["content"]
    at.context.decider.tier = "cheap"
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "rain"}
    turns = [
        *LEAST["messages"],
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, *words]},
    ]
    assert (await post(at, tools=[TOOL], messages=turns)).json()["serve_graph"]["tier"] == "frontier"
    sent = at.context.engines["frontier"].queries[-1].parameters
    [_, said, told, *rest] = sent["messages"]
    assert (len(rest), "tool_results_in_turn" in sent) == (len(words), False)
    assert (said["tool_calls"][0]["id"], told["tool_call_id"]) == ("call_1", "call_1")


async def test_a_question_after_a_loop_is_routed_anew(endpoint: Endpoints) -> None:
    at = endpoint(frontier=FakeEngine("", tool_calls=[CALL]), decider=FakeDecider("frontier"))
    [call] = (await post(at, tools=[TOOL])).json()["content"]
    at.context.decider.tier = "cheap"
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "rain"}
    turns = [*LEAST["messages"], {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    turns += [{"role": "assistant", "content": "It rains."}, {"role": "user", "content": "Thanks."}]
    assert (await post(at, tools=[TOOL], messages=turns)).json()["serve_graph"]["tier"] == "cheap"


async def test_a_user_is_a_session_and_options_are_those_of_chat(endpoint: Endpoints) -> None:
    at = endpoint()
    await post(at, metadata={"user_id": "u"}, serve_graph={"task": "sum"})
    assert at.record.session is not None
    assert at.record.metadata == {"task": "sum"}
    await post(at, model="frontier")
    assert [record.outcome for record in at.sink.records] == ["accepted", "forced"]


async def test_an_abstention_is_a_refusal(endpoint: Endpoints) -> None:
    at = endpoint(judge=FakeJudge(Action.ABSTAINED))
    message = (await post(at)).json()
    assert message["stop_reason"] == "refusal"
    assert len(message["content"]) == 1
    assert message["serve_graph"]["outcome"] == "abstained"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (EngineError("down"), 503, "api_error"),
        (EngineTimeoutError("slow"), 504, "timeout_error"),
        (SaturatedError("full", retry_after_s=7), 529, "overloaded_error"),
        (EngineRequestError("too long", "context_length_exceeded"), 400, "invalid_request_error"),
        (DeadlineError("late"), 504, "timeout_error"),
        (RuntimeError("a bug"), 500, "api_error"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_are_anthropics_errors(
    endpoint: Endpoints, error: Exception, status: int, kind: str, stream: bool
) -> None:
    reply = await post(endpoint(frontier=FakeEngine(error=error)), model="frontier", stream=stream)
    body = reply.json()
    assert (reply.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert body["request_id"] == reply.headers["request-id"]
    if status != 500:  # what fails unexpectedly has left the reply's headers behind
        assert reply.headers["request-id"] == reply.headers["x-request-id"]
    assert (reply.headers.get("retry-after") == "7") == (status == 529)
    assert int(reply.headers["content-length"]) == len(reply.content)


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        ({"content": b"{"}, 400, "invalid_request_error"),
        ({"content": b""}, 400, "invalid_request_error"),
        ({"json": LEAST | {"model": "gpt-17"}}, 404, "not_found_error"),
        ({"json": LEAST | {"bogus": 1}}, 400, "invalid_request_error"),
        ({"json": LEAST | {"system": "x" * 5000}}, 413, "request_too_large"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/anthropic/v1/messages"])
async def test_rejections_are_anthropics_errors(
    endpoint: Endpoints, path: str, sent: dict[str, Any], status: int, kind: str
) -> None:
    at = endpoint()
    if "json" in sent and path.endswith("count_tokens"):
        sent = {"json": {name: value for name, value in sent["json"].items() if name != "max_tokens"}}
    async with at.client() as client:
        reply = await client.post(path, **sent)
    assert (reply.status_code, reply.json()["error"]["type"]) == (status, kind)
    assert at.service.metrics.refused[status] == 1
    assert at.sink.records == []


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/messages", 405), ("POST", "/anthropic/v1/complete", 404)]
)
async def test_a_path_or_method_there_is_not(endpoint: Endpoints, method: str, path: str, status: int) -> None:
    async with endpoint().client() as client:
        reply = await client.request(method, path)
    assert reply.status_code == status
    assert reply.json()["type"] == "error"


async def test_errors_of_other_paths_stay_openais(endpoint: Endpoints) -> None:
    async with endpoint().client() as client:
        chat = await client.post("/v1/chat/completions", json={}, headers={"anthropic-version": "2023-06-01"})
        model = await client.get("/v1/models/x")
    for reply in (chat, model):
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert "request-id" not in reply.headers


async def test_a_stream_that_breaks_off_ends_with_an_error_event(endpoint: Endpoints) -> None:
    frontier = FakeEngine("a long answer", break_after=2, breaks_with=EngineError("the replica died"))
    at = endpoint(frontier=frontier)
    *_, last = events_in(await post(at, model="frontier", stream=True))
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert "the replica died" in last["error"]["message"]
    assert at.record.status == 503


async def test_tokens_are_counted_without_a_decision(endpoint: Endpoints) -> None:
    at = endpoint()
    body = {name: value for name, value in LEAST.items() if name != "max_tokens"}
    async with at.client() as client:
        few = await client.post("/v1/messages/count_tokens", json=body)
        more = await client.post("/v1/messages/count_tokens", json=body | {"system": "x" * 100, "tools": [TOOL]})
    assert set(few.json()) == {"input_tokens"}
    assert more.json()["input_tokens"] > few.json()["input_tokens"] + 40
    assert at.sink.records == []
    assert at.context.engines["cheap"].queries == []


async def test_models_are_listed_in_the_shape_of_who_asks(endpoint: Endpoints) -> None:
    version = {"anthropic-version": "2023-06-01"}
    async with endpoint().client() as client:
        openais = (await client.get("/v1/models")).json()
        models = (await client.get("/v1/models", headers=version)).json()
        one = (await client.get("/anthropic/v1/models/cheap", headers=version)).json()
        none = await client.get("/v1/models/gpt-17", headers=version)
    assert openais["object"] == "list"
    assert [model["id"] for model in models["data"]] == ["auto", "cheap", "frontier"]
    assert (models["has_more"], models["first_id"], models["last_id"]) == (False, "auto", "frontier")
    assert (one["type"], one["id"]) == ("model", "cheap")
    assert (none.status_code, none.json()["error"]["type"]) == (404, "not_found_error")
