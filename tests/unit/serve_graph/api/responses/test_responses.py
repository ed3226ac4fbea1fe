import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from router_models.types import Action, Completion, Query, Usage
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.cascade.streaming import ABSTENTION
from serve_graph.errors import EngineError

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)  # .1 s to make


Endpoints = Callable[..., Any]
LONG = "word " * 60
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "today's",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def strictly(response: Response) -> Response:
    """The object again, checked against OpenAI's own types (the client itself does not check)."""
    return Response.model_validate_json(json.dumps(response.model_dump(mode="json", warnings="none")))


async def ask(at: Any, **fields: Any) -> Any:
    async with at.client() as http:
        client = AsyncOpenAI(api_key="none", base_url="http://test/v1", http_client=http, max_retries=0)
        asked = {"model": "auto", "input": "hello"} | fields
        if not asked.get("stream"):
            return await client.responses.create(**asked)
        return [event async for event in await client.responses.create(**asked)]


async def test_text_has_openais_shape_and_our_object(endpoint: Endpoints) -> None:
    at = endpoint()
    response = strictly(await ask(at, instructions="Be brief.", metadata={"task": "sum"}))
    assert (response.output_text, response.status, response.model) == ("cheap says", "completed", "cheap")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 5)
    assert response.serve_graph["decision"] == at.record.id
    assert at.record.metadata == {"task": "sum"}
    sent = at.context.engines["cheap"].queries[0].parameters["messages"]
    assert sent == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


@pytest.mark.parametrize("fakes", [{}, {"decider": FakeDecider("frontier")}], ids=["buffered", "live"])
async def test_streamed_text_is_a_sequence_of_typed_events(endpoint: Endpoints, fakes: dict[str, Any]) -> None:
    at = endpoint(cheap=FakeEngine(LONG), frontier=FakeEngine(LONG), **fakes)
    events = await ask(at, stream=True)
    for event in events:
        EVENT.validate_json(json.dumps(event.model_dump(mode="json", warnings="none")))
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == LONG
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    assert (last.output_text, last.usage.output_tokens) == (LONG, 5)
    assert last.serve_graph["tier"] == at.record.tier


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tier", ["cheap", "frontier"])
async def test_function_calls_go_there_and_back(endpoint: Endpoints, stream: bool, tier: str) -> None:
    engine = FakeEngine("Let me see.", tool_calls=[CALL, {**CALL, "id": "call_2"}])
    at = endpoint(**{tier: engine}, decider=FakeDecider(tier))
    said = await ask(
        at, input="weather?", tools=[TOOL], tool_choice={"type": "function", "name": "weather"}, stream=stream
    )
    response = strictly(said[-1].response if stream else said)
    message, one, two = response.output
    assert (message.type, one.type, two.type) == ("message", "function_call", "function_call")
    assert (one.name, one.arguments, one.status) == ("weather", CALL["function"]["arguments"], "completed")  # type: ignore[index]
    sent = engine.queries[0].parameters
    assert sent["tools"] == [{"type": "function", "function": {k: v for k, v in TOOL.items() if k != "type"}}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    if stream:
        for event in said:
            EVENT.validate_json(json.dumps(event.model_dump(mode="json", warnings="none")))
        deltas = [e.delta for e in said if e.type == "response.function_call_arguments.delta" and e.item_id == one.id]
        assert "".join(deltas) == one.arguments

    at.context.decider.tier = "cheap"
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in (one, two)]
    history = [{"role": "user", "content": "weather?"}, *(item.model_dump() for item in response.output), *results]
    after = await ask(at, input=history, tools=[TOOL])
    assert after.serve_graph["tier"] == tier  # the loop stays where it began
    [user, assistant, *tools] = engine.queries[1].parameters["messages"]
    assert user["content"] == "weather?"
    assert [call["id"] for call in assistant["tool_calls"]] == ["call_1", "call_2"]
    assert [tool["tool_call_id"] for tool in tools] == ["call_1", "call_2"]


async def test_a_schema_is_asked_of_the_engine(endpoint: Endpoints) -> None:
    at = endpoint()
    schema = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True}
    await ask(at, text={"format": schema, "verbosity": "low"}, max_output_tokens=9, reasoning={"effort": "low"})
    sent = at.context.engines["cheap"].queries[0].parameters
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }
    assert (sent["max_tokens"], sent["reasoning_effort"], sent["verbosity"]) == (9, "low", "low")


async def test_parts_are_translated(endpoint: Endpoints) -> None:
    at = endpoint()
    parts = [{"type": "input_text", "text": "what is this?"}, {"type": "input_image", "image_url": "data:x"}]
    await ask(at, input=[{"type": "message", "role": "user", "content": parts}, {"type": "reasoning", "summary": []}])
    [message] = at.context.engines["cheap"].queries[0].parameters["messages"]
    assert message["content"] == [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:x"}},
    ]


