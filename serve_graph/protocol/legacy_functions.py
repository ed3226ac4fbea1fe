"""OpenAI's form of tools before `tools`: `functions`, `function_call` and messages of the role `function`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_tools(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's parameters with `tools` and tool messages instead; one call at a time, as it was then."""
    kept = {name: value for name, value in parameters.items() if name not in ("functions", "function_call")}
    kept["messages"] = _messages(parameters["messages"])
    if functions := parameters.get("functions"):
        kept |= {"tools": [{"type": "function", "function": function} for function in functions]}
        kept["parallel_tool_calls"] = False
    choice = parameters.get("function_call")
    if choice is not None:
        kept["tool_choice"] = {"type": "function", "function": choice} if isinstance(choice, Mapping) else choice
    return kept


def with_function_call(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reply's message or delta with `function_call` instead of its tool calls."""
    kept = {name: value for name, value in message.items() if name != "tool_calls"}
    for call in message.get("tool_calls") or ():
        if call.get("function"):
            kept["function_call"] = dict(call["function"])
    return kept


def finish_reason_of_functions(reason: str | None) -> str | None:
    """Return a finish reason under its former name."""
    return "function_call" if reason == "tool_calls" else reason


def _messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every call an id, and every result the id of the last call of its function."""
    made, last = [], ""
    for number, message in enumerate(messages):
        kept = {name: value for name, value in message.items() if name != "function_call"}
        if call := message.get("function_call"):
            last = f"call_{number}"
            kept.setdefault("content", None)
            kept["tool_calls"] = [{"id": last, "type": "function", "function": call}]
        if message.get("role") == "function":
            kept = {"role": "tool", "tool_call_id": last or f"call_{number}", "content": message.get("content")}
        made.append(kept)
    return made
