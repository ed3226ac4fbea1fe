"""Take a burst of new connections at once, however busy the ingress is.

libuv, and uvloop on it, accepts one connection in a turn of the event loop (libuv/libuv#3696). A turn is as long
as all that requests have to do in it, so that of 256 callers who came at once two hundred waited for two seconds and
more, while those who were in already were answered again and again.
"""

from __future__ import annotations

import functools
import resource
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvicorn

Startup = Callable[[uvicorn.Server, list[socket.socket] | None], Coroutine[Any, Any, None]]
LISTENERS = 64
"""Connections that are accepted in a turn: each copy of a listening socket is polled, and accepts, by itself."""
MOST_OF_FILES = 1 / 16
"""The part of the files that a process may have open that the copies may be, where it may have few."""


def accept_in_bursts() -> None:
    """Have the uvicorn servers that are started in this process accept so many connections in a turn.

    Ray Serve starts the server of a replica's HTTP application, after the replica was built, and gives it one socket.
    """
    startup = uvicorn.Server.startup
    if not getattr(startup, "accepts_in_bursts", False):
        uvicorn.Server.startup = _with_copies(startup)  # type: ignore[assignment]


def _with_copies(startup: Startup) -> Startup:
    @functools.wraps(startup)
    async def with_copies(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        if sockets is not None:
            sockets = [*sockets, *(each.dup() for each in sockets for _ in range(_copies()))]
        await startup(server, sockets)

    with_copies.accepts_in_bursts = True  # type: ignore[attr-defined]
    return with_copies


def _copies() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LISTENERS - 1 if files < 0 else min(LISTENERS, int(files * MOST_OF_FILES)) - 1
