"""A burst of new connections at a real uvicorn on uvloop, as Ray Serve runs the ingress."""

import asyncio
import errno
import inspect
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from serve_graph.cluster.load.new_connections import accept_in_bursts

TURNS = 10


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
def as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn without what an ingress that was built in this process has changed, and as it was after the test."""
    monkeypatch.setattr(uvicorn.Server, "startup", inspect.unwrap(uvicorn.Server.startup))


@pytest.fixture
def bursts(as_it_comes: None) -> None:
    accept_in_bursts()


async def started(sock: socket.socket) -> uvicorn.Server:
    config = uvicorn.Config(answer, lifespan="off", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup([sock])
    return server


def accepted(sock: socket.socket, burst: int) -> int:
    """How many of a burst of connections a server has taken after a few turns of its loop."""

    async def run() -> int:
        server = await started(sock)
        callers = [socket.create_connection(sock.getsockname()) for _ in range(burst)]
        for _ in range(TURNS):
            await asyncio.sleep(0)
        taken = len(server.server_state.connections)
        for each in callers:
            each.close()
        await server.shutdown([sock])
        return taken

    with closing(uvloop.new_event_loop()) as loop:
        return loop.run_until_complete(run())


@pytest.mark.usefixtures("bursts")
def test_a_burst_is_taken_within_a_few_turns(listening: socket.socket) -> None:
    assert accepted(listening, 100) == 100


@pytest.mark.usefixtures("as_it_comes")
def test_a_server_as_it_comes_takes_one_connection_in_a_turn(listening: socket.socket) -> None:
    assert accepted(listening, 100) <= TURNS  # libuv accepts in a loop again: the copies are of no use any more


@pytest.mark.usefixtures("bursts")
def test_it_answers_and_nobody_listens_once_it_has_stopped(listening: socket.socket) -> None:
    place = listening.getsockname()

    async def run() -> bytes:
        server = await started(listening)
        reader, writer = await asyncio.open_connection(*place)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        said = await reader.read()
        writer.close()
        await server.shutdown([listening])
        return said

    with closing(uvloop.new_event_loop()) as loop:
        assert loop.run_until_complete(run()).endswith(b"ok")
        loop.run_until_complete(asyncio.sleep(0))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)


@pytest.mark.parametrize(("loops", "listeners"), [(uvloop.new_event_loop, 16), (asyncio.new_event_loop, 1)])
def test_each_process_asks_once_and_asyncio_which_accepts_all_needs_no_copies(
    bursts: None,
    listening: socket.socket,
    loops: Callable[[], asyncio.AbstractEventLoop],
    listeners: int,
) -> None:
    accept_in_bursts()
    with closing(loops()) as loop:
        assert loop.run_until_complete(listeners_of(listening)) == listeners


@pytest.mark.usefixtures("bursts")
def test_a_process_that_may_open_no_more_files_listens_all_the_same(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(range(3))

    def dup(sock: socket.socket) -> socket.socket:
        if next(left, None) is None:
            raise OSError(errno.EMFILE, "Too many open files")
        return socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))

    monkeypatch.setattr(socket.socket, "dup", dup)
    with closing(uvloop.new_event_loop()) as loop:
        assert loop.run_until_complete(listeners_of(listening)) == 1 + 3


async def listeners_of(sock: socket.socket) -> int:
    server = await started(sock)
    await server.shutdown([sock])
    return len(server.servers)
