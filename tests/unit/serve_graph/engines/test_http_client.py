"""The connections to hosted APIs, over real sockets: what httpx's own transport does, ours does."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from serve_graph.engines.http_client import WRITTEN_AT_ONCE, AiohttpTransport, hosted_api_client

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Api:
    """An API that answers with bytes; `connections` and `requests` as they came."""

    def __init__(self, *answers: Answer | bytes) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.requests: list[bytes] = []
        self.hung_up = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
                )
                body = await reader.readexactly(length)
                self.requests.append(head + body)
                answer = self.answers.pop(0)
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(reader, writer, body)
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[str]:
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat"
    finally:
        server.close()


@pytest.fixture(params=["ours", "httpx"])
async def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """Ours, and the one that it stands for: both do the same."""
    monkeypatch.setattr("serve_graph.engines.http_client.getproxies", dict)
    made = hosted_api_client() if request.param == "ours" else httpx.AsyncClient(timeout=None)
    assert isinstance(made._transport, AiohttpTransport) == (request.param == "ours")
    async with made:
        yield made


async def test_a_whole_reply_is_had_and_its_connection_is_used_again(client: httpx.AsyncClient) -> None:
    api = Api(WHOLE, WHOLE)
    async with running(api) as url:
        for _ in range(2):
            reply = await client.post(url, content=b'{"a": 1}', headers={"Authorization": "Bearer k"})
            assert (reply.status_code, reply.json()) == (200, {})
    assert api.connections == 1
    head = api.requests[0].lower()
    assert head.startswith(b"post /v1/chat http/1.1\r\n")
    assert head.endswith(b'\r\n\r\n{"a": 1}')
    assert head.count(b"authorization: bearer k\r\n") == head.count(b"content-length: 8\r\n") == 1
    assert head.count(b"\r\nhost: 127.0.0.1") == head.count(b"\r\nuser-agent: python-httpx") == 1


async def test_a_compressed_reply_is_read(client: httpx.AsyncClient) -> None:
    body = gzip.compress(b'{"text": "hello"}')
    head = OK + f"content-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    async with running(Api(head + body)) as url:
        assert (await client.post(url)).json() == {"text": "hello"}


async def test_a_long_body_arrives_whole(client: httpx.AsyncClient) -> None:
    body = b"x" * (3 * WRITTEN_AT_ONCE + 1)
    api = Api(WHOLE)
    async with running(api) as url:
        await client.post(url, content=body)
    assert api.requests[0].endswith(b"\r\n\r\n" + body)


async def test_what_a_stream_says_is_had_as_it_comes(client: httpx.AsyncClient) -> None:
    heard = asyncio.Event()

    async def slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
        writer.write(OK + b"transfer-encoding: chunked\r\n\r\n5\r\none\n\n\r\n")
        await heard.wait()
        writer.write(b"5\r\ntwo\n\n\r\n0\r\n\r\n")
        await writer.drain()

    async with running(Api(slowly)) as url, client.stream("POST", url) as reply:
        pieces = reply.aiter_bytes()
        assert await anext(pieces) == b"one\n\n"
        heard.set()
        assert [piece async for piece in pieces] == [b"two\n\n"]


@pytest.mark.parametrize("begins", [b"", OK + b"content-length: 2\r\n\r\n{"], ids=["nothing", "a part"])
async def test_a_calls_own_time_limit_ends_it_where_its_reply_does_not_come(
    client: httpx.AsyncClient, begins: bytes
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(begins)
        await reader.read()

    async with running(Api(silent)) as url, asyncio.timeout(10):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(url, content=b"{}", timeout=0.1)


async def test_whoever_leaves_a_stream_early_closes_its_connection(client: httpx.AsyncClient) -> None:
    api = Api(WHOLE)

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(OK + b"transfer-encoding: chunked\r\n\r\n5\r\none\n\n\r\n")
        await reader.read()
        api.hung_up.set()

    api.answers.insert(0, endless)
    async with running(api) as url:
        async with client.stream("POST", url) as reply:
            assert await anext(reply.aiter_bytes()) == b"one\n\n"
        await asyncio.wait_for(api.hung_up.wait(), 10)
        assert (await client.post(url)).status_code == 200
    assert api.connections == 2


async def test_a_call_that_is_cancelled_hangs_up(client: httpx.AsyncClient) -> None:
    api = Api()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: bytes) -> None:
        await reader.read()
        api.hung_up.set()

    api.answers.append(silent)
    async with running(api) as url:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.post(url)
        await asyncio.wait_for(api.hung_up.wait(), 10)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"nonsense\r\n\r\n", id="no HTTP"),
        pytest.param(OK + b"content-length: 20\r\n\r\n{}", id="half a body"),
        pytest.param(OK + b"transfer-encoding: chunked\r\n\r\n5\r\non", id="half a chunk"),
    ],
)
async def test_a_connection_that_breaks_is_a_transport_error(client: httpx.AsyncClient, answer: bytes) -> None:
    async def broken(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
        writer.write(answer)
        await writer.drain()

    async with running(Api(broken)) as url:
        with pytest.raises(httpx.TransportError) as caught:
            await client.post(url)
    assert not isinstance(caught.value, httpx.TimeoutException)


async def test_nobody_there_is_a_connect_error(client: httpx.AsyncClient) -> None:
    async with running(Api()) as url:
        pass
    with pytest.raises(httpx.ConnectError):
        await client.post(url)


async def test_a_name_that_nobody_has_is_a_connect_error(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError):
        await client.post("http://nobody.invalid/v1")


async def test_redirects_are_not_followed_and_no_password_of_the_machine_is_sent(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    api = Api(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
    async with running(api) as url:
        assert (await client.post(url)).status_code == 307
    assert b"authorization" not in api.requests[0].lower()


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [("HTTPS_PROXY", False), ("http_proxy", False), ("ALL_PROXY", False), ("RAY_SERVE_ENABLE_HA_PROXY", True)],
)
def test_a_proxy_of_the_environment_is_httpxs_matter(
    name: str, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in [each for each in os.environ if each.lower().endswith("_proxy")]:
        monkeypatch.delenv(other)
    monkeypatch.setenv(name, "http://proxy.example:3128")
    assert isinstance(hosted_api_client()._transport, AiohttpTransport) == is_ours


async def test_a_connection_that_its_server_closed_while_the_event_loop_was_busy_is_not_used(
    client: httpx.AsyncClient,
) -> None:
    """A server closes its idle connections by a clock of its own, and a request on a closed one would fail."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connection.recv(65536)
                connection.sendall(WHOLE)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        for _ in range(3):
            assert (await client.post(url, content=b"{}")).status_code == 200
            time.sleep(0.1)


