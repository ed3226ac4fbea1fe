"""Convert a `/v1/responses` request to the equivalent chat request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from router_models.types import Query
from serve_graph.api.responses.tools import Strict, Tool, ToolChoice
from serve_graph.errors import RequestError
from serve_graph.protocol.requests import (
    ChatRequest,
    Extensible,
    Metadata,
    PromptTokens,
    RequestOptions,
    StreamOptions,
    Text,
    chat_query,
)

AS_IN_CHAT = (
    "metadata", "user", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prompt_cache_options", "moderation",
)  # fmt: skip
FILE_FIELDS = ("file_data", "file_id", "filename")
PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
NEEDED: Mapping[str, str] = MappingProxyType({"input_image": "image_url", "input_file": "file_data or file_id"})
"""What parts need that may else refer to what is not stored or fetched here."""


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

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn"] | None = None
    mode: Literal["standard"] | None = None


class ResponsesRequest(Extensible):
    """`POST /v1/responses`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: Text | Annotated[list[dict[str, Any]], Field(min_length=1, max_length=4096)]
    instructions: Text | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: PromptTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    max_tool_calls: int | None = None
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
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
    moderation: dict[str, Any] | None = None
    client_metadata: dict[str, Any] | None = None
    serve_graph: RequestOptions | None = None
    # Rejected when set: they need state, prompts or programs that this endpoint does not store, or a chat API's reply
    # does not have them.
    background: Literal[False] | None = None
    background_options: None = None
    top_logprobs: Literal[0] | None = None
    previous_response_id: None = None
    conversation: None = None
    context_management: None = None
    prompt: None = None
    image: None = None
    access_programs: None = None


def responses_query(request: ResponsesRequest) -> Query:
    """Convert the request to a Query; raises RequestError naming an item that has no counterpart in chat."""
    choice = request.tool_choice
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_completion_tokens": request.max_output_tokens,
        "tools": [tool.for_chat() for tool in request.tools] if request.tools else None,
        "tool_choice": choice if isinstance(choice, str | None) else choice.for_chat(),
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": _response_format(request.text),
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "verbosity": request.text.verbosity if request.text else None,
        "stream_options": request.stream_options,
        **{name: getattr(request, name) for name in AS_IN_CHAT},
    }
    try:
        chat = ChatRequest.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = "input" if first["loc"][0] == "messages" else str(first["loc"][0])
        raise RequestError(f"{where}: {first['msg']}", where, "invalid_value") from None
    chat.extras.update(request.extras)
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
        function = {"name": str(item.get("name")), "arguments": str(item.get("arguments") or "")}
        _add_call(messages, {"id": str(item.get("call_id")), "type": "function", "function": function})
    elif kind == "custom_tool_call":
        custom = {"name": str(item.get("name")), "input": str(item.get("input") or "")}
        _add_call(messages, {"id": str(item.get("call_id")), "type": "custom", "custom": custom})
    elif kind in ("function_call_output", "custom_tool_call_output"):
        output = _content(item.get("output"))
        messages.append({"role": "tool", "tool_call_id": str(item.get("call_id")), "content": output})
    elif kind != "reasoning":  # chat has no counterpart for reasoning items
        raise RequestError(f"input items of type {kind!r} are not supported", "input", "unsupported_value")


def _add_call(messages: list[dict[str, Any]], call: dict[str, Any]) -> None:
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant":
        last.setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _content(content: Any) -> Any:
    """Return a message's content in chat's shape: text, images by URL, audio, and files by id or by their data."""
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
        elif kind == "input_file" and (part.get("file_data") or part.get("file_id")):
            file = {name: part[name] for name in FILE_FIELDS if part.get(name)}
            parts.append({"type": "file", "file": file})
        elif kind == "input_audio":
            parts.append({"type": "input_audio", "input_audio": part.get("input_audio")})
        else:
            need = f" without {NEEDED[kind]}" if isinstance(kind, str) and kind in NEEDED else ""
            raise RequestError(f"content parts of type {kind!r}{need} are not supported", "input", "unsupported_value")
    return parts


def _response_format(text: TextOptions | None) -> dict[str, Any] | None:
    """Convert `text.format` to `response_format`, where a schema's fields are nested one level deeper."""
    chosen = text.format if text else None
    if isinstance(chosen, SchemaFormat):
        inner = chosen.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
        return {"type": "json_schema", "json_schema": inner}
    return {"type": chosen.type} if chosen and chosen.type != "text" else None
