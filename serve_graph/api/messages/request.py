"""Requests of Anthropic's Messages API, validated. What this endpoint cannot do is rejected by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve_graph.api.messages.blocks import SystemBlock, TurnBlock, as_blocks
from serve_graph.protocol.bounds import MAX_STOP_SEQUENCES
from serve_graph.protocol.requests import MAX_INT, Extensible, PromptTokens, RequestOptions, StopText

ToolName = Annotated[str, Field(min_length=1, max_length=256)]


class _Strict(BaseModel):
    """Unknown fields are rejected, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Lenient(BaseModel):
    """Fields beyond those that are read (hints to Anthropic's own models) have no effect."""

    model_config = ConfigDict(extra="ignore", strict=True)


class MessageTurn(_Lenient):
    """One turn of the conversation; a string stands for one text block. Adjacent turns of one role are one turn."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[
        list[TurnBlock],
        BeforeValidator(as_blocks, json_schema_input_type=str | list[TurnBlock]),
        Field(max_length=100_000),
    ]


class ClientTool(_Lenient):
    """A tool that the caller runs. Tools that Anthropic runs or defines have another `type` and are not supported."""

    type: str | None = None
    name: ToolName | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class ToolMode(_Lenient):
    """Which tools the model may or must call; `name` with `type: tool`."""

    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(_Lenient):
    """Whether the model reasons first. `budget_tokens` (with `enabled`) chooses the reasoning effort."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1024, le=MAX_INT)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class JsonOutput(_Lenient):
    """JSON that conforms to a schema."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputOptions(_Strict):
    """The reasoning effort and the format of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonOutput | None = None


class ContextEdit(_Lenient):
    """An edit of the context that Anthropic makes before the model reads it. Those that clear are ignored here."""

    type: Annotated[str, Field(pattern="^clear_")]


class ContextManagement(_Strict):
    """Accepted without effect: nothing is cleared from a conversation, reasoning is not sent to engines again."""

    edits: list[ContextEdit] | None = None


class UserMetadata(_Strict):
    """`user_id` identifies the conversation for session affinity."""

    user_id: Annotated[str, Field(max_length=4096)] | None = None


class CountTokensRequest(Extensible):
    """`POST /v1/messages/count_tokens`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[list[MessageTurn], Field(min_length=1, max_length=100_000)]
    system: (
        Annotated[list[SystemBlock], BeforeValidator(as_blocks, json_schema_input_type=str | list[SystemBlock])] | None
    ) = None
    tools: list[ClientTool] | None = None
    tool_choice: ToolMode | None = None
    thinking: Thinking | None = None
    output_config: OutputOptions | None = None
    output_format: JsonOutput | None = None
    cache_control: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    context_management: ContextManagement | None = None
    speed: Literal["standard"] | None = None
    serve_graph: RequestOptions | None = None
    # Rejected when set: Anthropic runs these.
    mcp_servers: Annotated[list[Any], Field(max_length=0)] | None = None
    container: None = None


class MessagesRequest(CountTokensRequest):
    """`POST /v1/messages`."""

    max_tokens: PromptTokens
    stream: bool | None = None
    stop_sequences: Annotated[list[StopText], Field(max_length=MAX_STOP_SEQUENCES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_INT)] | None = None
    metadata: UserMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    @property
    def shows_thinking(self) -> bool:
        """Whether the caller asked to see the model's reasoning."""
        thinking = self.thinking
        return thinking is not None and thinking.type != "disabled" and thinking.display != "omitted"

    @property
    def caching(self) -> dict[str, Any] | None:
        """The last `cache_control` of the request: a request to have the prompt cached."""
        blocks = [block for turn in self.messages for block in turn.content]
        marked = [
            self.cache_control,
            *(each.cache_control for each in (*blocks[::-1], *(self.system or ()), *(self.tools or ()))),
        ]
        return next((mark for mark in marked if mark), None)

    @property
    def stream_options(self) -> None:
        return None

    @property
    def prompt_cache_key(self) -> str | None:
        return None

    @property
    def user(self) -> str | None:
        return self.metadata.user_id if self.metadata else None
