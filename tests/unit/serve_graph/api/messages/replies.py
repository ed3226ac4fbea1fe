"""Replies of an engine, whole and in pieces, and how the Messages API shows them."""

import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from serve_graph.api.messages import MessagesFormat

FACTS = {"decision": "dec-1", "tier": "cheap"}
HEAD = {"id": "chatcmpl-1", "created": 0, "model": "cheap"}
PLAIN = MessagesFormat()
THINKS = MessagesFormat(shows_thinking=True)


def call_of(arguments: str, call_id: str | None = "call_1", name: str = "weather") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def piece_of(delta: dict[str, Any], finish_reason: str | None = None, **choice: Any) -> dict[str, Any]:
    return HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, **choice}]}


def closing(**usage: int) -> dict[str, Any]:
    return HEAD | {"choices": [], "serve_graph": FACTS, "usage": usage}


async def events_of(chunks: Iterable[dict[str, Any]], to: MessagesFormat = PLAIN) -> list[dict[str, Any]]:
    """The events of a stream; each is named as its data says."""

    async def source() -> AsyncGenerator[dict[str, Any], None]:
        for chunk in chunks:
            yield chunk

    found = []
    async for raw in to.events(source()):
        name, data = raw.decode().strip().split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found
