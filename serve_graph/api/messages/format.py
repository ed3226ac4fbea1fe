"""Convert chat replies and chunks to the shape of Anthropic's `/v1/messages`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from serve_graph.api.messages.errors import anthropic_error, kind_in_stream
from serve_graph.api.messages.request import MessagesRequest
from serve_graph.api.messages.stream import ContentBlocks
from serve_graph.api.transport.sse import Chunks, Events, event
from serve_graph.protocol.thinking_blocks import signed_thoughts
from serve_graph.protocol.tool_calls import arguments_of

STOP_REASONS = MappingProxyType(
    {"length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use", "function_call": "tool_use"}
)
PING = event({"type": "ping"}, "ping")


@dataclass(frozen=True, slots=True)
class MessagesFormat:
    """The response format of one request: `shows_thinking` and `stop_sequences` are what it asked for."""

    shows_thinking: bool = False
    stop_sequences: Sequence[str] = ()

    @classmethod
    def of(cls, request: MessagesRequest) -> MessagesFormat:
        return cls(request.shows_thinking, tuple(request.stop_sequences or ()))

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        choice = reply["choices"][0]
        message = choice["message"]
        content = thoughts_of(message) if self.shows_thinking else []
        if text := message.get("content") or message.get("refusal"):
            content.append({"type": "text", "text": text})
        calls = [_tool_use(i, call, reply["id"]) for i, call in enumerate(message.get("tool_calls") or ())]
        ended = self.ended(choice, called=bool(calls), refused=bool(message.get("refusal")))
        head = self.head(reply) | {"content": [*content, *calls]} | ended
        return head | {"usage": usage_of_message(reply.get("usage") or {}), "serve_graph": reply["serve_graph"]}

    async def events(self, chunks: Chunks) -> Events:
        """Yield Anthropic's events in their order; a failure ends them with `error`."""
        async with aclosing(chunks):
            stream = _MessageStream(self)
            async for chunk in chunks:
                opens = stream.blocks is None and "error" not in chunk
                for data in stream.events(chunk):
                    yield event(data, data["type"])
                    if opens:
                        yield PING
                        opens = False

    def head(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message without content."""
        return {
            "id": f"msg_{reply['id'].removeprefix('chatcmpl-')}",
            "type": "message",
            "role": "assistant",
            "model": reply["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def ended(self, choice: Mapping[str, Any], *, called: bool, refused: bool) -> dict[str, Any]:
        """Return why a message ended. A stop sequence is named where the engine says which it met."""
        reason = STOP_REASONS.get(choice.get("finish_reason") or "stop", "end_turn")
        met = choice.get("stop_reason")
        if refused:
            return {"stop_reason": "refusal", "stop_sequence": None}
        if reason == "end_turn" and isinstance(met, str) and met in self.stop_sequences:
            return {"stop_reason": "stop_sequence", "stop_sequence": met}
        if reason in ("end_turn", "tool_use"):  # APIs differ in what they say beside calls
            reason = "tool_use" if called else "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}


class _MessageStream:
    """The state of one stream: its content blocks so far and why it ended."""

    def __init__(self, message_format: MessagesFormat) -> None:
        self.message_format = message_format
        self.blocks: ContentBlocks | None = None
        self.choice: int | None = None
        self.ending: dict[str, Any] = {}

    def events(self, chunk: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Return the events that one chunk produces."""
        if "error" in chunk:
            error = chunk["error"]
            yield anthropic_error(kind_in_stream(error["type"]), error["message"])
            return
        if self.blocks is None:
            self.blocks = ContentBlocks(chunk["id"], shows_thinking=self.message_format.shows_thinking)
            start = self.message_format.head(chunk) | {"usage": usage_of_message({})}
            yield {"type": "message_start", "message": start}
        for choice in chunk["choices"]:
            self.choice = choice["index"] if self.choice is None else self.choice
            if choice["index"] == self.choice:  # a message holds one choice, even if the tier returns more
                yield from self.blocks.take(choice["delta"])
                self.ending |= {name: choice[name] for name in ("finish_reason", "stop_reason") if choice.get(name)}
        if "serve_graph" in chunk:
            blocks = self.blocks
            yield from blocks.close()
            ended = self.message_format.ended(self.ending, called=blocks.called, refused=blocks.refused)
            usage = usage_of_message(chunk.get("usage") or {})
            yield {"type": "message_delta", "delta": ended, "usage": usage, "serve_graph": chunk["serve_graph"]}
            yield {"type": "message_stop"}


def usage_of_message(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return Anthropic's usage for OpenAI's: what was read from or written to a cache is not among the input."""
    details = usage.get("prompt_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    thoughts = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    return {
        "input_tokens": max(0, (usage.get("prompt_tokens") or 0) - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.get("completion_tokens") or 0,
        **({"output_tokens_details": {"thinking_tokens": thoughts}} if thoughts else {}),
    }


def thoughts_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a chat message's reasoning as blocks: signed ones if its API signs, else one without a signature."""
    if signed := signed_thoughts(message):
        return signed
    thought = message.get("reasoning") or message.get("reasoning_content")
    return [{"type": "thinking", "thinking": thought, "signature": ""}] if thought else []


def _tool_use(position: int, call: Mapping[str, Any], reply_id: str) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "type": "tool_use",
        "id": call.get("id") or call_name(reply_id, position),
        "name": function.get("name") or "",
        "input": arguments_of(function.get("arguments")),
    }


def call_name(reply_id: str, position: int) -> str:
    """Return an id for a call to which the engine gave none."""
    return f"toolu_{reply_id.removeprefix('chatcmpl-')}_{position}"
