"""Messages and events of Anthropic's API as chat completions and chunks."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.types import Usage
from serve_graph.engines.hosted.anthropic.reply import ChunksOfMessage, chat_completion
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.protocol.chunks import CompletionAccumulator, check_chunk, to_chunks
from serve_graph.protocol.responses import completion_of, usage_of

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 200,
    "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 7,
    "service_tier": "standard",
}
SIGNED = {"type": "thinking", "thinking": "2 + 2", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "eA=="}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "☃"}}


def message_of(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}
    return head | {"content": list(content), "stop_reason": "end_turn", "usage": USAGE, **fields}


def said(*content: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = chat_completion(message_of(*content))["choices"][0]["message"]
    return message


def test_text_is_the_answer() -> None:
    reply = chat_completion(message_of({"type": "text", "text": "Hello, "}, {"type": "text", "text": "you."}))
    completion = completion_of(reply, 0.0)
    assert (completion.text, completion.finish_reason) == ("Hello, you.", "stop")
    assert reply["object"] == "chat.completion"


def test_calls_are_tool_calls() -> None:
    message = said({"type": "text", "text": "Let me look."}, CALL, {**CALL, "id": "toolu_2", "input": {}})
    assert message["content"] == "Let me look."
    assert [call["id"] for call in message["tool_calls"]] == ["toolu_1", "toolu_2"]
    arguments = [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]]
    assert arguments == [{"at": "☃"}, {}]
    assert said(CALL)["content"] is None


def test_reasoning_is_text_and_kept_as_it_was_signed() -> None:
    message = said(SIGNED, REDACTED, {"type": "text", "text": "4"})
    assert (message["content"], message["reasoning_content"]) == ("4", "2 + 2")
    assert message["thinking_blocks"] == [SIGNED, REDACTED]


def test_blocks_of_tools_that_the_api_runs_are_left_out() -> None:
    assert said({"type": "server_tool_use", "id": "s", "name": "x", "input": {}})["content"] == ""


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("something new", "stop"),
        (None, "stop"),
    ],
)
def test_why_it_ended(stop_reason: str | None, finish_reason: str) -> None:
    choice = chat_completion(message_of(stop_reason=stop_reason))["choices"][0]
    assert choice["finish_reason"] == finish_reason
    assert "stop_reason" not in choice


def test_the_stop_sequence_that_was_met_is_named() -> None:
    choice = chat_completion(message_of(stop_reason="stop_sequence", stop_sequence="END"))["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "END")


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (USAGE, Usage(240, 7, 200, 30)),
        ({"input_tokens": 10, "output_tokens": 7}, Usage(10, 7)),
        ({"input_tokens": 300, "cache_read_input_tokens": 200, "output_tokens": 7}, Usage(500, 7, 200)),
        ({"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 7}, Usage(0, 7)),
        (None, Usage()),
    ],
)
def test_prompt_tokens_are_the_sum_of_what_was_read_written_and_neither(usage: Any, counted: Usage) -> None:
    assert usage_of(chat_completion(message_of(usage=usage))["usage"]) == counted


@pytest.mark.parametrize(("tier", "named"), [("standard", None), ("priority", "priority"), ("batch", "batch")])
def test_the_tariff_is_told_where_it_is_another(tier: str, named: str | None) -> None:
    assert chat_completion(message_of(usage=USAGE | {"service_tier": tier})).get("service_tier") == named


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 502),
        ({}, 502),
        ({"content": "text"}, 502),
        ({"content": ["text"]}, 502),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, 529),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}, 429),
        ({"error": "odd"}, 502),
    ],
)
def test_what_is_no_message_is_a_failure(body: Any, status: int) -> None:
    with pytest.raises(DeploymentError) as caught:
        chat_completion(body)
    assert caught.value.status == status


def events_of(message: dict[str, Any], cut: int = 3) -> list[dict[str, Any]]:
    """The events in which the API streams a message, its texts in pieces of `cut` characters."""
    empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
    usage = message["usage"] or {}
    first = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": first}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        start = block | empty.get(block["type"], {})
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        deltas: list[dict[str, str]] = []
        if block["type"] == "text":
            deltas = [{"type": "text_delta", "text": text} for text in pieces(block["text"], cut)]
        elif block["type"] == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": text} for text in pieces(block["thinking"], cut)]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        elif block["type"] == "tool_use" and block["input"]:
            text = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *pieces(text, cut)]]
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage.get("output_tokens", 0)}})
    return [*events, {"type": "message_stop"}]


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def chunks_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stream = ChunksOfMessage()
    return [chunk for event in events for chunk in stream.take(event)]


words = st.text(max_size=8)
blocks = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": words}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": words, "signature": st.just("c2ln")}),
    st.just(REDACTED),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"), "id": st.uuids().map(lambda found: f"toolu_{found.hex}"),
            "name": st.just("look"), "input": st.dictionaries(words, words | st.integers(), max_size=2),
        }
    ),
)  # fmt: skip


@given(st.lists(blocks, max_size=6), st.integers(1, 5))
def test_a_stream_says_what_the_whole_reply_says(content: list[dict[str, Any]], cut: int) -> None:
    message = message_of(*content, stop_reason="max_tokens")
    accumulator = CompletionAccumulator()
    for chunk in chunks_of(events_of(message, cut)):
        check_chunk(chunk)
        accumulator.add(chunk)
    streamed, whole = accumulator.completion(0.0), completion_of(chat_completion(message), 0.0)
    assert (streamed.text, streamed.finish_reason, streamed.usage) == (whole.text, whole.finish_reason, whole.usage)
    told, meant = (c.payload["choices"][0]["message"] for c in (streamed, whole))
    assert told.get("thinking_blocks") == meant.get("thinking_blocks")
    assert (told.get("reasoning_content") or "") == (meant.get("reasoning_content") or "")
    heard = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in told.get("tool_calls", ())
    ]
    assert heard == [(b["id"], b["name"], b["input"]) for b in content if b["type"] == "tool_use"]


@given(st.lists(blocks, max_size=6))
def test_a_whole_reply_that_is_streamed_later_keeps_each_signature_with_its_text(
    content: list[dict[str, Any]],
) -> None:
    accumulator = CompletionAccumulator()
    reply = completion_of(chat_completion(message_of(*content)), 0.0)
    for choices in to_chunks(reply):
        accumulator.add({"choices": choices})
    told = accumulator.completion(0.0).payload["choices"][0]["message"]
    thoughts = [block for block in content if "thinking" in block["type"]]
    assert told.get("thinking_blocks", []) == thoughts
    assert (told.get("reasoning_content") or "") == "".join(block.get("thinking", "") for block in thoughts)


def test_a_call_whose_input_comes_at_its_start_has_it() -> None:
    events = [
        {"type": "message_start", "message": message_of()},
        {"type": "content_block_start", "index": 0, "content_block": CALL},
        {"type": "content_block_stop", "index": 0},
    ]
    *_, last = chunks_of(events)
    assert json.loads(last["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]) == CALL["input"]


def test_the_input_is_on_the_bill_of_a_stream_that_breaks_off() -> None:
    stream = ChunksOfMessage()
    [first] = stream.take({"type": "message_start", "message": message_of()})
    assert usage_of(first["usage"]) == Usage(240, 0, 200, 30)
    with pytest.raises(DeploymentError, match="busy") as caught:
        list(stream.take({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}))
    assert caught.value.status == 529
    assert usage_of(caught.value.usage) == Usage(240, 0, 200, 30)


def test_events_and_deltas_that_are_not_known_are_passed_over() -> None:
    stream = ChunksOfMessage()
    odd = {"type": "content_block_delta", "index": 7, "delta": {"type": "citations_delta", "citation": {}}}
    assert [*stream.take({"type": "ping"}), *stream.take({"type": "new"}), *stream.take(odd)] == []
