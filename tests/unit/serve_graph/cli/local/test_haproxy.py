"""Against the real HAProxy, with the options that Ray Serve gives it; skipped where its binary does not run."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from serve_graph.cli.local.haproxy import OVERRIDE, usable_haproxy, without_splicing

BARE = usable_haproxy()
pytestmark = pytest.mark.skipif(BARE is None, reason="the HAProxy binary does not run here")
CONFIG = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option abortonclose
    option splice-request
    option splice-response
frontend callers
    bind fd@{front}
    default_backend ingress
backend ingress
    http-reuse always
    server one 127.0.0.1:{back}
"""


@asynccontextmanager
async def in_front_of_silence(binary: Path, folder: Path) -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Event]]:
    """HAProxy before a server that reads and never answers: its port, whether the server has the whole request, and
    whether its caller has left.
    """
    asked, left = asyncio.Event(), asyncio.Event()

    async def read_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            read = b""
            while part := await reader.read(65536):
                read += part
                if read.endswith(b"hello"):
                    asked.set()
        left.set()
        writer.close()

    with socket.socket() as front:  # bound here and handed down: no port that was free a moment ago
        front.bind(("127.0.0.1", 0))
        port = front.getsockname()[1]
        server = await asyncio.start_server(read_on, "127.0.0.1", 0)
        back = server.sockets[0].getsockname()[1]
        (folder / "haproxy.cfg").write_text(CONFIG.format(front=front.fileno(), back=back))
        process = await asyncio.create_subprocess_exec(
            binary, "-db", "-f", folder / "haproxy.cfg", pass_fds=[front.fileno()]
        )
    async with server:
        try:
            for _ in range(3000):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                await asyncio.sleep(0.02)
            yield port, asked, left
        finally:
            process.kill()
            await process.wait()
            await asyncio.wait_for(left.wait(), 60)


async def noticed(
    port: int, asked: asyncio.Event, left: asyncio.Event, pause_s: float, within_s: float = 60.0
) -> bool:
    """Send headers, then (after a pause) the body, hang up; whether the server, which has it all, learns of it."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(pause_s)
    writer.write(b"hello")
    await writer.drain()
    await asyncio.wait_for(asked.wait(), 60)
    writer.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(left.wait(), within_s)
    return left.is_set()


@pytest.mark.parametrize("pause_s", [0.0, 0.1], ids=["at once", "body later"])
async def test_a_caller_who_hangs_up_is_noticed_behind_it(tmp_path: Path, pause_s: float) -> None:
    assert BARE is not None
    async with in_front_of_silence(without_splicing(BARE, tmp_path), tmp_path) as (port, asked, left):
        assert await noticed(port, asked, left, pause_s)


async def test_with_splicing_they_are_not(tmp_path: Path) -> None:
    """Why the wrapper is there. Skipped once this HAProxy needs none."""
    assert BARE is not None
    async with in_front_of_silence(BARE, tmp_path) as (port, asked, left):
        if await noticed(port, asked, left, 0.1, within_s=0.7):
            pytest.skip("this HAProxy notices without our help")


def test_the_wrapper_passes_everything_on(tmp_path: Path) -> None:
    assert BARE is not None
    folder = tmp_path / "with 'quotes' and spaces"
    folder.mkdir()
    wrapper = without_splicing(BARE, folder)
    assert wrapper != BARE
    said = [subprocess.run([program, "-vv"], capture_output=True, check=True).stdout for program in (BARE, wrapper)]
    assert said[0] == said[1]


def test_statistics_and_metrics_listen_on_loopback_alone(tmp_path: Path) -> None:
    """In whatever file HAProxy is started with: Ray Serve puts it into a folder of its own."""
    config = tmp_path / "of a 'node'" / "haproxy.cfg"
    config.parent.mkdir()
    config.write_text("  bind *:901\n    bind :902\n  bind 0.0.0.0:8000\n  bind *:9011 proto h2\n")
    program = without_splicing(Path("/bin/true"), tmp_path, (901, 902))
    subprocess.run([program, "-db", "-f", str(config), "-x", "admin.sock"], check=True)
    lines = [line.strip() for line in config.read_text().splitlines()]
    assert lines == ["bind 127.0.0.1:901", "bind 127.0.0.1:902", "bind 0.0.0.0:8000", "bind *:9011 proto h2"]


async def test_a_head_that_does_not_arrive_is_a_408_and_closed(tmp_path: Path) -> None:
    assert BARE is not None
    program = without_splicing(BARE, tmp_path, head_timeout_s=0.2)
    async with in_front_of_silence(program, tmp_path) as (port, _, left):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n")
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        left.set()  # no server was asked


def test_time_outs_are_put_in_once_however_often_it_starts(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("global\ndefaults\n    mode http\n")
    program = without_splicing(Path("/bin/true"), tmp_path)
    for _ in range(2):
        subprocess.run([program, "-f", str(config)], check=True)
    times = "    timeout http-request 10000ms\n    timeout http-keep-alive 75s\n"
    assert config.read_text() == f"global\ndefaults\n{times}    mode http\n"


def test_where_no_wrapper_can_run_the_binary_is_used_as_it_is(tmp_path: Path) -> None:
    assert without_splicing(Path("/bin/false"), tmp_path) == Path("/bin/false")


def test_an_operators_own_binary_is_the_one_that_is_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BARE is not None
    own = tmp_path / "own"
    own.symlink_to(BARE)
    monkeypatch.setenv(OVERRIDE, str(own))
    assert usable_haproxy() == own
    monkeypatch.setenv(OVERRIDE, os.devnull)
    assert usable_haproxy() is None
