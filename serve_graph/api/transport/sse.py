"""Convert chunks to server-sent events, with keep-alive comments. The commit rules are in `cascade.next_step`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any

from serve_graph.errors import EngineRequestError, ServeGraphError, error_body, error_kind
from serve_graph.protocol.async_stream import BufferedAsyncIterator
from serve_graph.protocol.chunks import finishes

logger = logging.getLogger(__name__)
Chunks = AsyncGenerator[dict[str, Any], None]
Events = AsyncGenerator[bytes, None]
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
LONE = "backslashreplace"  # an unpaired surrogate is not valid UTF-8; JSON's escape for it is the same as Python's
FINAL_FIELDS = ("serve_graph", "service_tier")
"""What a final chunk says beside usage."""
_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """Return one server-sent event with a single `data:` line.

    Characters that clients take for line breaks are escaped (Python's `splitlines` knows three beyond ASCII), as are
    unpaired surrogates, which some APIs send.
    """
    head = "" if name is None else f"event: {name}\n"
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).translate(_LINE_BREAKS)
    return f"{head}data: {text}\n\n".encode(errors=LONE)


async def unbroken(chunks: AsyncIterator[dict[str, Any]], first: Awaitable[dict[str, Any]] | None = None) -> Chunks:
    """Yield the chunks, `first` before them if it is being awaited already.

    An exception becomes a last chunk with OpenAI's error object, as the status has been sent.
    """
    try:
        if first is not None:
            yield await first
        async for chunk in chunks:
            yield chunk
    except ServeGraphError as error:
        own = (error.param, error.code) if isinstance(error, EngineRequestError) else (None, None)
        yield error_body(f"the answer was interrupted: {error}", error_kind(error), own[0], own[1] or "stream_broken")
    except Exception:
        logger.exception("unexpected error in a stream")
        yield error_body("the answer was interrupted: internal error", "server_error", code="stream_broken")


async def chat_events(chunks: Chunks, include_usage: bool) -> Events:
    """Yield chat.completion.chunk events and [DONE]. An error object is the last event, without [DONE]."""
    async with aclosing(with_final_chunk(chunks, include_usage)) as sent:
        async for chunk in sent:
            yield event(chunk)
            if "error" in chunk:
                return
    yield DONE


async def with_final_chunk(chunks: Chunks, include_usage: bool) -> Chunks:
    """Yield the chunks, ended as requested.

    With usage: a final chunk without choices, as OpenAI sends it. Without: what the final chunk says beside it
    (`FINAL_FIELDS`) is merged into the chunk with the finish reason, as clients read `choices[0]` of every one.
    """
    pending: dict[str, Any] | None = None
    async with aclosing(chunks):
        async for chunk in chunks:
            if "serve_graph" in chunk and not include_usage:
                yield (pending or chunk) | {name: chunk[name] for name in FINAL_FIELDS if name in chunk}
                return
            if pending is not None:
                yield pending
                pending = None
            if finishes(chunk) and not include_usage:
                pending = chunk
            else:
                yield chunk


async def kept_alive(events: Events, every_s: float, *, at_once: bool = False) -> Events:
    """Yield the events, with a comment after every `every_s` seconds of silence; with `at_once` also at the start.

    Comments keep proxies from timing out and reveal a disconnect while a tier is silent, since a proxy notices it when
    it writes. Closing this generator closes the events.
    """
    reader = BufferedAsyncIterator(events)
    try:
        if at_once:
            yield KEEP_ALIVE
        while True:
            coming = reader.coming = reader.coming or asyncio.ensure_future(anext(events))
            await asyncio.wait({coming}, timeout=every_s)
            if not coming.done():
                yield KEEP_ALIVE
                continue
            reader.coming = None
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        await reader.aclose()
