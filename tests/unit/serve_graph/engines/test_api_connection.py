"""Replies of hosted APIs that do not keep to HTTP, byte by byte over real sockets: each is taken, or ends the call."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from serve_graph.engines.api_connection import MOST_HEAD
from serve_graph.engines.http_client import BrokenReplyError, hosted_api_client
from tests.unit.serve_graph.engines.hosted.asked import LONG_S

OK = b"HTTP/1.1 200 OK\r\n"
IN_CHUNKS = OK + b"transfer-encoding: chunked\r\n\r\n"
ZIPPED = gzip.compress(b'{"a": 1}' * 50)
Packets = tuple[bytes, ...]


def sized(body: bytes, head: bytes = OK, length: int | None = None) -> bytes:
    return head + b"content-length: %d\r\n\r\n" % (len(body) if length is None else length) + body


NEXT = sized(b"next")


class Sender:
    """Sends the packets of a reply one by one, at its end hangs up where it `leaves`; later calls get NEXT."""

    def __init__(self, *packets: bytes, leaves: bool = False) -> None:
        self.packets, self.leaves = packets, leaves
        self.calls = self.connections = 0
        self.sent = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                await reader.readexactly(sum(int(line[15:]) for line in lines if line[:15] == b"content-length:"))
                self.calls += 1
                for n, packet in enumerate(self.packets if self.calls == 1 else (NEXT,)):
                    await asyncio.sleep(0.02 if n else 0)
                    writer.write(packet)
                    await writer.drain()
                self.sent.set()
                if self.leaves and self.calls == 1:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(sender: Sender) -> AsyncIterator[str]:
    server = await asyncio.start_server(sender.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr("serve_graph.engines.http_client.getproxies", dict)
    async with hosted_api_client() as made:
        yield made


async def read(client: httpx.AsyncClient, url: str, stream: bool) -> tuple[int, bytes]:
    async with asyncio.timeout(LONG_S):
        if not stream:
            reply = await client.post(url)
            return reply.status_code, reply.content
        async with client.stream("POST", url) as reply:
            return reply.status_code, b"".join([piece async for piece in reply.aiter_bytes()])


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


BROKEN: dict[str, tuple[Packets, str]] = {
    "a chunk's header that is no number": ((IN_CHUNKS, b"zz\r\n"), "chunk size"),
    "after a chunk that is one": ((IN_CHUNKS + b"2\r\n{}\r\n", b"zz\r\n"), "chunk size"),
    "in the head's packet": ((IN_CHUNKS + b"zz\r\n",), "chunk size"),
    "a chunk longer than it says": ((IN_CHUNKS, b"2\r\n{}xx\r\n0\r\n\r\n"), "chunk data"),
    "a chunk of less than nothing": ((IN_CHUNKS, b"-2\r\n{}\r\n0\r\n\r\n"), "chunk size"),
    "a chunk beyond all bounds": ((IN_CHUNKS, b"f" * 21 + b"\r\n{}\r\n"), "chunk size overflow"),
    "chunks in lines of line feeds": ((IN_CHUNKS, b"2\n{}\n0\n\n"), "chunk size"),
    "a trailer that is none": ((IN_CHUNKS, b"2\r\n{}\r\n0\r\nnonsense\r\n\r\n"), "header"),
    "lengths that differ": ((OK + b"content-length: 3\r\n" + sized(b"{}", b""),), "content-length"),
    "a length that is no number": ((OK + b"content-length: two\r\n\r\n{}",), "content-length"),
    "a length of less than nothing": ((OK + b"content-length: -2\r\n\r\n{}",), "content-length"),
    "a length beyond all bounds": ((OK + b"content-length: " + b"9" * 30 + b"\r\n\r\n{}",), "content-length"),
    "a header without a colon": ((sized(b"{}", OK + b"nonsense\r\n"),), "header"),
    "a header that is continued before it begins": ((sized(b"{}", OK + b" more\r\n"),), "header"),
    "a name of a header in other letters": ((sized(b"{}", OK + "é: x\r\n".encode()),), "header"),
    "a header that holds a zero": ((sized(b"{}", OK + b"x: a\0b\r\n"),), "header"),
    "headers without an end": ((OK + b"x: " + b"a" * MOST_HEAD,), "longer than"),
    "too many headers": ((OK + b"x: a\r\n" * MOST_HEAD,), "longer than"),
    "lines of carriage returns": ((OK + b"content-length: 2\r\r{}",), "LF"),
    "no status": ((b"HTTP/1.1 ok\r\n\r\n",), "status"),
    "no version": ((b"HTTP/x 200 OK\r\n\r\n",), "status line"),
    "another protocol": ((b"\x15\x03\x01\x00\x02\x02\x46",), "status line"),
    "another protocol that it switches to": ((b"HTTP/1.1 101 S\r\nupgrade: x\r\n\r\n", sized(b"{}")), "switches"),
}


@pytest.mark.parametrize(("packets", "why"), BROKEN.values(), ids=BROKEN)
async def test_a_reply_that_is_no_http_ends_its_call_at_once_and_says_why(
    client: httpx.AsyncClient, packets: Packets, why: str, stream: bool
) -> None:
    async with running(Sender(*packets)) as url:
        with pytest.raises(BrokenReplyError, match=rf"(?i){why}") as caught:
            await read(client, url, stream)
        assert "b'" not in str(caught.value), "its bytes are its own"
        assert await read(client, url, stream) == (200, b"next")


CUT: dict[str, tuple[Packets, type[Exception]]] = {
    "nothing": ((), httpx.TransportError),
    "half a status line": ((b"HTTP/1.1 20",), httpx.TransportError),
    "half a header": ((OK + b"content-le",), httpx.TransportError),
    "headers without an end": ((OK + b"content-length: 2\r\n",), httpx.TransportError),
    "a body shorter than its length": ((sized(b"{}", length=5),), httpx.TransportError),
    "no last chunk": ((IN_CHUNKS + b"2\r\n{}\r\n",), httpx.TransportError),
    "no end after the last chunk": ((IN_CHUNKS + b"2\r\n{}\r\n0\r\n",), httpx.TransportError),
    "what is not compressed and says so": ((sized(b"{}", OK + b"content-encoding: gzip\r\n"),), httpx.DecodingError),
    "a sum that is wrong": (
        (sized(ZIPPED[:-8] + b"12345678", OK + b"content-encoding: gzip\r\n"),), httpx.DecodingError,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("packets", "error"), CUT.values(), ids=CUT)
async def test_a_reply_that_is_cut_off_ends_its_call_at_once(
    client: httpx.AsyncClient, packets: Packets, error: type[Exception], stream: bool
) -> None:
    async with running(Sender(*packets, leaves=True)) as url:
        with pytest.raises(error) as caught:
            await read(client, url, stream)
        assert not isinstance(caught.value, httpx.TimeoutException)
        assert await read(client, url, stream) == (200, b"next")


TAKEN: dict[str, tuple[Packets, int, bytes]] = {
    "one length said twice": ((OK + b"content-length: 2\r\n" + sized(b"{}", b""),), 200, b"{}"),
    "one length said twice in a line": ((OK + b"Content-Length: 2, 2\r\n\r\n{}",), 200, b"{}"),
    "a length beside chunks": ((sized(b"", OK, 12)[:-2] + IN_CHUNKS[17:] + b"2\r\n{}\r\n0\r\n\r\n",), 200, b"{}"),
    "nothing, with a body": ((sized(b"{}", b"HTTP/1.1 204 No Content\r\n"),), 204, b""),
    "nothing, with a body in chunks": (
        (b"HTTP/1.1 204 No Content\r\n" + IN_CHUNKS[17:] + b"2\r\n{}\r\n0\r\n\r\n",), 204, b"",
    ),
    "nothing new, with a body": ((sized(b"{}", b"HTTP/1.1 304 Not Modified\r\n"),), 304, b""),
    "a thousand headers": ((sized(b"{}", OK + b"".join(b"x-%d: a\r\n" % n for n in range(1000))),), 200, b"{}"),
    "a header of 90 kB": ((sized(b"{}", OK + b"x: " + b"a" * 90_000 + b"\r\n"),), 200, b"{}"),
    "lines of line feeds": ((b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",), 200, b"{}"),
    "an empty line first": ((b"\r\n" + sized(b"{}"),), 200, b"{}"),
    "no reason": ((sized(b"{}", b"HTTP/1.1 200\r\n"),), 200, b"{}"),
    "a reason of odd letters": ((sized(b"{}", b"HTTP/1.1 200 \xe9t\xc3\xa9\t\x01\r\n"),), 200, b"{}"),
    "a header of odd letters": ((sized(b"{}", OK + b"x-who: \xe9t\xc3\xa9\x01\r\n"),), 200, b"{}"),
    "a header that is continued": ((sized(b"{}", OK + b"x: a\r\n b\r\n"),), 200, b"{}"),
    "news beforehand": ((b"HTTP/1.1 103 E\r\nlink: x\r\n\r\n" + b"HTTP/1.1 100 C\r\n\r\n", sized(b"{}")), 200, b"{}"),
    "much news beforehand": ((b"HTTP/1.1 103 E\r\n\r\n" * 3000 + sized(b"{}"),), 200, b"{}"),
    "more than its length": ((sized(b"{}more", length=2),), 200, b"{}"),
    "more than its length, later": ((sized(b"{", length=2), b"}more"), 200, b"{}"),
    "more than its last connection": ((sized(b"{}more", OK + b"connection: close\r\n", 2),), 200, b"{}"),
    "more than its last chunk": ((IN_CHUNKS + b"2\r\n{}\r\n0\r\n\r\nmore",), 200, b"{}"),
    "more than its last chunk, later": ((IN_CHUNKS + b"2\r\n{}\r\n", b"0\r\n\r\nmore"), 200, b"{}"),
    "a compressed body without its sum": ((sized(ZIPPED[:-4], OK + b"content-encoding: gzip\r\n"),), 200,
        b'{"a": 1}' * 50),
    "byte after byte": (tuple(bytes([byte]) for byte in sized(b"{}")), 200, b"{}"),
}  # fmt: skip


@pytest.mark.parametrize(("packets", "status", "body"), TAKEN.values(), ids=TAKEN)
async def test_a_reply_that_says_what_it_means_is_taken(
    client: httpx.AsyncClient, packets: Packets, status: int, body: bytes, stream: bool
) -> None:
    async with running(Sender(*packets)) as url:
        assert await read(client, url, stream) == (status, body)
        assert await read(client, url, stream) == (200, b"next")


@pytest.mark.parametrize(
    "packets",
    [
        pytest.param((sized(b"mine") + sized(b"another's"),), id="with the reply"),
        pytest.param((sized(b"m", length=4), b"ine" + sized(b"another's")), id="with its end"),
        pytest.param((IN_CHUNKS + b"4\r\nmine\r\n", b"0\r\n\r\n" + sized(b"another's")), id="with its last chunk"),
        pytest.param((sized(b"mine"), sized(b"another's")), id="later"),
        pytest.param((sized(b"m", length=4), b"ineHTTP/1.1 2"), id="begun with its end"),
        pytest.param((IN_CHUNKS + b"4\r\nmine\r\n", b"0\r\n\r\nHTTP/1.1 200 OK\r\nx"), id="begun with its last chunk"),
        pytest.param((sized(b"mine"), b"HTTP/1.1 408 Request Timeout\r\n\r\n"), id="as the connection is left"),
    ],
)
async def test_a_reply_that_nobody_asked_for_is_not_the_next_calls(
    client: httpx.AsyncClient, packets: Packets, stream: bool
) -> None:
    sender = Sender(*packets)
    async with running(sender) as url:
        assert await read(client, url, stream) == (200, b"mine")
        await asyncio.wait_for(sender.sent.wait(), LONG_S)
        assert await read(client, url, stream) == (200, b"next")
    assert sender.connections == 2


@pytest.mark.parametrize("begun", [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nx"])
async def test_what_is_begun_after_a_long_reply_takes_none_of_it_from_a_slow_reader(
    client: httpx.AsyncClient, begun: bytes
) -> None:
    body, found = b"a" * 300_000, b""
    async with running(Sender(sized(body) + begun)) as url, client.stream("POST", url) as reply:
        async for piece in reply.aiter_raw():
            found += piece
            await asyncio.sleep(0.01)
    assert found == body


async def test_a_connection_whose_reply_was_odd_and_whole_is_used_again(client: httpx.AsyncClient) -> None:
    sender = Sender(OK + b"content-length: 2\r\n" + sized(b"{}", b""))
    async with running(sender) as url:
        assert [await read(client, url, False) for _ in range(2)] == [(200, b"{}"), (200, b"next")]
    assert sender.connections == 1


async def test_what_came_before_a_fault_is_read(client: httpx.AsyncClient) -> None:
    found: list[bytes] = []

    async def pieces(url: str) -> None:
        async with asyncio.timeout(LONG_S), client.stream("POST", url) as reply:
            async for piece in reply.aiter_bytes():
                found.append(piece)  # noqa: PERF401 (it is looked at after the error)

    async with running(Sender(IN_CHUNKS, b"2\r\n{}\r\nzz\r\n")) as url:
        with pytest.raises(BrokenReplyError):
            await pieces(url)
    assert found == [b"{}"]


async def test_cookies_of_a_reply_are_not_kept(client: httpx.AsyncClient) -> None:
    """What is no ASCII made every later call of the deployment fail; and they are another caller's."""
    async with running(Sender(sized(b"{}", OK + b"set-cookie: who=\xff\r\n"))) as url:
        assert [await read(client, url, False) for _ in range(2)] == [(200, b"{}"), (200, b"next")]
    assert not client.cookies
