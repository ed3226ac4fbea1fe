"""The content blocks of a streamed message: opened one after the other, filled and closed, in Anthropic's events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from serve_graph.protocol.thinking_blocks import signed_thoughts

StreamEvent = dict[str, Any]
DELTAS = MappingProxyType(
    {
        "text": ("text_delta", "text"),
        "thinking": ("thinking_delta", "thinking"),
        "tool_use": ("input_json_delta", "partial_json"),
    }
)


@dataclass(slots=True)
class Block:
    """A block as it grows: what opens it, its text so far (of a call: its JSON), and how much of that was sent."""

    start: dict[str, Any]
    text: str = ""
    sent: int = 0
    signature: str = ""
    is_open: bool = False
    is_closed: bool = False

    @property
    def kind(self) -> str:
        return str(self.start["type"])

    @property
    def is_whole(self) -> bool:
        """Whether nothing more can belong to it: a call's arguments are whole when they are an object."""
        return self.kind != "tool_use" or _is_object(self.text)


class ContentBlocks:
    """`take` and `close` return the events of one message's blocks.

    One block is open at a time, as Anthropic's clients expect. What belongs to another waits until the open one is
    whole; a call is when its arguments are a JSON object, so that calls whose pieces alternate arrive intact.
    """

    def __init__(self, reply_id: str, *, shows_thinking: bool) -> None:
        self.name = reply_id.removeprefix("chatcmpl-")
        self.shows_thinking = shows_thinking
        self.blocks: list[Block] = []
        self.at = 0  # the position of the first block that is not closed
        self.calls: dict[int, Block] = {}
        self.answered = self.refused = False

    @property
    def called(self) -> bool:
        return bool(self.calls)

    def take(self, delta: Mapping[str, Any]) -> Iterator[StreamEvent]:
        """Return the events that one delta produces."""
        if self.shows_thinking:
            self._think(delta)
        if text := delta.get("content"):
            self.answered = True
            self._grow_text("text", text)
        if refusal := delta.get("refusal"):
            self.refused = True
            if not self.answered:  # an abstention says the same twice
                self._grow_text("text", refusal)
        for position, call in enumerate(delta.get("tool_calls") or ()):
            self._grow_call(position, call)
        yield from self._advance()

    def close(self) -> Iterator[StreamEvent]:
        """Return the events that close every block."""
        yield from self._advance(last=True)

    def _think(self, delta: Mapping[str, Any]) -> None:
        if thought := delta.get("reasoning") or delta.get("reasoning_content"):
            self._grow_text("thinking", thought)
        for block in signed_thoughts(delta):
            if block.get("type") == "redacted_thinking":
                self.blocks.append(Block({"type": "redacted_thinking", "data": block.get("data") or ""}))
            elif block.get("signature"):  # its text has come as `reasoning_content`
                if not self._is_last("thinking"):
                    self.blocks.append(_begun("thinking"))
                self.blocks[-1].signature = block["signature"]

    def _is_last(self, kind: str) -> bool:
        last = self.blocks[-1] if self.blocks else None
        return last is not None and last.kind == kind and not last.is_closed and not last.signature

    def _grow_text(self, kind: str, text: str) -> None:
        if not self._is_last(kind):
            self.blocks.append(_begun(kind))
        self.blocks[-1].text += text

    def _grow_call(self, position: int, call: Mapping[str, Any]) -> None:
        at = position if call.get("index") is None else call["index"]
        function = call.get("function") or {}
        if at not in self.calls:
            start = {"type": "tool_use", "id": f"toolu_{self.name}_{at}", "name": "", "input": {}}
            self.calls[at] = Block(start)
            self.blocks.append(self.calls[at])
        block = self.calls[at]
        if not block.is_open and not block.is_closed:
            block.start["id"] = call.get("id") or block.start["id"]
            block.start["name"] += function.get("name") or ""
        block.text += function.get("arguments") or ""

    def _advance(self, *, last: bool = False) -> Iterator[StreamEvent]:
        """Open, fill and close blocks as far as what has arrived allows; with `last`, all of them."""
        while self.at < len(self.blocks):
            block = self.blocks[self.at]
            is_followed = self.at + 1 < len(self.blocks)
            if not block.is_open:
                if block.kind == "tool_use" and not block.text and not last:
                    return  # its name may still be growing
                block.is_open = True
                yield {"type": "content_block_start", "index": self.at, "content_block": block.start}
            yield from self._filled(block)
            if not (last or (is_followed and block.is_whole)):
                return
            yield from self._closed(block)
            self.at += 1

    def _filled(self, block: Block) -> Iterator[StreamEvent]:
        if block.sent < len(block.text):
            kind, field = DELTAS[block.kind]
            yield self._delta({"type": kind, field: block.text[block.sent :]})
            block.sent = len(block.text)

    def _closed(self, block: Block) -> Iterator[StreamEvent]:
        if block.kind == "tool_use" and not block.text:  # a call without arguments
            yield self._delta({"type": "input_json_delta", "partial_json": "{}"})
        if block.signature:
            yield self._delta({"type": "signature_delta", "signature": block.signature})
        block.is_closed = True
        yield {"type": "content_block_stop", "index": self.at}

    def _delta(self, delta: dict[str, Any]) -> StreamEvent:
        return {"type": "content_block_delta", "index": self.at, "delta": delta}


def _begun(kind: str) -> Block:
    start = {"type": kind, "text": ""} if kind == "text" else {"type": kind, "thinking": "", "signature": ""}
    return Block(start)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
