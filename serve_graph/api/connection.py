"""The caller's connection: what comes in, whether anybody is still there, and streams that end with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

import anyio
from fastapi import Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serve_graph.api.sse import LONE
from serve_graph.errors import PayloadTooLargeError
from serve_graph.protocol.async_stream import wait_until_done

T = TypeVar("T")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, or PayloadTooLargeError as soon as it exceeds `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise PayloadTooLargeError(f"the request body exceeds {limit} bytes", code="payload_too_large")
        parts.append(part)
    return b"".join(parts)


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await `work` as long as the caller is there; cancel it and raise ClientDisconnect once they hang up.

    The body must have been read: what the server says next is that the caller left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_hung_up(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        with anyio.CancelScope(shield=True):
            await wait_until_done(leaving)
            await wait_until_done(working)


async def _hung_up(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Reply(JSONResponse):
    """A JSON reply, also of text that is no UTF-8: see `sse.event`."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors=LONE)


class EventStream(StreamingResponse):
    """Server-sent events. However the sending ends, `ending` runs: who leaves must not leave engines talking."""

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
