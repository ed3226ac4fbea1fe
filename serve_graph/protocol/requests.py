"""OpenAI's chat and completion requests: validated, and converted for engines. Replies are in `responses`.

Requests are checked for shape and for what this endpoint supports; everything else is passed to the engine unchanged.
Unknown fields are rejected by name, as OpenAI does. vLLM's sampling extensions are accepted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router_models.types import Message, Query
from serve_graph.errors import PayloadTooLargeError, RequestError

Text = Annotated[str, Field(max_length=4_000_000)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
MAX_INT = 2**31 - 1  # the range of an engine's 32-bit counters
PromptTokens = Annotated[int, Field(ge=1, le=MAX_INT)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,7}$")]
LogitBias = Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)]
R = TypeVar("R", bound=BaseModel)
MAX_CHOICES = 8  # upper bound of `n`: each choice is generated, verified and paid for
MAX_DEPTH = 100  # Ray pickles requests recursively; a schema nests a dozen levels
MAX_TEXT_BYTES = 4 * 1024 * 1024  # of a body, images, audio and files apart: what is routed, checked and verified
MAX_SEPARATORS = 1_000_000  # commas and opening brackets: a bound on the values that parsing makes
MEDIA_KEYS = frozenset({"url", "data", "file_data", "image_url", "video_url", "audio_url"})
NOT_FORWARDED = frozenset(
    {
        "model", "stream", "stream_options", "messages", "metadata", "user", "store", "serve_graph", "service_tier",
        "prompt_cache_key", "safety_identifier",
    }
)  # fmt: skip


class ContentPart(BaseModel):
    """One part of a multi-part message."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: Text | None = None


class ChatMessage(BaseModel):
    """One message; fields beyond role and content (names, tool calls) are passed on unchanged."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[ContentPart] | None = None


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    include_obfuscation: bool | None = None


class RequestOptions(BaseModel):
    """The request's `serve_graph` object: options for the routing policy (`extra_body` in OpenAI's client).

    `quality_floor`: the certified share of correct answers, 0 to 1, below which a tier may not be used.
    `latency_budget_s`: the seconds within which the answer should arrive. `deadline_s`: the seconds after which it is
    of no use. `stream`: when a stream may be committed to a tier. `abstain`: whether the endpoint may decline to
    answer. `task` and `user_tier`: labels that routing rules and routers may use. `session`: identifies the
    conversation.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    stream: Literal["verify", "prefix", "route"] | None = None
    quality_floor: Annotated[float, Field(ge=0, le=1)] | None = None
    latency_budget_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    task: Annotated[str, Field(max_length=64)] | None = None
    user_tier: Annotated[str, Field(max_length=64)] | None = None
    abstain: Literal["allow", "forbid"] | None = None
    session: Annotated[str, Field(max_length=256)] | None = None


class Sampling(BaseModel):
    """Fields common to chat and text completions: OpenAI's sampling fields and vLLM's extensions."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: Annotated[str, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: PromptTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: LogitBias | None = None
    user: str | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    serve_graph: RequestOptions | None = None
    # vLLM's extensions
    top_k: Annotated[int, Field(ge=-1, le=MAX_INT)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=1000)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MAX_INT)] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    max_completion_tokens: PromptTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionRequest(Sampling):
    """`POST /v1/completions`: one prompt (a string, or a list of one), answered through the chat template."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)]
    suffix: None = None
    echo: Literal[False] | None = None
    logprobs: None = None


def parse_request(kind: type[R], body: bytes) -> R:
    """Parse and validate a request body.

    Raises RequestError, which names the field, for: an empty body, invalid UTF-8, JSON that is not an object, NaN and
    infinities, unpaired surrogates, nesting beyond MAX_DEPTH, unknown fields, wrong types and values out of range.
    PayloadTooLargeError for more than MAX_TEXT_BYTES beside images, audio and files.
    """
    if not body.strip():
        raise RequestError("the request body is empty; send a JSON object", code="empty_body")
    data = _read_object(body)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _explain(error) from None


