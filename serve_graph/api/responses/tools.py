"""Tools of `/v1/responses`: functions and custom tools, in the form that chat has for them.

OpenAI's own tools (web search, file search, computer use, MCP, code interpreter, shells, …) run at OpenAI, beside its
Responses API; tiers are asked through chat completions, which do not have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

TOOL_KINDS = ("function", "custom")
Name = Annotated[str, Field(min_length=1, max_length=256)]


class Strict(BaseModel):
    """Base of the request models: unknown fields are rejected, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class FunctionTool(Strict):
    """A function that the model may call."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def for_chat(self) -> dict[str, Any]:
        return {"type": "function", "function": self.model_dump(exclude={"type"}, exclude_none=True)}


class CustomFormat(Strict):
    """What the input of a custom tool looks like: any text, or a grammar's."""

    type: Literal["text", "grammar"]
    syntax: Literal["lark", "regex"] | None = None
    definition: str | None = None

    def for_chat(self) -> dict[str, Any]:
        if self.type == "text":
            return {"type": "text"}
        return {"type": "grammar", "grammar": {"syntax": self.syntax, "definition": self.definition}}


class CustomTool(Strict):
    """A tool whose input is text, such as Codex' `apply_patch`."""

    type: Literal["custom"]
    name: Name
    description: str | None = None
    format: CustomFormat | None = None

    def for_chat(self) -> dict[str, Any]:
        custom: dict[str, Any] = {"name": self.name}
        custom |= {} if self.description is None else {"description": self.description}
        custom |= {} if self.format is None else {"format": self.format.for_chat()}
        return {"type": "custom", "custom": custom}


def _known(tool: Any) -> Any:
    """Refuse a tool, or a choice of one, whose type is neither function nor custom, by that type."""
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if isinstance(kind, str) and kind not in TOOL_KINDS:
        reason = "tools of type '{kind}' are not supported: no tier of this endpoint runs OpenAI's own tools"
        raise PydanticCustomError("unsupported", reason, {"kind": kind[:64]})
    return tool


Tool = Annotated[FunctionTool | CustomTool, Field(discriminator="type"), BeforeValidator(_known)]


class NamedTool(Strict):
    """A tool that `tool_choice` names."""

    type: Literal["function", "custom"]
    name: Name

    def for_chat(self) -> dict[str, Any]:
        return {"type": self.type, self.type: {"name": self.name}}


class AllowedTools(Strict):
    """The tools that may be called, of those declared."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[Annotated[NamedTool, BeforeValidator(_known)]]

    def for_chat(self) -> dict[str, Any]:
        allowed = {"mode": self.mode, "tools": [tool.for_chat() for tool in self.tools]}
        return {"type": "allowed_tools", "allowed_tools": allowed}


def _known_choice(choice: Any) -> Any:
    is_list = isinstance(choice, Mapping) and choice.get("type") == "allowed_tools"
    return choice if is_list else _known(choice)


ToolChoice = Annotated[Literal["none", "auto", "required"] | NamedTool | AllowedTools, BeforeValidator(_known_choice)]
