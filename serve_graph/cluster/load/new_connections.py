"""Take a burst of new connections at once, however busy the ingress is.

libuv, and uvloop on it, accepts one connection in a turn of the event loop (libuv/libuv#3696). A turn is as long
as all that requests have to do in it, so that of 256 callers who came at once two hundred waited for two seconds and
more, while those who were in already were answered again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import uvicorn

Startup = Callable[[uvicorn.Server, list[socket.socket] | None], Coroutine[Any, Any, None]]
LISTENERS = 16
"""Connections that are accepted in a turn: each copy of a listening socket is polled, and accepts, by itself.

All of them wake for a connection that comes alone: with 64 it takes more than twice the processor time, with 16 some
tenth more.
"""


def accept_in_bursts() -> None:
    """Have the uvicorn servers that are started in this process accept so many connections in a turn, on uvloop.

    Ray Serve starts the server of a replica's HTTP application, after the replica was built, and gives it one socket.
    asyncio's own event loop accepts all that wait.
    """
    startup = uvicorn.Server.startup
    if not getattr(startup, "accepts_in_bursts", False):
        uvicorn.Server.startup = _with_copies(startup)  # type: ignore[assignment]


def _with_copies(startup: Startup) -> Startup:
    @functools.wraps(startup)
    async def with_copies(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        if sockets is not None and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
            sockets = [*sockets, *_copies(sockets)]
        await startup(server, sockets)

    with_copies.accepts_in_bursts = True  # type: ignore[attr-defined]
    return with_copies


def _copies(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """Copy each socket as often as is wanted, or as there are files that the process may still open."""
    made = list[socket.socket]()
    with contextlib.suppress(OSError):
        for each in sockets:
            made += (each.dup() for _ in range(LISTENERS - 1))
    return made