def _read_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object and make sure that it can be sent to an engine as UTF-8 JSON."""
    try:
        if len(body) > MAX_TEXT_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_SEPARATORS:
            raise _too_much_text()
        data = json.loads(body.decode("utf-8-sig"))
        if not isinstance(data, dict):
            raise RequestError("the request body must be a JSON object", code="invalid_json")
        if len(body) > MAX_TEXT_BYTES and len(body) - _media_chars(data) > MAX_TEXT_BYTES:
            raise _too_much_text()
        if _is_deep(data):
            raise RecursionError
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"the request body is not valid UTF-8 (byte {error.start})", code="invalid_utf8") from None
    except UnicodeEncodeError:
        raise RequestError(
            "the request contains an unpaired surrogate, which is not valid Unicode", code="invalid_utf8"
        ) from None
    except RecursionError:
        message = f"the request nests arrays and objects more than {MAX_DEPTH} levels deep"
        raise RequestError(message, code="invalid_json") from None
    except ValueError as error:  # JSONDecodeError, NaN and infinities, integers of thousands of digits
        raise RequestError(f"the request body is not valid JSON: {error}", code="invalid_json") from None
    return data


def _too_much_text() -> PayloadTooLargeError:
    message = f"the request holds more than {MAX_TEXT_BYTES} bytes beside images, audio and files"
    return PayloadTooLargeError(message, code="payload_too_large")


def _media_chars(data: dict[str, Any]) -> int:
    """Return the length of the URLs and the base64 data in a request."""
    chars, left = 0, [data]
    while left:
        node = left.pop()
        for key, value in node.items() if isinstance(node, dict) else ((None, value) for value in node):
            if isinstance(value, dict | list):
                left.append(value)
            elif key in MEDIA_KEYS and isinstance(value, str):
                chars += len(value)
    return chars


def _is_deep(data: dict[str, Any]) -> bool:
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        children = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for nodes in children for child in nodes if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _explain(error: ValidationError) -> RequestError:
    first = min(error.errors(), key=lambda e: len(e["loc"]) if e["type"] != "extra_forbidden" else 0)
    path = ".".join(str(part) for part in first["loc"]) or None
    param = str(first["loc"][0]) if first["loc"] else None
    if first["type"] == "extra_forbidden":
        return RequestError(f"unrecognized request argument: {path}", param, "unknown_field")
    if first["type"] == "missing":
        return RequestError(f"missing required field: {path}", param, "missing_field")
    if param == "n":
        return RequestError(f"n must be 1 to {MAX_CHOICES}", param, "unsupported_value")
    return RequestError(f"{path}: {first['msg']}", param, "invalid_value")


def options_of(
    options: RequestOptions | None, prompt_cache_key: str | None, user: str | None
) -> RequestOptions | None:
    """Return the options, with the session from OpenAI's `prompt_cache_key` or `user` if they set none."""
    session = ((options.session if options else None) or prompt_cache_key or user or "")[:256]
    return (options or RequestOptions()).model_copy(update={"session": session}) if session else options


def chat_query(request: ChatRequest) -> Query:
    """Convert a chat request to a Query. Every field that the engine understands is forwarded."""
    sent = request.model_dump(exclude_unset=True, exclude_none=True)
    parameters = {key: value for key, value in sent.items() if key not in NOT_FORWARDED}
    if "max_tokens" not in parameters and "max_completion_tokens" in parameters:
        parameters["max_tokens"] = parameters.pop("max_completion_tokens")
    messages = tuple(Message(m.role, _plain(m.content)) for m in request.messages)
    parameters["messages"] = [m.model_dump(exclude_none=True) for m in request.messages]
    return Query(messages, dict(request.metadata or {}), parameters)


def completion_query(request: CompletionRequest) -> Query:
    """Convert a text completion to a Query: its prompt becomes one user message."""
    sent = request.model_dump(exclude_unset=True, exclude_none=True)
    parameters = {key: value for key, value in sent.items() if key not in NOT_FORWARDED | {"prompt", "echo"}}
    prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[0]
    return Query((Message("user", prompt),), dict(request.metadata or {}), parameters)


def _plain(content: str | list[ContentPart] | None) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if part.text)


class EngineBody(dict[str, Any]):
    """A request body for an engine; Ray Serve's prefix-aware request router reads the `messages` attribute."""

    @property
    def messages(self) -> Any:
        return self.get("messages")


def engine_body(query: Query, model: str, defaults: Mapping[str, Any]) -> EngineBody:
    """Return the body for an OpenAI-compatible engine: request fields over the tier's defaults, logprobs on."""
    body = {**defaults, **query.parameters}
    body.setdefault("messages", [{"role": m.role, "content": m.content} for m in query.messages])
    return EngineBody(body | {"model": model, "logprobs": True, "top_logprobs": body.get("top_logprobs", 0)})
