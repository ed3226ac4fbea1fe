"""A responses request → the chat request it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router_models.types import Query
from serve_graph.errors import RequestError
from serve_graph.openai_api import ChatRequest, Metadata, RequestOptions, StreamOptions, Text, chat_query

PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


class ResponsesRequest(BaseModel):
    """`POST /v1/responses`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: Text | Annotated[list[dict[str, Any]], Field(min_length=1, max_length=4096)]
    instructions: Text | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    metadata: Metadata | None = None
    user: str | None = None
    store: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    serve_graph: RequestOptions | None = None
    # Known, and refused when set: they need a memory this endpoint does not have.
    background: Literal[False] | None = None
    previous_response_id: None = None
    conversation: None = None


def responses_query(request: ResponsesRequest) -> Query:
    """Translate to the policy's and engines' noun; raises RequestError naming an item or a tool it cannot."""
    text = request.text or {}
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_completion_tokens": request.max_output_tokens,
        "tools": [_tool(tool) for tool in request.tools] if request.tools else None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": _response_format(text.get("format")),
        "reasoning_effort": (request.reasoning or {}).get("effort"),
        "metadata": request.metadata,
    }
    try:
        chat = ChatRequest.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = "input" if first["loc"][0] == "messages" else str(first["loc"][0])
        raise RequestError(f"{where}: {first['msg']}", where, "invalid_value") from None
    return chat_query(chat)


def _messages(request: ResponsesRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    items = [{"role": "user", "content": request.input}] if isinstance(request.input, str) else request.input
    for item in items:
        _add(messages, item)
    return messages


def _add(messages: list[dict[str, Any]], item: Mapping[str, Any]) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        messages.append({"role": item.get("role"), "content": _content(item.get("content"))})
    elif kind == "function_call":
        call = {
            "id": str(item.get("call_id")),
            "type": "function",
            "function": {"name": str(item.get("name")), "arguments": str(item.get("arguments") or "")},
        }
        last = messages[-1] if messages else {}
        if last.get("role") == "assistant":
            last.setdefault("tool_calls", []).append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        output = _content(item.get("output"))
        messages.append({"role": "tool", "tool_call_id": str(item.get("call_id")), "content": output})
    elif kind != "reasoning":  # a model's own notes: chat has no place for them
        raise RequestError(f"input items of type {kind!r} are not supported", "input", "unsupported_value")


def _content(content: Any) -> Any:
    """A message's content in chat's terms; texts become text parts, images image_url parts."""
    if not isinstance(content, list):
        return content
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in PARTS:
            parts.append({"type": "text", "text": part.get(PARTS[str(kind)])})
        elif kind == "input_image" and part.get("image_url"):
            image = {"url": part["image_url"]} | ({"detail": part["detail"]} if part.get("detail") else {})
            parts.append({"type": "image_url", "image_url": image})
        else:
            raise RequestError(f"content parts of type {kind!r} are not supported", "input", "unsupported_value")
    return parts


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise RequestError(f"tools of type {tool.get('type')!r} are not supported", "tools", "unsupported_value")
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type" and v is not None}}


def _tool_choice(choice: str | Mapping[str, Any] | None) -> str | dict[str, Any] | None:
    if choice is None or isinstance(choice, str):
        return choice
    if choice.get("type") != "function":
        raise RequestError(
            f"tool_choice of type {choice.get('type')!r} is not supported", "tool_choice", "unsupported_value"
        )
    return {"type": "function", "function": {"name": choice.get("name")}}


def _response_format(wanted: Any) -> dict[str, Any] | None:
    """`text.format` → `response_format`: a schema's fields move one level down."""
    if not isinstance(wanted, Mapping) or wanted.get("type") in (None, "text"):
        return None
    if wanted["type"] != "json_schema":
        return dict(wanted)
    return {"type": "json_schema", "json_schema": {k: v for k, v in wanted.items() if k != "type"}}
