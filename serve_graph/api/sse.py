"""Chunks → server-sent events, with comments in the silences. Nothing is decided here; see `streaming` for that."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from serve_graph.errors import ServeGraphError, error_body, status_of
from serve_graph.protocol.async_stream import BufferedAsyncIterator
from serve_graph.protocol.chunks import finishes

logger = logging.getLogger(__name__)
Chunks = AsyncGenerator[dict[str, Any], None]
Events = AsyncGenerator[bytes, None]
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
LONE = "backslashreplace"  # an unpaired surrogate is no UTF-8; JSON has an escape for it, the same as Python's
_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """One server-sent event: one `data:` line, whatever a consumer takes for a line break (Python's own splitlines
    knows three beyond ASCII, and clients use it). Half a character, which some APIs send, goes on as JSON's escape.
    """
    head = "" if name is None else f"event: {name}\n"
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).translate(_LINE_BREAKS)
    return f"{head}data: {text}\n\n".encode(errors=LONE)


async def unbroken(chunks: AsyncIterator[dict[str, Any]]) -> Chunks:
    """The chunks; a failure becomes a last one, OpenAI's error object: the status line has long been sent."""
    try:
        async for chunk in chunks:
            yield chunk
    except ServeGraphError as error:
        _, kind = status_of(error)
        yield error_body(f"the answer broke off: {error}", kind, code="stream_broken")
    except Exception:
        logger.exception("unexpected error in a stream")
        yield error_body("the answer broke off: internal error", "server_error", code="stream_broken")


async def chat_events(chunks: Chunks, include_usage: bool) -> Events:
    """chat.completion.chunk events and [DONE]. An error object is the last event, without [DONE]."""
    async with aclosing(with_final_chunk(chunks, include_usage)) as sent:
        async for chunk in sent:
            yield event(chunk)
            if "error" in chunk:
                return
    yield DONE


async def with_final_chunk(chunks: Chunks, include_usage: bool) -> Chunks:
    """The chunks with the end that was asked for. With usage: a closing chunk without choices, as OpenAI sends it.
    Without: the closing chunk's `serve_graph` joins the finish reason: callers read `choices[0]` of every chunk.
    """
    held: dict[str, Any] | None = None
    async with aclosing(chunks):
        async for chunk in chunks:
            if "serve_graph" in chunk and not include_usage:
                yield {**(held or chunk), "serve_graph": chunk["serve_graph"]}
                return
            if held is not None:
                yield held
                held = None
            if finishes(chunk) and not include_usage:
                held = chunk
            else:
                yield chunk


async def kept_alive(events: Events, every_s: float, *, at_once: bool = False) -> Events:
    """The events, with a comment in every `every_s` seconds of silence; `at_once` begins with one.

    It keeps proxies from giving up, and is how a caller who hung up is noticed while a tier is silent: a proxy learns
    of it when it writes. Closing it closes the events.
    """
    coming = BufferedAsyncIterator(events)
    try:
        if at_once:
            yield KEEP_ALIVE
        while True:
            try:
                item = await coming.next(every_s)
            except TimeoutError:
                item = KEEP_ALIVE
            except StopAsyncIteration:
                return
            yield item
    finally:
        await coming.aclose()
