"""Convert a request of Anthropic's Messages API to the equivalent chat request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from router_models.types import Query
from serve_graph.api.messages.blocks import (
    RedactedThinkingBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    chat_content,
    parts_of,
)
from serve_graph.api.messages.request import ClientTool, CountTokensRequest, MessagesRequest, ToolMode
from serve_graph.errors import RequestError
from serve_graph.gateway.tool_affinity import RESULTS_IN_TURN
from serve_graph.protocol.requests import ChatRequest, chat_query

CHOICES = MappingProxyType({"auto": "auto", "any": "required", "none": "none"})
EFFORTS = MappingProxyType({"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"})
BUDGETS = ((4096, "low"), (16384, "medium"))  # thinking tokens below which an effort is asked for; from there: high
ERROR_PREFIX = "Error: "  # a chat message has no field for a tool call that failed


def messages_query(request: CountTokensRequest) -> Query:
    """Convert the request to a Query; raises RequestError naming what has no counterpart in chat."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request),
        **_tools(request),
        "response_format": _response_format(request),
        "reasoning_effort": reasoning_effort(request),
    }
    if isinstance(request, MessagesRequest):
        body |= {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k or None,
            "stop": request.stop_sequences or None,
            "user": request.user,
        }
    try:
        chat = ChatRequest.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0])
        raise RequestError(f"{where}: {first['msg']}", where, "invalid_value") from None
    chat.extras.update(request.extras)
    query = chat_query(chat)
    more: dict[str, Any] = {}
    if isinstance(request, MessagesRequest) and (caching := request.caching):
        more["anthropic_cache_control"] = caching
    if chat.messages[-1].role == "user" and chat.messages[-2:][0].role == "tool":
        more[RESULTS_IN_TURN] = True
    return replace(query, parameters={**query.parameters, **more}) if more else query


def _messages(request: CountTokensRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if request.system:
        messages.append({"role": "system", "content": chat_content(_parts(request.system))})
    for role, turns in groupby(request.messages, key=lambda turn: turn.role):
        blocks = [block for turn in turns for block in turn.content]
        messages += _assistant(blocks) if role == "assistant" else _asked(role, blocks)
    if not any(message["role"] != "system" for message in messages):
        raise RequestError("messages: there is nothing to answer", "messages", "invalid_value")
    if messages[-1]["role"] == "assistant":
        message = "messages: the last turn is the assistant's; answers cannot be continued from a beginning (prefill)"
        raise RequestError(message, "messages", "unsupported_value")
    return messages


def _asked(role: str, blocks: Iterable[BaseModel]) -> Iterator[dict[str, Any]]:
    """Convert the user's turn: first the results of tool calls, then everything else, as one message.

    Images and files that a tool returned go into that message too, since a chat's tool result is text.
    """
    rest: list[dict[str, Any]] = []
    for block in blocks:
        if not isinstance(block, ToolResultBlock):
            rest += _of_user(block)
            continue
        returned = _parts(block.content or ())
        text = "\n\n".join(part["text"] for part in returned if part["type"] == "text")
        rest += (part for part in returned if part["type"] != "text")
        if block.is_error:
            text = f"{ERROR_PREFIX}{text}"
        yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}
    if rest:
        yield {"role": role, "content": chat_content(rest)}


def _of_user(block: BaseModel) -> list[dict[str, Any]]:
    if isinstance(block, ToolUseBlock | ThinkingBlock | RedactedThinkingBlock):
        kind = block.type
        raise RequestError(f"messages: a block of type {kind!r} is the assistant's", "messages", "invalid_value")
    return parts_of(block)


def _assistant(blocks: Iterable[BaseModel]) -> Iterator[dict[str, Any]]:
    """Convert the assistant's turn. Of its reasoning, only what is signed is kept: an API may want it again."""
    said: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[dict[str, Any]] = []
    for block in blocks:
        if isinstance(block, ToolUseBlock):
            function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
            calls.append({"id": block.id, "type": "function", "function": function})
        elif isinstance(block, ThinkingBlock | RedactedThinkingBlock):
            if isinstance(block, RedactedThinkingBlock) or block.signature:
                thoughts.append(block.model_dump(exclude={"cache_control"}))
        elif isinstance(block, ToolResultBlock):
            raise RequestError("messages: a tool_result is the user's", "messages", "invalid_value")
        else:
            said += parts_of(block)
    if not said and not calls:
        return
    message: dict[str, Any] = {"role": "assistant", "content": chat_content(said, "") if said else None}
    yield message | ({"tool_calls": calls} if calls else {}) | ({"thinking_blocks": thoughts} if thoughts else {})


def _parts(blocks: Iterable[BaseModel]) -> list[dict[str, Any]]:
    return [part for block in blocks for part in parts_of(block)]


def _tools(request: CountTokensRequest) -> dict[str, Any]:
    """Return the fields of a chat request about tools. Without tools there is no choice, and none may be demanded."""
    choice = request.tool_choice
    if not request.tools:
        if choice is not None and choice.type in ("any", "tool"):
            raise RequestError("tool_choice: there are no tools to choose from", "tool_choice", "invalid_value")
        return {}
    fields: dict[str, Any] = {"tools": [_tool(i, tool) for i, tool in enumerate(request.tools)]}
    if choice is not None:
        fields["tool_choice"] = _tool_choice(choice)
        if choice.disable_parallel_tool_use:
            fields["parallel_tool_calls"] = False
    return fields


def _tool(position: int, tool: ClientTool) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        message = f"tools.{position}: tools of type {tool.type!r} are not supported; define one with an input_schema"
        raise RequestError(message, "tools", "unsupported_value")
    for name in ("name", "input_schema"):
        if getattr(tool, name) is None:
            raise RequestError(f"missing required field: tools.{position}.{name}", "tools", "missing_field")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    given = {name: value for name, value in (function | {"strict": tool.strict}).items() if value is not None}
    return {"type": "function", "function": given}


def _tool_choice(choice: ToolMode) -> str | dict[str, Any]:
    if choice.type != "tool":
        return CHOICES[choice.type]
    if choice.name is None:
        raise RequestError("missing required field: tool_choice.name", "tool_choice", "missing_field")
    return {"type": "function", "function": {"name": choice.name}}


def _response_format(request: CountTokensRequest) -> dict[str, Any] | None:
    chosen = (request.output_config.format if request.output_config else None) or request.output_format
    if chosen is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": chosen.schema_, "strict": True}}


def reasoning_effort(request: CountTokensRequest) -> str | None:
    """Return the effort that a request asks for, by name or by its budget of thinking tokens; None if by neither."""
    thinking, effort = request.thinking, request.output_config.effort if request.output_config else None
    if thinking is not None and thinking.type == "disabled":
        return None
    if effort is not None:
        return EFFORTS[effort]
    if thinking is None:
        return None
    if thinking.budget_tokens is None:
        return "medium"
    budget = thinking.budget_tokens
    return next((word for below, word in BUDGETS if budget < below), "high")
