"""Streams of real APIs reach the caller whole: odd framing, missing ends, tool calls without identity."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI

from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.event_stream import ApiEvent, EventReader
from serve_graph.engines.hosted.replies import ReplyStream, whole_reply
from serve_graph.protocol.chunks import CompletionAccumulator
from serve_graph.protocol.responses import completion_of

Upstream = Any  # tests.fixtures.upstream.Upstream
DONE = "data: [DONE]\n\n"
SAYS = {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}}]}
STOPS = {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses"]


def line(chunk: dict[str, Any], end: str = "\n\n", before: str = "data: ") -> str:
    return f"{before}{json.dumps(chunk)}{end}"


def text_of(events: list[dict[str, Any]]) -> str:
    choices = [choice for event in events for choice in event.get("choices", ())]
    chat = "".join((choice.get("delta") or {}).get("content") or choice.get("text") or "" for choice in choices)
    return chat + "".join(event["delta"] for event in events if event.get("type") == "response.output_text.delta")


def spread(chunk: dict[str, Any]) -> str:
    """An event whose JSON is on several `data:` lines."""
    return "".join(f"data: {part}\n" for part in json.dumps(chunk, indent=1).split("\n")) + "\n"


FRAMINGS: dict[str, dict[str, Any]] = {
    "as OpenAI sends it": {"events": [SAYS, STOPS, DONE]},
    "one byte a packet": {"events": [SAYS, STOPS, DONE], "split": 1},
    "CRLF": {"events": [line(SAYS, "\r\n\r\n"), line(STOPS, "\r\n\r\n"), "data: [DONE]\r\n\r\n"]},
    "CRLF, one byte a packet": {"events": [line(SAYS, "\r\n\r\n"), line(STOPS, "\r\n\r\n"), DONE], "split": 1},
    "CR": {"events": [line(SAYS, "\r\r"), line(STOPS, "\r\r"), "data: [DONE]\r\r"]},
    "no space after data:": {"events": [line(SAYS, before="data:"), line(STOPS, before="data:"), "data:[DONE]\n\n"]},
    "byte order mark": {"events": ["\ufeff" + line(SAYS), STOPS, DONE]},
    "comments": {"events": [": OPENROUTER PROCESSING\n\n", SAYS, ":\n\n", ": ping\r\n", STOPS, ":x\n\n", DONE]},
    "empty events": {"events": ["\n\n", "data:\n\n", "data: \n\n", SAYS, "event: ping\n\n", STOPS, DONE]},
    "named events, ids and retries": {"events": ["event: message\nid: 1\nretry: 3000\n" + line(SAYS), STOPS, DONE]},
    "pings as JSON": {"events": ['event: ping\ndata: {"type": "ping"}\n\n', SAYS, "data: null\n\n", STOPS, DONE]},
    "several data lines": {"events": [spread(SAYS), spread(STOPS), DONE]},
    "no empty lines between": {"events": [line(SAYS, "\n"), line(STOPS, "\n"), "data: [DONE]"]},
    "no end of the last line": {"events": [SAYS, "data: " + json.dumps(STOPS)]},
    "without [DONE]": {"events": [SAYS, STOPS]},
    "a line of JSON each": {"events": [line(SAYS, "\n", ""), line(STOPS, "\n", "")]},
    "no choices": {"events": [{"choices": []}, {"choices": None}, {"id": "x"}, SAYS, STOPS, DONE]},
    "usage with choices null": {"events": [SAYS, STOPS, {"choices": None, "usage": {"prompt_tokens": 1}}, DONE]},
    "role alone, null content": {
        "events": [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": None}}]},
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": ""}]},
            {"choices": [{"index": 0, "delta": None, "finish_reason": "null"}]},
            SAYS,
            STOPS,
            DONE,
        ]
    },
    "nothing but what is needed": {"events": [{"choices": [{"delta": {"content": "hi"}}]}, DONE]},
    "[DONE] without a finish reason": {"events": [SAYS, DONE]},
    "several finish reasons": {"events": [SAYS, STOPS, STOPS, {**STOPS, "usage": {"prompt_tokens": 1}}, DONE]},
    "the message again at the end": {
        "events": [SAYS, {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}, DONE]
    },
    "a whole reply instead": {
        "json": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    },
    "a whole reply in one event": {"events": [{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}]},
    "text instead of a delta": {"events": [{"choices": [{"text": "hi"}]}, {"choices": [{"finish_reason": "stop"}]}]},
    "another content type": {"events": [SAYS, STOPS, DONE], "ct": "text/plain"},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FRAMINGS)
async def test_answer_comes_through_however_it_is_framed(upstream: Upstream, name: str, path: str) -> None:
    upstream.plays(FRAMINGS[name])
    events = await upstream.events(path)
    assert text_of(events) == "hi"
    assert upstream.endpoint.record.status == 200
    if path != "/v1/responses":
        finishes = [c["finish_reason"] for event in events for c in event["choices"] if c["finish_reason"]]
        assert finishes == ["stop"]


@pytest.mark.parametrize("name", FRAMINGS)
async def test_a_stream_that_nobody_asked_for_is_a_whole_answer(upstream: Upstream, name: str) -> None:
    upstream.plays(FRAMINGS[name])
    reply = await upstream.ask()
    [choice] = reply.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("hi", "stop")


BROKEN: dict[str, dict[str, Any]] = {
    "neither a finish reason nor [DONE]": {"events": [SAYS]},
    "usage, but no end": {"events": [SAYS, {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}]},
    "cut in the middle of an event": {"events": [SAYS, 'data: {"choices": [{"index": 0, "del']},
    "no JSON": {"events": [SAYS, "data: <html>\n\n"]},
    "a number": {"events": [SAYS, "data: 5\n\n", DONE]},
    "choices that are none": {"events": [SAYS, {"choices": [5]}, DONE]},
    "broken off by its engine": {"events": [SAYS, {"choices": [{"finish_reason": "error"}]}, DONE]},
    "out of resources": {"events": [SAYS, {"choices": [{"finish_reason": "insufficient_system_resource"}]}, DONE]},
}
NO_ANSWERS: dict[str, dict[str, Any]] = {
    "[DONE] alone": {"events": [DONE]},
    "nothing": {"events": []},
    "the role alone": {"events": [{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}, DONE]},
    "a page": {"raw": "<html><title>Welcome</title></html>", "ct": "text/html"},
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_stream_that_breaks_off_ends_with_an_error(upstream: Upstream, name: str) -> None:
    upstream.plays(BROKEN[name])
    events = await upstream.events()
    assert text_of(events[:-1]) == "hi"
    assert events[-1]["error"]["code"] == "stream_broken"
    assert upstream.endpoint.record.status == 503


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_a_reply_without_an_answer_is_the_tiers_failure(upstream: Upstream, name: str, stream: bool) -> None:
    upstream.plays(NO_ANSWERS[name])
    reply = await upstream.ask(stream=stream)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, None)


@pytest.mark.parametrize("end", [DONE, STOPS, {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}], ids=str)
async def test_a_missing_finish_reason_is_filled_in(upstream: Upstream, end: Any) -> None:
    call = {"id": "a", "function": {"name": "now", "arguments": "{}"}}
    upstream.plays({"events": [{"choices": [{"delta": {"tool_calls": [call]}}]}, end]})
    finishes = [c["finish_reason"] for event in await upstream.events() for c in event["choices"]]
    assert finishes[-1] == ("stop" if end is STOPS else "tool_calls")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("eos_token", "stop"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("guardrail_intervened", "content_filter"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_other_words_for_the_end_are_openais(upstream: Upstream, said: str, meant: str, stream: bool) -> None:
    ended = {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": said}]}
    upstream.plays({"events": [SAYS, ended, DONE]} if stream else {"json": ended})
    if stream:
        found = [c["finish_reason"] for event in await upstream.events() for c in event["choices"]][-1]
    else:
        found = (await upstream.ask()).json()["choices"][0]["finish_reason"]
    assert found == meant


@pytest.mark.parametrize("case", ["07-parallel-calls-index-0.json", "07b-parallel-calls-no-index.json"])
async def test_recorded_parallel_calls_are_two_calls(upstream: Upstream, case: str) -> None:
    upstream.plays_case(case)
    done = [e["item"] for e in await upstream.events("/v1/responses") if e.get("type") == "response.output_item.done"]
    assert [(item["name"], item["arguments"]) for item in done] == [
        ("get_weather", '{"city":"Oslo"}'),
        ("get_weather", '{"city":"Rome"}'),
    ]


@pytest.mark.parametrize("case", ["07-parallel-calls-index-0.json", "07b-parallel-calls-no-index.json"])
async def test_openais_client_assembles_recorded_calls(upstream: Upstream, case: str) -> None:
    upstream.plays_case(case)
    async with upstream.endpoint.client() as http:
        client = AsyncOpenAI(api_key="none", base_url="http://test/v1", http_client=http, max_retries=0)
        asked = client.chat.completions.stream(model="frontier", messages=[{"role": "user", "content": "hi"}])
        async with asked as stream:
            final = await stream.get_final_completion()
    message = final.choices[0].message
    assert [call.function.arguments for call in message.tool_calls] == ['{"city":"Oslo"}', '{"city":"Rome"}']
    assert final.choices[0].finish_reason == "tool_calls"


ODD_CALLS: dict[str, Any] = {
    "arguments as an object": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
    "no type": [{"id": "a", "function": {"name": "f", "arguments": '{"x": 1}'}}],
    "no id": [{"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
    "null id, index": [{"index": 0, "id": None, "function": {"name": "f", "arguments": '{"x": 1}'}}],
    "a number as the id": [{"id": 7, "function": {"name": "f", "arguments": '{"x": 1}'}}],
    "one call, no list": {"id": "a", "function": {"name": "f", "arguments": '{"x": 1}'}},
    "flat": [{"id": "a", "name": "f", "arguments": {"x": 1}}],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("name", ODD_CALLS)
async def test_odd_calls_have_openais_shape(upstream: Upstream, name: str, path: str, stream: bool) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": ODD_CALLS[name]}
    reply = {"choices": [{"index": 0, "delta" if stream else "message": message}]}
    upstream.plays({"events": [reply, DONE]} if stream else {"json": reply})
    if path == "/v1/responses":
        shown = (await upstream.events(path))[-1]["response"] if stream else (await upstream.ask(path)).json()
        [call] = shown["output"]
        id_, function = call["call_id"], call
    else:
        if stream:
            choices = [choice for event in await upstream.events() for choice in event["choices"]]
            [call] = [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
            assert (call["index"], choices[-1]["finish_reason"]) == (0, "tool_calls")
        else:
            [choice] = (await upstream.ask()).json()["choices"]
            [call] = choice["message"]["tool_calls"]
            assert choice["finish_reason"] == "tool_calls"
        assert call["type"] == "function"
        id_, function = call["id"], call["function"]
    assert isinstance(id_, str)
    assert id_
    assert (function["name"], json.loads(function["arguments"])) == ("f", {"x": 1})


async def test_whole_calls_with_one_id_or_index_stay_apart(upstream: Upstream) -> None:
    calls = [{"index": 0, "id": "f", "function": {"name": "f", "arguments": text}} for text in ('{"x":1}', '{"x":2}')]
    upstream.plays({"json": {"choices": [{"message": {"tool_calls": calls}}]}, "times": 2})
    shown = (await upstream.ask()).json()["choices"][0]["message"]["tool_calls"]
    assert len({call["id"] for call in shown}) == 2
    items = (await upstream.ask("/v1/responses")).json()["output"]
    assert [item["arguments"] for item in items] == ['{"x":1}', '{"x":2}']


async def test_a_call_in_the_older_shape_is_a_tool_call(upstream: Upstream) -> None:
    message = {"content": None, "function_call": {"name": "f", "arguments": "{}"}}
    upstream.plays({"json": {"choices": [{"message": message, "finish_reason": "function_call"}]}})
    [choice] = (await upstream.ask()).json()["choices"]
    assert (choice["message"]["tool_calls"][0]["function"]["name"], choice["finish_reason"]) == ("f", "tool_calls")


async def test_empty_arguments_reach_the_caller_as_sent(upstream: Upstream) -> None:
    upstream.plays_case("06-tool-call-empty-arguments.json")
    [call] = (await upstream.ask()).json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["arguments"] == ""


def test_a_line_without_an_end_is_given_up() -> None:
    with pytest.raises(ValueError, match="without an end"):
        list(EventReader().feed(b"x" * 40 * 2**20))


LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
CALL = st.fixed_dictionaries({}, optional={"id": JSON, "index": JSON, "type": JSON, "function": JSON, "name": JSON})
NAMES = ("role", "content", "refusal", "reasoning", "thinking", "reasoning_details", "function_call")
MESSAGE = st.fixed_dictionaries(
    {}, optional={"tool_calls": st.lists(CALL, max_size=2) | JSON} | dict.fromkeys(NAMES, JSON)
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={"index": JSON, "delta": MESSAGE | JSON, "message": MESSAGE | JSON, "text": JSON, "finish_reason": JSON},
)
REPLIES = JSON | st.fixed_dictionaries(
    {}, optional={"choices": st.lists(CHOICE | JSON, max_size=2) | JSON, "usage": JSON, "error": JSON, "message": JSON}
)


@given(st.lists(REPLIES, max_size=3))
def test_whatever_an_api_sends_is_an_answer_or_its_failure(replies: list[Any]) -> None:
    stream, accumulator = ReplyStream(), CompletionAccumulator()
    with suppress(DeploymentError):
        for reply in replies:
            for chunk in stream.chunks(ApiEvent(None, json.dumps(reply))):
                accumulator.add(chunk)
        for chunk in stream.close():
            accumulator.add(chunk)
        assert accumulator.finished
        assert accumulator.completion(0.0).finish_reason
    for reply in replies:
        with suppress(DeploymentError):
            assert completion_of(whole_reply(json.dumps(reply).encode()), 0.0).finish_reason


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_any_bytes_are_read_to_their_end(pieces: list[bytes]) -> None:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)] + list(reader.end())
    assert all(isinstance(event.data, str) for event in events)
