"""Convert chunks to server-sent events, with keep-alive comments. The commit rules are in `cascade.next_step`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any

import anyio

from serve_graph.errors import EngineRequestError, ServeGraphError, error_body, error_kind
from serve_graph.protocol.async_stream import wait_until_done
from serve_graph.protocol.chunks import finishes

logger = logging.getLogger(__name__)
Chunks = AsyncGenerator[dict[str, Any], None]
Events = AsyncGenerator[bytes, None]
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
LONE = "backslashreplace"  # an unpaired surrogate is not valid UTF-8; JSON's escape for it is the same as Python's
FINAL_FIELDS = ("serve_graph", "service_tier")
"""What a final chunk says beside usage."""
MOST_AHEAD = 64
"""Events that are read of a stream before they are sent."""
_PLAIN = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """Return one server-sent event with a single `data:` line.

    Characters that clients take for line breaks are escaped (Python's `splitlines` knows three beyond ASCII), as are
    unpaired surrogates, which some APIs send.
    """
    head = "" if name is None else f"event: {name}\n"
    text = _PLAIN.encode(data)
    if not text.isascii():
        text = text.translate(_LINE_BREAKS)
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
    it writes. Events that are there at the same time are one piece: each piece is a write of its own. Nobody waits for
    a piece to fill, and no more than `MOST_AHEAD` are read before they are asked for. Closing this closes the events.
    """
    come: list[bytes] = []
    news, room = asyncio.Event(), asyncio.Event()
    is_over = False

    async def read() -> None:
        async for event in events:
            come.append(event)
            news.set()
            if is_over:  # it was cancelled, and what it reads went on all the same
                return
            if len(come) >= MOST_AHEAD:
                room.clear()
                await room.wait()

    reading = asyncio.create_task(read())
    reading.add_done_callback(lambda _: news.set())
    try:
        if at_once:
            yield KEEP_ALIVE
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await news.wait()
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            news.clear()
            has_ended = reading.done()
            if come:
                piece = b"".join(come)
                come.clear()
                room.set()
                yield piece
            if has_ended:
                reading.result()
                return
    finally:
        is_over = True
        with anyio.CancelScope(shield=True):  # a caller's task group cancels again at every await
            await wait_until_done(reading)
            await events.aclose()
