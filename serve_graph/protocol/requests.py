"""OpenAI's chat and completion requests: validated, and converted for engines. Replies are in `responses`.

Requests are checked for shape and for what this endpoint supports; everything else is passed to the engine unchanged.
Unknown fields are rejected by name, as OpenAI does. vLLM's sampling extensions are accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from router_models.types import Message, Query
from router_models.types.chat_prompts import read_message
from serve_graph.errors import RequestError
from serve_graph.protocol.bounds import (
    MAX_CHOICES,
    MAX_FAULTS,
    MAX_FIELD_CHARS,
    MAX_STOPS,
    MAX_VALUES,
    check_fields,
    read_object,
)
from serve_graph.protocol.fields import OWN_NAMES, WITHHELD, EngineKind
from serve_graph.protocol.legacy_functions import with_tools
from serve_graph.protocol.validation import explain, explain_some, take_unknown
from serve_graph.protocol.vllm_parameters import vllm_parameters

Text = Annotated[str, Field(max_length=4_000_000)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
MAX_INT = 2**31 - 1  # the range of an engine's 32-bit counters
PromptTokens = Annotated[int, Field(ge=1, le=MAX_INT)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,7}$")]
LogitBias = Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)]
StopText = Annotated[str, Field(max_length=4096)]
R = TypeVar("R", bound=BaseModel)
NOT_PARAMETERS = frozenset(
    {"model", "stream", "stream_options", "serve_graph", "prompt", "suffix", "echo", "best_of"}
)  # what is no parameter of an engine's call
METADATA_PREFIX = "serve_graph."  # of metadata that is for this endpoint
UnknownFields = Literal["refuse", "ignore", "forward"]


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


AskedName = Literal[
    "p_yes",
    "first_token_entropy",
    "p_true",
    "self_verification",
    "agreement",
    "last_tier_verdict",
    "last_tier_likelihood",
]
"""The signals of an answer that take further calls to tiers (docs/reference/signals.md)."""
RewardName = Annotated[str, Field(pattern=r"^reward:[a-z][a-z0-9_-]{0,31}$")]
"""The score of a verifier model of the graph."""


class StreamOptions(BaseModel):
    """What a stream contains; usage is sent once, at its end, also where `continuous_usage_stats` asks for more."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class RequestOptions(BaseModel):
    """The request's `serve_graph` object: options for the routing policy (`extra_body` in OpenAI's client).

    `quality_floor`: the certified share of correct answers, 0 to 1, below which a tier may not be used.
    `cost_quality`: the share of requests, 0 to 1, that the last tier answers instead of the cheapest, those of the
    lowest estimates: a share, not a promise. `latency_budget_s`: the seconds within which the answer should arrive.
    `deadline_s`: the seconds after which it is of no use. `stream`: when a stream may be committed to a tier.
    `abstain`: whether the endpoint may decline to answer. `task` and `user_tier`: labels that routing rules and
    routers may use. `session`: identifies the conversation. `signals`: asked for of the whole answer of a tier that is
    named as the model, and returned in the reply's `serve_graph` object. `ensemble`: whether two tiers answer, and a
    judge picks: true asks for it, false for not being drawn.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    stream: Literal["verify", "prefix", "route"] | None = None
    quality_floor: Annotated[float, Field(ge=0, le=1)] | None = None
    cost_quality: Annotated[float, Field(ge=0, le=1)] | None = None
    latency_budget_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    task: Annotated[str, Field(max_length=64)] | None = None
    user_tier: Annotated[str, Field(max_length=64)] | None = None
    abstain: Literal["allow", "forbid"] | None = None
    session: Annotated[str, Field(max_length=256)] | None = None
    signals: Annotated[list[AskedName | RewardName], Field(max_length=16)] | None = None
    ensemble: bool | None = None


class Extensible(BaseModel):
    """A request that may carry `extras`: fields unknown here, where the configuration lets them pass to engines."""

    model_config = ConfigDict(extra="forbid", strict=True)
    most_values: ClassVar[int] = MAX_VALUES
    _extras: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def extras(self) -> dict[str, Any]:
        return self._extras


class Sampling(Extensible):
    """Fields common to chat and text completions: OpenAI's sampling fields and vLLM's extensions."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: PromptTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: LogitBias | None = None
    user: str | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
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
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    functions: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    function_call: str | dict[str, Any] | None = None

    @property
    def uses_functions(self) -> bool:
        """Whether the request is in the form that OpenAI had before `tools`."""
        return bool(self.functions or self.function_call) or any(
            message.role == "function" or (message.model_extra or {}).get("function_call") for message in self.messages
        )


