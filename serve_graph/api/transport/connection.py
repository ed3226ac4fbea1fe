"""The client's connection: read the body, notice a disconnect, and end streams with it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

import anyio
from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serve_graph.access.auth import REPLY
from serve_graph.api.transport.content_encoding import codings_of, too_large
from serve_graph.api.transport.sse import LONE
from serve_graph.errors import SlowBodyError
from serve_graph.protocol.bounds import PARSED_AT_ONCE

T = TypeVar("T")
MOST_DIGITS = 40
"""Of a length that is read: a number of thousands of digits is none to Python."""


async def read_body(
    request: Request,
    limit: int,
    timeout_s: float | None = None,
    long_work: Callable[[], None] = lambda: None,
) -> tuple[bytes, tuple[str, ...]]:
    """Read the whole body; return it as it was sent, and its codings (`content_encoding.decoded` undoes them).

    `long_work` is called as soon as it is known that reading what was sent takes work beside the event loop, because
    it is encoded or large; what it raises is raised before any more is received.

    Raises PayloadTooLargeError as soon as what was sent exceeds `limit` bytes; SlowBodyError if it has not arrived
    after `timeout_s` seconds; UnsupportedEncodingError for an encoding that is unknown.
    """
    encodings = request.headers.getlist("content-encoding")
    codings = codings_of(encodings) if encodings else ()
    length = request.headers.get("content-length", "")
    announced = int(length[:MOST_DIGITS]) if length.isdecimal() else 0
    if announced > limit:
        raise too_large(limit)
    is_long = bool(codings) or announced > PARSED_AT_ONCE
    if is_long:
        long_work()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                if size > PARSED_AT_ONCE and not is_long:
                    is_long = True
                    long_work()
                parts.append(part)
    except TimeoutError:
        message = f"the request body did not arrive within {timeout_s:g} s: {size} bytes came"
        raise SlowBodyError(message, code="request_timeout") from None
    return b"".join(parts), codings


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await `work` while the client is connected; on a disconnect, cancel it and raise ClientDisconnect.

    The body must have been read before: the next message from the server is then the disconnect. The work is done in
    the caller's task, so that it has ended however this ends.
    """
    here = asyncio.current_task()
    assert here is not None, "a request is answered in a task"
    watch = asyncio.ensure_future(_disconnected(request.receive))
    cancelled_before, has_left, is_over = here.cancelling(), False, False

    def left(_: asyncio.Future[None]) -> None:
        nonlocal has_left
        if not is_over:  # this call may have been due already when the work ended: it is nobody's any more
            has_left = True
            here.cancel()

    watch.add_done_callback(left)
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and here.cancelling() == cancelled_before + 1:  # else somebody else ends this request as well
            raise ClientDisconnect from None
        raise
    finally:
        is_over = True
        if has_left:
            here.uncancel()
        watch.remove_done_callback(left)
        watch.cancel()


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class NamedResponse(Response):
    """A response with the headers that every reply has: the request's id, what is left of limits, and its time."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, named = scope.get(REPLY) or (time.perf_counter(), ())
        took_ms = b"%d" % ((time.perf_counter() - started) * 1000)
        self.raw_headers += [*named, (b"openai-processing-ms", took_ms)]
        await super().__call__(scope, receive, send)


class PlainReply(NamedResponse, PlainTextResponse):
    """A reply of plain text."""


class Reply(NamedResponse, JSONResponse):
    """A JSON response that can also encode text that is not valid UTF-8: see `sse.event`."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors=LONE)


class EventStream(NamedResponse, StreamingResponse):
    """A response of server-sent events.

    `ending` runs however the response ends, so that a disconnect also stops the engines.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], headers: dict[str, str], ending: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-cache", **headers})
        self.events = events
        self.ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self.events.aclose()
                await self.ending()