async def test_answer_cut_for_length_is_incomplete(endpoint: Endpoints) -> None:
    class Cut(FakeEngine):
        async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
            return Completion("half an", "length", Usage(3, 2))

    response = strictly(await ask(endpoint(cheap=Cut())))
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@pytest.mark.parametrize("stream", [False, True])
async def test_abstention_is_text_and_a_refusal(endpoint: Endpoints, stream: bool) -> None:
    said = await ask(endpoint(judge=FakeJudge(Action.ABSTAINED)), stream=stream)
    for event in said if stream else ():
        EVENT.validate_json(json.dumps(event.model_dump(mode="json", warnings="none")))
    response = strictly(said[-1].response if stream else said)
    [message] = response.output
    assert [part.type for part in message.content] == ["output_text", "refusal"]
    assert response.output_text == message.content[1].refusal == ABSTENTION
    if stream:
        assert "".join(event.delta for event in said if event.type == "response.refusal.delta") == ABSTENTION
        assert [event.refusal for event in said if event.type == "response.refusal.done"] == [ABSTENTION]
        done = [event for event in said if event.type == "response.content_part.done"]
        assert [event.content_index for event in done] == [0, 1]


class Refusing(FakeEngine):
    """Declines, in the words that OpenAI's models have for it."""

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        message = {"role": "assistant", "content": None, "refusal": "I must not."}
        return Completion("", "stop", Usage(3, 2), payload={"choices": [{"index": 0, "message": message}]})

    async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
        for delta in ({"role": "assistant", "content": ""}, {"refusal": "I must"}, {"refusal": " not."}):
            yield {"choices": [{"index": 0, "delta": delta}]}
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(("stream", "tier"), [(False, "cheap"), (True, "cheap"), (True, "frontier")])
async def test_a_refusal_is_streamed_as_one(endpoint: Endpoints, stream: bool, tier: str) -> None:
    said = await ask(endpoint(cheap=Refusing(), frontier=Refusing(), decider=FakeDecider(tier)), stream=stream)
    for event in said if stream else ():
        EVENT.validate_json(json.dumps(event.model_dump(mode="json", warnings="none")))
    response = strictly(said[-1].response if stream else said)
    assert response.output[0].content[0].refusal == "I must not."
    if stream:
        assert "".join(event.delta for event in said if event.type == "response.refusal.delta") == "I must not."
        assert [event.refusal for event in said if event.type == "response.refusal.done"] == ["I must not."]


async def test_stream_that_breaks_off_ends_in_error_and_failed(endpoint: Endpoints) -> None:
    """The error is told flat, as documented, and nested, as OpenAI's API does; its client raises the latter alone."""
    frontier = FakeEngine(LONG, break_after=5, breaks_with=EngineError("died"))
    body = {"model": "frontier", "input": "hello", "stream": True}
    async with endpoint(frontier=frontier).client() as client:
        lines = (await client.post("/v1/responses", json=body)).text.split("\n")
    *_, error, failed = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    told = {"code": "stream_broken", "message": "the answer was interrupted: died", "param": None}
    assert error == {
        "type": "error", **told, "error": {"type": "service_unavailable_error", **told},
        "sequence_number": failed["sequence_number"] - 1,
    }  # fmt: skip
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    with pytest.raises(APIError, match="died"):
        await ask(
            endpoint(frontier=FakeEngine(LONG, break_after=5, breaks_with=EngineError("died"))),
            model="frontier",
            stream=True,
        )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"colour": 1}, "colour"),
        ({"input": []}, "input"),
        ({"input": [{"type": "computer_call"}]}, "input"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, None),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": ["input_text"]}]}]}, "input"),
        ({"input": [{"type": {}}]}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"reasoning": {"effort": 3}}, "reasoning"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text"),
        ({"tools": [{"type": "function"}]}, "tools"),
    ],
    ids=str,
)
async def test_what_it_does_not_do_is_refused_by_name(
    endpoint: Endpoints, fields: dict[str, Any], param: str | None
) -> None:
    async with endpoint().client() as client:
        response = await client.post("/v1/responses", json={"model": "auto", "input": "x"} | fields)
    if param is None:
        assert response.status_code == 200
        return
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "input_image", "file_id": "file-1"}, "of type 'input_image' without image_url are not supported"),
        (
            {"type": "input_file", "file_url": "http://x/a.pdf"},
            "of type 'input_file' without file_data or file_id are",
        ),
    ],
)
async def test_a_part_that_refers_to_what_is_not_stored_here_is_refused_by_what_it_lacks(
    endpoint: Endpoints, part: dict[str, Any], said: str
) -> None:
    async with endpoint().client() as client:
        turn = {"role": "user", "content": [part]}
        response = await client.post("/v1/responses", json={"model": "auto", "input": [turn]})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported_value")
    assert said in response.json()["error"]["message"]
