"""Content in parts, reasoning and refusals, under every name: text stays text, thinking is reasoning."""

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

Upstream = Any  # tests.fixtures.upstream.Upstream
DONE = "data: [DONE]\n\n"

# name → (message or delta, text, reasoning, refusal)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)  # .1 s to make
MESSAGES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "text": ({"content": "hi"}, "hi", "", ""),
    "text parts": ({"content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}, "hi", "", ""),
    "output_text parts": ({"content": [{"type": "output_text", "text": "hi", "annotations": []}]}, "hi", "", ""),
    "strings": ({"content": ["h", "i"]}, "hi", "", ""),
    "one part, no list": ({"content": {"type": "text", "text": "hi"}}, "hi", "", ""),
    "parts without a type": ({"content": [{"text": "hi"}]}, "hi", "", ""),
    "text as an object": ({"content": [{"type": "text", "text": {"value": "hi"}}]}, "hi", "", ""),
    "mistral: thinking parts": (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True},
                {"type": "text", "text": "hi"},
            ]
        },
        "hi",
        "hm",
        "",
    ),
    "anthropic: thinking parts": (
        {"content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "hi"}]},
        "hi",
        "hm",
        "",
    ),
    "reasoning parts": (
        {"content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "hi"}]},
        "hi",
        "hm",
        "",
    ),
    "gemini: thoughts": ({"content": [{"text": "hm", "thought": True}, {"text": "hi"}]}, "hi", "hm", ""),
    "citations": (
        {"content": [{"type": "text", "text": "hi"}, {"type": "reference", "reference_ids": [1]}]},
        "hi",
        "",
        "",
    ),
    "reasoning_content": ({"content": "hi", "reasoning_content": "hm"}, "hi", "hm", ""),
    "reasoning": ({"content": "hi", "reasoning": "hm"}, "hi", "hm", ""),
    "both names of reasoning": ({"content": "hi", "reasoning": "hm", "reasoning_content": "hm"}, "hi", "hm", ""),
    "reasoning in parts": ({"content": "hi", "reasoning": [{"type": "text", "text": "hm"}]}, "hi", "hm", ""),
    "thinking": ({"content": "hi", "thinking": "hm"}, "hi", "hm", ""),
    "thinking_blocks": (
        {"content": "hi", "thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
        "hi",
        "hm",
        "",
    ),
    "reasoning_details": (
        {"content": "hi", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        "hi",
        "hm",
        "",
    ),
    "details beside the text": (
        {"content": "hi", "reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        "hi",
        "hm",
        "",
    ),
    "refusal": ({"content": None, "refusal": "no"}, "", "", "no"),
    "refusal parts": ({"content": [{"type": "refusal", "refusal": "no"}]}, "", "", "no"),
}


def sent(message: dict[str, Any], reason: str = "stop", *, stream: bool = False) -> dict[str, Any]:
    if stream:
        pieces = [{"choices": [{"index": 0, "delta": message}]}, {"choices": [{"delta": {}, "finish_reason": reason}]}]
        return {"events": [*pieces, DONE]}
    return {"json": {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}}


async def shown_in_chat(upstream: Upstream, stream: bool) -> dict[str, Any]:
    """The message that a chat client ends up with."""
    if not stream:
        message: dict[str, Any] = (await upstream.ask()).json()["choices"][0]["message"]
        return message
    message = {}
    for event in await upstream.events():
        for choice in event["choices"]:
            for name, value in choice["delta"].items():
                message[name] = (message.get(name) or "") + value if isinstance(value, str) else value
    return message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", MESSAGES)
async def test_parts_reach_a_chat_caller_as_text_reasoning_and_refusal(
    upstream: Upstream, name: str, stream: bool
) -> None:
    message, text, reasoning, refusal = MESSAGES[name]
    upstream.plays(sent(message, stream=stream))
    shown = await shown_in_chat(upstream, stream)
    assert (shown["content"] or "", shown.get("refusal") or "") == (text, refusal)
    found = {shown[name] for name in ("reasoning", "reasoning_content") if shown.get(name)}
    assert found == ({reasoning} if reasoning else set())
    assert upstream.endpoint.record.evidence["signals"]["answer_chars"] == len(text), "what the verifier reads"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", MESSAGES)
async def test_parts_reach_a_responses_caller_as_items(upstream: Upstream, name: str, stream: bool) -> None:
    message, text, reasoning, refusal = MESSAGES[name]
    upstream.plays(sent(message, stream=stream))
    if stream:
        events = await upstream.events("/v1/responses")
        for event in events:
            EVENT.validate_python(event)
        shown = events[-1]["response"]
        thoughts = [event["delta"] for event in events if event["type"] == "response.reasoning_text.delta"]
        assert "".join(thoughts) == reasoning
    else:
        shown = (await upstream.ask("/v1/responses")).json()
    Response.model_validate(shown)
    items = [
        (item["type"], part.get("text") or part.get("refusal")) for item in shown["output"] for part in item["content"]
    ]
    expected = [("reasoning", reasoning), ("message", text), ("message", refusal)]
    assert items == [item for item in expected if item[1]]
    assert {item["status"] for item in shown["output"]} == {"completed"}


async def test_recorded_parts_are_text_and_reasoning(upstream: Upstream) -> None:
    upstream.plays_case("30-content-parts.json")
    message = (await upstream.ask()).json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("hi", "hm")


async def test_reasoning_before_tool_calls_is_an_item_of_its_own(upstream: Upstream) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    upstream.plays(sent({"content": None, "reasoning": "hm", "tool_calls": [call]}, "tool_calls"))
    shown = (await upstream.ask("/v1/responses")).json()
    assert [item["type"] for item in shown["output"]] == ["reasoning", "function_call"]


async def test_interleaved_thinking_in_a_stream_is_sorted(upstream: Upstream) -> None:
    deltas = [{"reasoning": "h"}, {"reasoning": "m"}, {"content": "h"}, {"content": [{"type": "text", "text": "i"}]}]
    upstream.plays({"events": [*({"choices": [{"index": 0, "delta": delta}]} for delta in deltas), DONE]})
    shown = (await upstream.events("/v1/responses"))[-1]["response"]
    assert [item["content"][0]["text"] for item in shown["output"]] == ["hm", "hi"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
async def test_a_cut_answer_is_incomplete_and_so_is_its_last_item(
    upstream: Upstream, reason: str, why: str, stream: bool
) -> None:
    upstream.plays(sent({"content": "hi", "reasoning": "hm"}, reason, stream=stream))
    if stream:
        events = await upstream.events("/v1/responses")
        assert events[-1]["type"] == "response.incomplete"
        done = [event["item"]["status"] for event in events if event["type"] == "response.output_item.done"]
        assert done == ["completed", "incomplete"]
        shown = events[-1]["response"]
    else:
        shown = (await upstream.ask("/v1/responses")).json()
    assert (shown["status"], shown["incomplete_details"]) == ("incomplete", {"reason": why})
    assert [item["status"] for item in shown["output"]] == ["completed", "incomplete"]


async def test_unknown_fields_of_a_message_reach_a_chat_caller(upstream: Upstream) -> None:
    extra = {"annotations": [{"type": "url_citation"}], "audio": {"id": "a"}, "provider_specific_fields": {"a": 1}}
    upstream.plays(sent({"content": "hi", **extra}))
    message = (await upstream.ask()).json()["choices"][0]["message"]
    assert json.dumps({name: message[name] for name in extra}) == json.dumps(extra)
