"""Messages and deltas of APIs in OpenAI's shape: content in parts, reasoning under its many names, odd tool calls.

Fields that need no conversion are passed on as they came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from serve_graph.protocol.tool_calls import new_call_id

FINISH_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "stop": "stop", "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop",
        "complete": "stop", "completed": "stop", "end": "stop", "pause_turn": "stop",
        "length": "length", "max_tokens": "length", "max_output_tokens": "length", "model_length": "length",
        "model_context_window_exceeded": "length",
        "tool_calls": "tool_calls", "tool_call": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls",
        "content_filter": "content_filter", "content_filtered": "content_filter", "safety": "content_filter",
        "recitation": "content_filter", "prohibited_content": "content_filter", "blocklist": "content_filter",
        "spii": "content_filter", "guardrail_intervened": "content_filter", "refusal": "content_filter",
        "sensitive": "content_filter", "image_safety": "content_filter", "error_toxic": "content_filter",
    }
)  # fmt: skip
"""Why an answer ended: other APIs' words, in lower case, to OpenAI's."""
BROKEN_OFF = frozenset(
    {"error", "network_error", "insufficient_system_resource", "engine_error", "abort", "cancelled"}
)
"""Words for an answer that its engine did not finish."""
_THINKING = ("thinking", "reasoning", "reasoning_text", "reasoning_content", "thought", "redacted_thinking")
_OTHER_REASONING = ("thinking", "thinking_blocks", "reasoning_details", "reasoning_text", "thought")


def finish_reason(value: Any) -> str | None:
    """Return OpenAI's word for why an answer ended; None where it goes on, an unknown word as it is."""
    if not isinstance(value, str) or value.strip().lower() in ("", "null", "none"):
        return None
    return FINISH_REASONS.get(value.strip().lower().removeprefix("finish_reason_"), value)


def plain_message(message: Any, *, whole: bool) -> Any:
    """Return a message (`whole`) or a delta in OpenAI's shape; what is no object is returned as it is.

    Text parts become the content, thinking parts `reasoning_content`, refusal parts the refusal. A `function_call` is
    a tool call.
    """
    if not isinstance(message, Mapping):
        return message
    plain = dict(message)
    thought: list[str] = []
    if isinstance(content := plain.get("content"), list | Mapping):
        text, thoughts, refusals = _sorted_parts(content)
        plain["content"] = text if text or not whole else None
        thought.append(thoughts)
        if refusals and not plain.get("refusal"):
            plain["refusal"] = refusals
    for name in ("reasoning", "reasoning_content", "refusal"):
        if isinstance(plain.get(name), list | Mapping):
            plain[name] = text_within(plain[name])
    given = any(plain.get(name) for name in ("reasoning", "reasoning_content"))
    for name in _OTHER_REASONING:
        if name in plain and not given and not any(thought):
            thought.append(text_within(plain[name]))
    for name in ("thinking", "thought", "reasoning_text"):
        plain.pop(name, None)
    if any(thought) and not given:
        plain["reasoning_content"] = "".join(thought)
    _plain_calls(plain, whole)
    if whole:
        plain["role"] = "assistant"
    return plain


def plain_index(index: Any) -> int | None:
    """Return the index of a choice or a call, also where it is given as digits or a float; None where it is none."""
    if isinstance(index, str) and index.isascii() and index.isdecimal():
        return int(index[:9])
    if isinstance(index, float) and index.is_integer():
        index = int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None


def text_within(value: Any) -> str:
    """Return the text of a part, of a list of parts, or of what lies in them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(text_within, value))
    if not isinstance(value, Mapping):
        return ""
    names = ("text", "thinking", "reasoning", "refusal", "content", "summary", "value")
    return next((text for name in names if (text := text_within(value.get(name)))), "")


def _sorted_parts(content: Any) -> tuple[str, str, str]:
    """Return the text, thinking and refusal of a content's parts; parts of other kinds have none."""
    text, thinking, refusal = [], [], []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _THINKING or (isinstance(part, Mapping) and part.get("thought") is True):
            thinking.append(text_within(part))
        elif kind == "refusal":
            refusal.append(text_within(part))
        else:
            text.append(text_within(part))
    return "".join(text), "".join(thinking), "".join(refusal)


def _plain_calls(message: dict[str, Any], whole: bool) -> None:
    """Convert a message's tool calls in place: one call instead of a list, arguments as an object, no type, no id."""
    legacy = message.pop("function_call", None)
    calls = message.get("tool_calls")
    if isinstance(calls, Mapping):
        calls = [calls]
    if not calls and isinstance(legacy, Mapping):
        calls = [{"function": legacy} if whole else {"index": 0, "function": legacy}]
    if calls is None:
        message.pop("tool_calls", None)
        return
    if not isinstance(calls, list):
        return
    message["tool_calls"] = [_plain_call(call, whole) for call in calls]
    if whole:
        seen: set[str] = set()
        for call in filter(lambda call: isinstance(call, dict), message["tool_calls"]):
            call.pop("index", None)
            call["type"] = call.get("type") or ("custom" if "custom" in call else "function")
            given = call.get("id")
            if not given or (isinstance(given, str) and given in seen):
                given = call["id"] = new_call_id()
            if isinstance(given, str):
                seen.add(given)


def _plain_call(call: Any, whole: bool) -> Any:
    if not isinstance(call, Mapping):
        return call
    plain = dict(call)
    if "function" not in plain and "custom" not in plain and isinstance(plain.get("name"), str):
        plain["function"] = {"name": plain.pop("name"), "arguments": plain.pop("arguments", "")}
    if isinstance(plain.get("id"), int) and not isinstance(plain["id"], bool):
        plain["id"] = str(plain["id"])
    if "index" in plain and (index := plain_index(plain.pop("index"))) is not None:
        plain["index"] = index
    function = plain.get("function")
    if isinstance(function, Mapping):
        arguments = function.get("arguments")
        if arguments is None and (whole or "arguments" in function):
            arguments = ""
        elif isinstance(arguments, Mapping | list):
            arguments = json.dumps(arguments, ensure_ascii=False)
        plain["function"] = {**function, **({} if arguments is None else {"arguments": arguments})}
    return plain
