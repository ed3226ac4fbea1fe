"""Whole replies of the Messages API."""

from collections.abc import Mapping
from typing import Any

import pytest

from serve_graph.api.messages import MessagesFormat
from serve_graph.api.messages.format import usage_of_message
from tests.unit.serve_graph.api.messages.replies import (
    FACTS,
    HEAD,
    PLAIN,
    THINKS,
    call_of,
    closing,
    events_of,
    piece_of,
)


def whole(
    message: Mapping[str, Any], finish_reason: str = "stop", to: MessagesFormat = PLAIN, **choice: Any
) -> dict[str, Any]:
    choices = [{"index": 0, "message": {"content": None, **message}, "finish_reason": finish_reason, **choice}]
    return to.whole({**HEAD, "choices": choices, "usage": None, "serve_graph": FACTS})


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": "hello"}, [{"type": "text", "text": "hello"}]),
        ({"content": ""}, []),
        ({"content": None}, []),
        ({"content": "no", "refusal": "no"}, [{"type": "text", "text": "no"}]),
        ({"refusal": "I will not"}, [{"type": "text", "text": "I will not"}]),
        (
            {"content": "Let me see.", "tool_calls": [call_of('{"city": "Oslo"}'), call_of("", "call_2", "now")]},
            [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "call_2", "name": "now", "input": {}},
            ],
        ),
        (
            {"tool_calls": [call_of("{}", None)]},
            [{"type": "tool_use", "id": "toolu_1_0", "name": "weather", "input": {}}],
        ),
        (
            {"tool_calls": [call_of('{"city": ')]},
            [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"INVALID_JSON": '{"city": '}}],
        ),
        (
            {"tool_calls": [call_of("[1]")]},
            [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"INVALID_JSON": "[1]"}}],
        ),
        ({"content": "4", "reasoning_content": "2 + 2"}, [{"type": "text", "text": "4"}]),
    ],
)
def test_a_message_is_content_blocks(message: dict[str, Any], content: list[Any]) -> None:
    assert whole(message)["content"] == content


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_shown_to_those_who_asked(field: str) -> None:
    thought, text = whole({"content": "4", field: "2 + 2"}, to=THINKS)["content"]
    assert thought == {"type": "thinking", "thinking": "2 + 2", "signature": ""}
    assert text["text"] == "4"


def test_signed_reasoning_keeps_its_signature() -> None:
    signed = [{"type": "thinking", "thinking": "2 + 2", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    message = {"content": "4", "reasoning_content": "2 + 2", "thinking_blocks": signed}
    assert whole(message, to=THINKS)["content"][:2] == signed


@pytest.mark.parametrize(
    ("message", "choice", "stop_reason", "stop_sequence"),
    [
        ({"content": "x"}, {}, "end_turn", None),
        ({"content": "x"}, {"finish_reason": "length"}, "max_tokens", None),
        ({"content": "x"}, {"finish_reason": "content_filter"}, "refusal", None),
        ({"content": "x", "refusal": "x"}, {}, "refusal", None),
        ({"content": "x"}, {"finish_reason": "eos"}, "end_turn", None),
        ({"tool_calls": [call_of("{}")]}, {"finish_reason": "tool_calls"}, "tool_use", None),
        ({"tool_calls": [call_of("{}")]}, {}, "tool_use", None),
        ({"tool_calls": [call_of("{")]}, {"finish_reason": "length"}, "max_tokens", None),
        ({"content": "x"}, {"finish_reason": "tool_calls"}, "end_turn", None),
        ({"content": "x"}, {"stop_reason": "END"}, "stop_sequence", "END"),
        ({"content": "x"}, {"stop_reason": 128001}, "end_turn", None),
        ({"content": "x"}, {"stop_reason": "not asked for"}, "end_turn", None),
    ],
)
async def test_why_it_stopped(
    message: dict[str, Any], choice: dict[str, Any], stop_reason: str, stop_sequence: str | None
) -> None:
    stops = MessagesFormat(stop_sequences=("END",))
    reply = whole(message, to=stops, **{"finish_reason": "stop", **choice})
    assert (reply["stop_reason"], reply["stop_sequence"]) == (stop_reason, stop_sequence)
    delta = {name: value for name, value in message.items() if value}
    pieces = [piece_of(delta), piece_of({}, **{"finish_reason": "stop", **choice}), closing()]
    *_, ended, _ = await events_of(pieces, stops)
    assert ended["delta"] == {"stop_reason": stop_reason, "stop_sequence": stop_sequence}


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, (10, 0, 0, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}, (6, 0, 4, 5)),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5}}, (1, 5, 4, 0)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}, (0, 0, 4, 0)),
        ({}, (0, 0, 0, 0)),
    ],
)
def test_input_tokens_leave_out_what_the_cache_held(usage: dict[str, Any], counts: tuple[int, ...]) -> None:
    assert tuple(usage_of_message(usage).values()) == counts
