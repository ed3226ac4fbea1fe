"""Response formats: convert chat replies and chunks to the shape of each endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from serve_graph.api.transport.sse import DONE, Chunks, Events, chat_events, event, with_final_chunk
from serve_graph.protocol.legacy_functions import finish_reason_of_functions, with_function_call


class ResponseFormat(Protocol):
    """Converts chat.completion objects and streams of chat.completion.chunk to one endpoint's shape."""

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]: ...

    def events(self, chunks: Chunks) -> Events: ...


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """`/v1/chat/completions`: replies and chunks unchanged."""

    include_usage: bool

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        return reply

    def events(self, chunks: Chunks) -> Events:
        return chat_events(chunks, self.include_usage)


@dataclass(frozen=True, slots=True)
class FunctionsFormat:
    """`/v1/chat/completions` for requests with `functions`: the reply has `function_call` instead of tool calls."""

    include_usage: bool

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        return reply | {"choices": [_function_choice(choice, "message") for choice in reply["choices"]]}

    def events(self, chunks: Chunks) -> Events:
        return chat_events(self._translated(chunks), self.include_usage)

    async def _translated(self, chunks: Chunks) -> Chunks:
        async with aclosing(chunks):
            async for chunk in chunks:
                choices = [_function_choice(choice, "delta") for choice in chunk.get("choices") or ()]
                yield chunk if "error" in chunk else chunk | {"choices": choices}


@dataclass(frozen=True, slots=True)
class TextFormat:
    """`/v1/completions`: text instead of messages. The format has no tool calls; they are returned as empty text."""

    include_usage: bool

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        choices = [_text_choice(choice, choice["message"]) for choice in reply["choices"]]
        return reply | {"id": _text_id(reply), "object": "text_completion", "choices": choices}

    async def events(self, chunks: Chunks) -> Events:
        async with aclosing(with_final_chunk(chunks, self.include_usage)) as sent:
            async for chunk in sent:
                if "error" in chunk:
                    yield event(chunk)
                    return
                choices = [_text_choice(choice, choice["delta"]) for choice in chunk["choices"]]
                if any(choice["text"] or choice["finish_reason"] for choice in choices) or not choices:
                    yield event(chunk | {"id": _text_id(chunk), "object": "text_completion", "choices": choices})
        yield DONE


def _function_choice(choice: Mapping[str, Any], said: str) -> dict[str, Any]:
    reason = finish_reason_of_functions(choice.get("finish_reason"))
    return {**choice, said: with_function_call(choice[said]), "finish_reason": reason}


def _text_id(reply: Mapping[str, Any]) -> str:
    return f"cmpl-{reply['id'].removeprefix('chatcmpl-')}"


def _text_choice(choice: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    text = message.get("content") or ""
    return {"index": choice["index"], "text": text, "logprobs": None, "finish_reason": choice.get("finish_reason")}
