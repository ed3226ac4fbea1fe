"""Server-sent events, and when a tier may speak.

The commit contract at this stage: a cheap answer is buffered whole until its verdict, then streamed; the last tier
streams through. Before the commit nothing is shown; after it the tier never changes and nothing is repeated, dropped
or reordered. A tier that fails before its first chunk fails the request with a status; one that fails later ends the
stream with an error event.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from router_models.types import Completion, Query, Usage
from serve_graph.cascade import Graph, Trail, charge
from serve_graph.errors import ServeGraphError, error_body, status_of
from serve_graph.openai_api import text_pieces, usage_json, usage_of

DONE = b"data: [DONE]\n\n"


def event(data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def chunk(head: Mapping[str, Any], delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """One chat.completion.chunk with a single choice."""
    return dict(head) | {"choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish_reason}]}


async def buffered_chunks(completion: Completion, head: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """A finished completion as chunks: role, text in pieces, tool calls if any, finish reason."""
    yield chunk(head, {"role": "assistant", "content": ""})
    for piece in text_pieces(completion.text):
        yield chunk(head, {"content": piece})
    message = completion.payload["choices"][0]["message"] if completion.payload else {}
    if calls := message.get("tool_calls"):
        yield chunk(head, {"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]})
    yield chunk(head, {}, completion.finish_reason)


async def live_chunks(
    graph: Graph, query: Query, trail: Trail, head: Mapping[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """The trail's tier, chunk by chunk as it speaks; the bill is written when it has finished or broken off."""
    started = time.perf_counter()
    usage, text, finish = Usage(), [], "stop"
    try:
        async for piece in graph.streams[trail.tier].stream(query):
            if piece.get("usage"):
                usage = usage_of(piece["usage"])
            if not piece.get("choices"):
                continue
            choice = dict(piece["choices"][0])
            choice.pop("logprobs", None)
            text.append((choice.get("delta") or {}).get("content") or "")
            finish = choice.get("finish_reason") or finish
            yield dict(head) | {"choices": [choice]}
    finally:
        completion = Completion("".join(text), finish, usage, latency_s=time.perf_counter() - started)
        trail.completion = completion
        trail.calls.append(charge(graph, trail.tier, completion, completion.latency_s))


async def first_of(chunks: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    """Wait for the first chunk, so that an error before it can still become a status; None for an empty stream."""
    return await anext(chunks, None)


async def sse(
    first: dict[str, Any] | None,
    rest: AsyncIterator[dict[str, Any]],
    trail: Trail,
    head: Mapping[str, Any],
    include_usage: bool,
    closing: Callable[[], Mapping[str, Any]],
) -> AsyncIterator[bytes]:
    """Chunks → events, ending in `serve_graph`'s closing object, the usage chunk if asked for, and [DONE].

    `closing` is asked after the last chunk, when the bill is complete. A failure after the first chunk becomes an
    error event and no [DONE]; the trail keeps it for the record.
    """
    try:
        if first is not None:
            yield event(first)
        async for piece in rest:
            yield event(piece)
    except ServeGraphError as error:
        trail.broken = error
        _, kind = status_of(error)
        yield event(error_body(f"the answer broke off: {error}", kind, code="stream_broken"))
        return
    usage = {"usage": usage_json(trail.completion.usage)} if include_usage and trail.completion else {}
    yield event(dict(head) | {"choices": [], "serve_graph": dict(closing())} | usage)
    yield DONE