async def test_a_name_and_password_of_an_address_are_sent_as_a_header(client: httpx.AsyncClient) -> None:
    api = Api(WHOLE)
    async with running(api) as url:
        named = url.replace("//", "//me:secret@")
        assert (await client.post(named, headers={"authorization": "Bearer k"})).status_code == 200
    assert b"\r\nauthorization: basic bwu6c2vjcmv0\r\n" in api.requests[0].lower()
    assert b"me:secret" not in api.requests[0]


async def test_a_header_that_no_http_carries_is_a_transport_error(client: httpx.AsyncClient) -> None:
    async with running(Api()) as url:
        with pytest.raises(httpx.TransportError):
            await client.post(url, headers={"authorization": "Bearer a\nb"})


def test_a_second_event_loop_has_connections_of_its_own() -> None:
    async def ask(client: httpx.AsyncClient) -> int:
        async with running(Api(WHOLE)) as url:
            return (await client.post(url)).status_code

    made = httpx.AsyncClient(transport=AiohttpTransport(), timeout=None)
    assert [asyncio.run(ask(made)) for _ in range(2)] == [200, 200]


def test_certificates_that_are_not_there_are_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_graph.engines.http_client.getproxies", dict)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(FileNotFoundError):
        hosted_api_client()


async def test_a_client_that_nobody_closed_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Api(WHOLE)) as url:
        made = httpx.AsyncClient(transport=AiohttpTransport(), timeout=None)
        await made.post(url)
    del made
    await asyncio.sleep(0)
    assert not caplog.records
