"""Server-sent events, and when a tier may speak.

The commit contract at this stage: a cheap answer is buffered whole until its verdict, then streamed; the last tier
streams through, and so cannot abstain. Before the commit nothing is shown; after it the tier never changes and nothing
is repeated, dropped or reordered. A tier that fails before its first chunk fails the request with a status; one that
fails later, or stops without a finish reason, ends the stream with an error event.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import anyio

from router_models.types import Completion, Query, Usage
from serve_graph.cascade import Graph, Trail, charge, tell
from serve_graph.errors import EngineError, ServeGraphError, error_body, status_of
from serve_graph.openai_api import text_pieces, usage_json, usage_of

logger = logging.getLogger(__name__)
Chunks = AsyncGenerator[dict[str, Any], None]
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def event(data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def chunk(head: Mapping[str, Any], delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """One chat.completion.chunk with a single choice."""
    return dict(head) | {"choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish_reason}]}


async def buffered_chunks(completion: Completion, query: Query, head: Mapping[str, Any]) -> Chunks:
    """A finished completion as chunks: role, logprobs if asked for, text in pieces, tool calls, finish reason."""
    choice = completion.payload["choices"][0] if completion.payload else {}
    opening = chunk(head, {"role": "assistant", "content": ""})
    if query.parameters.get("logprobs"):
        opening["choices"][0]["logprobs"] = choice.get("logprobs")
    yield opening
    for piece in text_pieces(completion.text):
        yield chunk(head, {"content": piece})
    if calls := (choice.get("message") or {}).get("tool_calls"):
        yield chunk(head, {"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]})
    yield chunk(head, {}, completion.finish_reason)


async def live_chunks(graph: Graph, query: Query, trail: Trail, head: Mapping[str, Any]) -> Chunks:
    """The trail's tier, chunk by chunk as it speaks; the bill is written when it has finished or broken off.

    Raises EngineError where the tier falls silent without a finish reason. Closing it ends the engine's call.
    """
    started = time.perf_counter()
    usage, text, finish = Usage(), [], None
    try:
        async with aclosing(graph.streams[trail.tier].stream(query)) as pieces:
            async for piece in pieces:
                tell(graph, trail.tier, piece.get("attempts", ()), trail)
                if piece.get("usage"):
                    usage = usage_of(piece["usage"])
                if not piece.get("choices"):
                    continue
                choice = dict(piece["choices"][0])
                if not query.parameters.get("logprobs"):
                    choice.pop("logprobs", None)
                text.append((choice.get("delta") or {}).get("content") or "")
                finish = choice.get("finish_reason") or finish
                yield dict(head) | {"choices": [choice]}
        if finish is None:
            raise EngineError(f"tier {trail.tier!r} ended its stream without finishing the answer")
    except EngineError as error:
        tell(graph, trail.tier, error.attempts, trail)
        raise
    finally:
        completion = Completion("".join(text), finish or "stop", usage, latency_s=time.perf_counter() - started)
        trail.completion = completion
        trail.calls.append(charge(graph, trail.tier, completion, completion.latency_s))


async def sse(
    first: dict[str, Any],
    rest: Chunks,
    trail: Trail,
    head: Mapping[str, Any],
    include_usage: bool,
    closing: Callable[[], Mapping[str, Any]],
) -> AsyncGenerator[bytes, None]:
    """Chunks → events, ending in `serve_graph`'s closing object, the usage chunk if asked for, and [DONE].

    `closing` is asked after the last chunk, when the bill is complete. A failure after the first chunk becomes an
    error event and no [DONE]; the trail keeps it for the record.
    """
    try:
        yield event(first)
        async for piece in rest:
            yield event(piece)
    except ServeGraphError as error:
        trail.broken = error
        _, kind = status_of(error)
        yield event(error_body(f"the answer broke off: {error}", kind, code="stream_broken"))
        return
    except Exception as error:
        trail.broken = error
        logger.exception("unexpected error in a stream")
        yield event(error_body("the answer broke off: internal error", "server_error", code="stream_broken"))
        return
    usage = {"usage": usage_json(trail.completion.usage)} if include_usage and trail.completion else {}
    yield event(dict(head) | {"choices": [], "serve_graph": dict(closing())} | usage)
    yield DONE


async def kept_alive(events: AsyncGenerator[bytes, None], every_s: float) -> AsyncGenerator[bytes, None]:
    """The events, with a comment in every `every_s` seconds of silence.

    It keeps proxies from giving up, and is how a caller who hung up is noticed while a tier is silent: a proxy learns
    of it when it writes. Closing it closes the events.
    """
    async with aclosing(events):
        while True:
            coming = asyncio.ensure_future(anext(events))
            try:
                while not (await asyncio.wait({coming}, timeout=every_s))[0]:
                    yield KEEP_ALIVE
                item = await coming
            except StopAsyncIteration:
                return
            finally:
                if not coming.done():
                    coming.cancel()
                    with anyio.CancelScope(shield=True):  # a caller's task group cancels again at every await
                        await asyncio.wait({coming})
            yield item
