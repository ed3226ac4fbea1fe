"""Convert a `/v1/responses` request to the equivalent chat request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router_models.types import Query
from serve_graph.errors import RequestError
from serve_graph.protocol.requests import (
    ChatRequest,
    Metadata,
    PromptTokens,
    RequestOptions,
    StreamOptions,
    Text,
    chat_query,
)

PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


class Strict(BaseModel):
    """Base of the request models: unknown fields are rejected, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class FunctionTool(Strict):
    """A function that the model may call; OpenAI's hosted tools are not supported."""

    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(Strict):
    """A `tool_choice` that names the function to call."""

    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=256)]


class PlainFormat(Strict):
    """Plain text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Strict):
    """JSON that conforms to a schema."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class TextOptions(Strict):
    """The format and verbosity of the answer."""

    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Strict):
    """The reasoning effort. `summary` is accepted, but no summaries are produced."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesRequest(Strict):
    """`POST /v1/responses`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: Text | Annotated[list[dict[str, Any]], Field(min_length=1, max_length=4096)]
    instructions: Text | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: PromptTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    metadata: Metadata | None = None
    user: str | None = None
    store: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    serve_graph: RequestOptions | None = None
    # Rejected when set: they need state that this endpoint does not store.
    background: Literal[False] | None = None
    previous_response_id: None = None
    conversation: None = None


def responses_query(request: ResponsesRequest) -> Query:
    """Convert the request to a Query; raises RequestError naming an item that has no counterpart in chat."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_completion_tokens": request.max_output_tokens,
        "tools": [_tool(tool) for tool in request.tools] if request.tools else None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": _response_format(request.text),
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "verbosity": request.text.verbosity if request.text else None,
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
    elif kind != "reasoning":  # chat has no counterpart for reasoning items
        raise RequestError(f"input items of type {kind!r} are not supported", "input", "unsupported_value")


def _content(content: Any) -> Any:
    """Return a message's content in chat's shape: text parts, and image_url parts for images."""
    if not isinstance(content, list):
        return content
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(kind, str) and kind in PARTS:
            parts.append({"type": "text", "text": part.get(PARTS[kind])})
        elif kind == "input_image" and part.get("image_url"):
            image = {"url": part["image_url"]} | ({"detail": part["detail"]} if part.get("detail") else {})
            parts.append({"type": "image_url", "image_url": image})
        else:
            raise RequestError(f"content parts of type {kind!r} are not supported", "input", "unsupported_value")
    return parts


def _tool(tool: FunctionTool) -> dict[str, Any]:
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}


def _tool_choice(choice: str | FunctionChoice | None) -> str | dict[str, Any] | None:
    if isinstance(choice, FunctionChoice):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _response_format(text: TextOptions | None) -> dict[str, Any] | None:
    """Convert `text.format` to `response_format`, where a schema's fields are nested one level deeper."""
    chosen = text.format if text else None
    if isinstance(chosen, SchemaFormat):
        inner = chosen.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
        return {"type": "json_schema", "json_schema": inner}
    return {"type": chosen.type} if chosen and chosen.type != "text" else None
