"""Content blocks of Anthropic's messages, and the parts of chat messages that they become."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve_graph.protocol.requests import Text

Part = dict[str, Any]


def as_blocks(content: Any) -> Any:
    """Return a string as the one text block that it stands for, anything else unchanged."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class _Block(BaseModel):
    """Fields beyond those that are read (`citations`, `caller`) have no effect."""

    model_config = ConfigDict(extra="ignore", strict=True)
    cache_control: dict[str, Any] | None = None


class TextBlock(_Block):
    """Text."""

    type: Literal["text"]
    text: Text


class Base64Source(_Block):
    """Bytes."""

    type: Literal["base64"]
    media_type: Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+$")]
    data: str

    @property
    def url(self) -> str:
        return f"data:{self.media_type};base64,{self.data}"


class UrlSource(_Block):
    """An address that the engine fetches."""

    type: Literal["url"]
    url: str


class ImageBlock(_Block):
    """An image. Files of Anthropic's Files API are not supported."""

    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]


class PlainSource(_Block):
    """A document's text."""

    type: Literal["text"]
    data: Text


class ContentSource(_Block):
    """A document made of blocks."""

    type: Literal["content"]
    content: Annotated[
        list[Annotated[TextBlock | ImageBlock, Field(discriminator="type")]],
        BeforeValidator(as_blocks, json_schema_input_type=str | list[TextBlock | ImageBlock]),
    ]


class DocumentBlock(_Block):
    """A document: text, blocks, or the bytes of a PDF. Addresses and uploaded files are not supported."""

    type: Literal["document"]
    source: Annotated[Base64Source | PlainSource | ContentSource, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None


class SearchResultBlock(_Block):
    """Something that was found, with its source."""

    type: Literal["search_result"]
    source: str
    title: str
    content: list[TextBlock]


class ToolUseBlock(_Block):
    """A tool call that the model made."""

    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    input: dict[str, Any]


SystemBlock = TextBlock
ResultBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]


class ToolResultBlock(_Block):
    """What a tool call returned."""

    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(min_length=1)]
    content: (
        Annotated[list[ResultBlock], BeforeValidator(as_blocks, json_schema_input_type=str | list[ResultBlock])] | None
    ) = None
    is_error: bool | None = None


class ThinkingBlock(_Block):
    """Reasoning that the model wrote, with the signature that lets its API accept it again."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(_Block):
    """Reasoning that only the API that made it can read."""

    type: Literal["redacted_thinking"]
    data: str


TurnBlock = Annotated[
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ToolUseBlock
    | ToolResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock,
    Field(discriminator="type"),
]


def parts_of(block: BaseModel) -> list[Part]:
    """Return the parts of a chat message for a block of text, an image, a document or a search result."""
    if isinstance(block, TextBlock):
        return [_text(block.text)]
    if isinstance(block, ImageBlock):
        return [{"type": "image_url", "image_url": {"url": block.source.url}}]
    if isinstance(block, SearchResultBlock):
        found = "\n".join(part.text for part in block.content)
        return [_text(f"{block.title} ({block.source})\n{found}")]
    assert isinstance(block, DocumentBlock), block
    heading = "\n".join(line for line in (block.title, block.context) if line)
    head = [_text(heading)] if heading else []
    source = block.source
    if isinstance(source, Base64Source):
        return [*head, {"type": "file", "file": {"filename": block.title or "document", "file_data": source.url}}]
    inside = [TextBlock(type="text", text=source.data)] if isinstance(source, PlainSource) else source.content
    return [*head, *(part for each in inside for part in parts_of(each))]


def chat_content(parts: list[Part], between: str = "\n\n") -> str | list[Part]:
    """Return the content of a chat message: a string where all parts are text, since every engine takes one."""
    if all(part["type"] == "text" for part in parts):
        return between.join(part["text"] for part in parts)
    return parts


def _text(text: str) -> Part:
    return {"type": "text", "text": text}