class CompletionRequest(Sampling):
    """`POST /v1/completions`: one prompt (a string, or a list of one), answered through the chat template."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)]
    suffix: None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None


def parse_request(kind: type[R], body: bytes, unknown_fields: UnknownFields = "refuse", model: str | None = None) -> R:
    """Parse and validate a request body.

    Fields that `kind` does not have are refused, ignored, or put into its `extras` if it is Extensible. Ours, in
    `serve_graph`, and those that chat has are refused in any case, and `OWN_NAMES` are never put there. `model`
    replaces the body's, if the path names one.

    Raises RequestError, which names the field, for: an empty body, invalid UTF-8, JSON that is not an object, NaN and
    infinities, unpaired surrogates, nesting beyond MAX_DEPTH, unknown fields, wrong types, values out of range and
    fields that are too long (`check_fields`).
    PayloadTooLargeError for more than MAX_TEXT_BYTES beside images, audio and files, and for too many values.
    """
    if not body or body.isspace():
        raise RequestError("the request body is empty; send a JSON object", code="empty_body")
    data = read_object(body, kind.most_values if issubclass(kind, Extensible) else MAX_VALUES)
    if len(body) > MAX_FIELD_CHARS:
        check_fields(data, kind.model_fields)
    if model is not None:
        data["model"] = model
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        if error.error_count() > MAX_FAULTS:
            raise explain_some(kind, data) from None
        if unknown_fields == "refuse":
            raise explain(error) from None
        unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
    extras = take_unknown(data, unknown)
    try:
        request = kind.model_validate(data)
    except ValidationError as error:
        raise explain(error) from None
    if unknown_fields == "forward" and isinstance(request, Extensible):
        if own := sorted(OWN_NAMES.intersection(extras)):
            raise RequestError(f"unrecognized request argument: {own[0]}", own[0], "unknown_field")
        request.extras.update(extras)
    return request


def options_of(
    options: RequestOptions | None, prompt_cache_key: str | None, user: str | None
) -> RequestOptions | None:
    """Return the options, with the session from OpenAI's `prompt_cache_key` or `user` if they set none."""
    session = ((options.session if options else None) or prompt_cache_key or user or "")[:256]
    return (options or RequestOptions()).model_copy(update={"session": session}) if session else options


def chat_query(request: ChatRequest) -> Query:
    """Convert a chat request to a Query; what engines do not all get is sorted out by `engine_body`."""
    parameters = _parameters(request)
    if (tokens := parameters.pop("max_completion_tokens", None)) is not None:
        parameters["max_tokens"] = tokens
    parameters["messages"] = sent = [m.model_dump(exclude_unset=True) for m in request.messages]
    messages = tuple(
        read_message(dumped) if m.model_extra else Message(m.role, _plain(m.content))
        for m, dumped in zip(request.messages, sent, strict=True)
    )
    if request.uses_functions:
        parameters = with_tools(parameters)
    return Query(messages, dict(request.metadata or {}), parameters)


def completion_query(request: CompletionRequest) -> Query:
    """Convert a text completion to a Query: its prompt becomes one user message."""
    parameters = _parameters(request)
    parameters.pop("logprobs", None)
    prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[0]
    return Query((Message("user", prompt),), dict(request.metadata or {}), parameters)


def _parameters(request: Sampling) -> dict[str, Any]:
    """Return the fields that were sent, as they were sent: nulls too. Metadata for this endpoint stays here."""
    sent = request.model_dump(exclude_unset=True, exclude={"messages"})
    parameters = {name: value for name, value in sent.items() if name not in NOT_PARAMETERS} | request.extras
    if request.metadata and any(name.startswith(METADATA_PREFIX) for name in request.metadata):
        kept = {name: value for name, value in request.metadata.items() if not name.startswith(METADATA_PREFIX)}
        parameters = {k: v for k, v in parameters.items() if k != "metadata"} | ({"metadata": kept} if kept else {})
    if request.stream_options is not None and request.stream_options.include_obfuscation is not None:
        parameters["stream_options"] = {"include_obfuscation": request.stream_options.include_obfuscation}
    return parameters


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


def engine_body(query: Query, model: str, defaults: Mapping[str, Any], kind: EngineKind = "openai") -> EngineBody:
    """Return the body for an engine: request fields over the tier's defaults, logprobs on.

    `fields` says which fields this kind of engine gets. An API gets nulls as the caller sent them, vLLM gets none.
    Raises EngineRequestError naming a field that this kind of engine cannot honour.
    """
    withheld = WITHHELD[kind]
    given = vllm_parameters(query.parameters, model) if kind == "vllm" else query.parameters
    sent = {k: v for k, v in given.items() if k not in withheld and (v is not None or k not in defaults)}
    sent.pop("stream_options", None)  # whoever calls the engine decides whether it streams
    body = {**defaults, **sent}
    body.setdefault("messages", [{"role": m.role, "content": m.content} for m in query.messages])
    return EngineBody(body | {"model": model, "logprobs": True, "top_logprobs": body.get("top_logprobs") or 0})
