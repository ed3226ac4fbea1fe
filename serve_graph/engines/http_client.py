"""The connections to hosted APIs: an httpx client that sends over aiohttp, which takes a third of the processor time.

httpx's own transport looks at every idle connection for each request, so that a call costs the more the more are open;
aiohttp hears of a closed one. Where the environment names a proxy, httpx's own transport stays, which knows its kinds.
What aiohttp raises becomes the httpx exception of the same meaning (docs/decisions/serving/0025).
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from urllib.request import getproxies

import aiohttp
import httpx
from yarl import URL

from serve_graph.engines.api_connection import MOST_HEAD, ApiConnector, BrokenBodyError, said_by

MOST_CONNECTIONS, MOST_IDLE = 1000, 100
IDLE_KEPT_S = 4.0
"""Seconds for which an idle connection is kept: many servers close theirs after five, and a request that meets the
closing fails. httpx keeps them for five.
"""
HEARING_TURNS = 2
MOST_REPLY_BYTES = 128 * 2**20
"""The longest reply that is read whole: two thousand embeddings of three thousand numbers, written out, have 80 MB."""
WRITTEN_AT_ONCE = 2**20
"""Bytes of a body up to which it is written at once, in aiohttp's own words; longer ones are read piece by piece."""


def hosted_api_client() -> httpx.AsyncClient:
    """Make the client of one API: no time limits, as those of whole calls hold, no redirects, and no cookies.

    Prompts and keys go to the configured address alone, wherever a reply says they should go; what one call's reply
    sets is not sent with another caller's.
    """
    limits = httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_IDLE)
    # Any variable that ends in _PROXY counts for Python as a proxy's, RAY_SERVE_ENABLE_HA_PROXY for one.
    transport = None if getproxies().keys() & {"http", "https", "all"} else AiohttpTransport()
    client = httpx.AsyncClient(timeout=None, limits=limits, follow_redirects=False, transport=transport)
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return client


class BrokenReplyError(httpx.RemoteProtocolError):
    """A reply that is no HTTP; says why, without its bytes."""


class LongReplyError(httpx.RemoteProtocolError):
    """A reply that is longer than is read whole."""


async def send_whole(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Send a request and read its reply; raises LongReplyError where that has more than MOST_REPLY_BYTES."""
    response = await client.send(request, stream=True)
    async with aclosing(response):
        await read_whole(response)
    return response


async def read_whole(response: httpx.Response) -> None:
    """Read a reply's body, unpacked; raises LongReplyError where it has more than MOST_REPLY_BYTES."""
    pieces, size = list[bytes](), 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > MOST_REPLY_BYTES:
            raise LongReplyError(f"longer than {MOST_REPLY_BYTES >> 20} MiB")
    response._content = b"".join(pieces)  # as its own `aread`


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Send httpx's requests over an aiohttp session, which is begun with the first one."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ssl = httpx.create_ssl_context()  # what is wrong with certificates is known at the start
        self._ssl.set_alpn_protocols(["http/1.1"])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose body is in memory; the response's is read as it comes.

        Of a call's own time limits, those of connecting (a wait for a free connection included) and of reading hold.
        Raises httpx.TransportError where there is no connection, or one fails or says no HTTP.
        """
        if self._session is None or self._loop is not asyncio.get_running_loop():
            self._forget()  # connections are of the event loop that made them
            self._session, self._loop = _session(self._ssl), asyncio.get_running_loop()
        content = await request.aread()
        # Of connections that servers closed while the event loop was busy it hears in its next turn, and acts in the
        # one after it; httpx's own transport looks at each socket.
        for _ in range(HEARING_TURNS):
            await asyncio.sleep(0)
        url = request.url.copy_with(userinfo=b"") if request.url.userinfo else request.url  # a header says it already
        limits = request.extensions.get("timeout") or {}
        with meant_by_httpx():
            response = await self._session.request(
                request.method,
                URL(str(url), encoded=True),
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                data=io.BytesIO(content) if len(content) > WRITTEN_AT_ONCE else content or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=limits.get("connect"), sock_read=limits.get("read")),
            )
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def __del__(self) -> None:
        """Close the connections of a client that nobody closed, where no event loop can be waited for."""
        self._forget()

    def _forget(self) -> None:
        if self._session is None or (connector := self._session.connector) is None:
            return
        self._session.detach()
        self._session = None
        closing = connector.close().__await__()
        with suppress(StopIteration, RuntimeError):  # it closes them at once, and then waits until they have ended
            next(closing)
        closing.close()


class _Body(httpx.AsyncByteStream):
    """A response's bytes as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        with meant_by_httpx():
            try:
                async for piece in content.iter_any():
                    yield piece
            except aiohttp.ClientError:
                if content._buffer:  # what came before the fault; aiohttp keeps it to itself
                    yield b"".join(content._buffer)[content._buffer_offset :]
                raise

    async def aclose(self) -> None:
        """Keep the connection of a body that was read to its end; close another's, where more would come."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


@contextmanager
def meant_by_httpx() -> Iterator[None]:
    """Raise what aiohttp raises as the httpx exception of the same meaning."""
    try:
        yield
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error)) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(str(error)) from error
    except aiohttp.ServerTimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(str(error)) from error
    except (BrokenBodyError, aiohttp.ClientResponseError) as error:
        raise BrokenReplyError(said_by(error)) from error
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.NetworkError(str(error)) from error
    except ValueError as error:  # a header that no HTTP can carry
        raise httpx.LocalProtocolError(str(error)) from error


def _session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = ApiConnector(limit=MOST_CONNECTIONS, keepalive_timeout=IDLE_KEPT_S, ssl=tls, ttl_dns_cache=10)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
        auto_decompress=False,
        max_line_size=MOST_HEAD,
        max_field_size=MOST_HEAD,
    )
