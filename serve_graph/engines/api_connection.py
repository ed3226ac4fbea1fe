"""A connection to a hosted API: aiohttp's, with what its parser leaves out.

* Whoever reads a body hears at once of what breaks it; aiohttp closes the connection and tells nobody.
* A reply that is whole is had, whatever follows it. What nobody asked for ends the connection: aiohttp keeps a reply
  that comes too late, or twice, and gives it to the next call as its own.
* Replies that other clients take are taken: a length that is said twice, one beside chunks, many and long headers.

What is still no HTTP raises aiohttp's exceptions, whose first words say why.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MOST_HEAD = 256 * 1024
"""Bytes of a reply's status line and headers; httpx takes 100 kB."""
SHORTEST_HEADER = 4
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_LONE_CR = re.compile(rb"\r[^\n]")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([^\r\n]*?)[ \t]*\r?\n")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:[^\r\n]*\bchunked[ \t]*\r?$")


class BrokenBodyError(aiohttp.ClientPayloadError):
    """A body that does not keep to HTTP; says what is wrong with it."""


class ApiConnector(aiohttp.TCPConnector):
    """Makes such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(ApiConnection, loop=self._loop))


class ApiConnection(ResponseHandler):
    """One connection, for one call at a time."""

    _asked = False
    """Whether a call waits for the head of its reply."""
    _head = b""

    def set_response_params(self, **params: Any) -> None:
        """Begin with a call."""
        self._asked, self._head = True, b""
        if "max_headers" in params:  # aiohttp has bounded their number since 3.14
            params["max_headers"] = MOST_HEAD // SHORTEST_HEADER
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Take bytes: a head as a whole and by itself, a body as it comes."""
        if not data:  # the reader goes on, and the parser with what it held back
            super().data_received(data)
        while self._asked and data:
            data = self._after_head(data)
        if data and (self._payload is None or self._payload.is_eof()):
            self._hang_up()
        elif data:
            super().data_received(data)
            if self._payload is not None and self._payload.is_eof() and self._began_another():
                self._hang_up()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Hand the head of a reply to the call that waits for one."""
        status = data[0].code
        if not self._asked:
            self._hang_up()
        elif status == 101:
            self._asked = False
            self._hang_up(HttpProcessingError(code=status, message="It switches protocols, unasked"))
        else:
            self._asked = 100 <= status < 200
            super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Tell whoever waits for a reply that there will be none, and whoever reads one that the rest is no HTTP."""
        super().set_exception(exc, *(() if exc_cause is None else (exc_cause,)))
        body = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof() and not body.exception():
            body.set_exception(BrokenBodyError(said_by(exc)))

    def _after_head(self, data: bytes) -> bytes:
        """Take a head to its end, or all there is of it; returns what comes after it."""
        before = max(0, len(self._head) - 3)
        head = (self._head + data).lstrip(b"\r\n")
        end = _BLANK_LINE.search(head, before)
        if end is None and len(head) <= MOST_HEAD and _may_be_head(head, before):
            self._head = head
            return b""
        self._head = b""
        if end is None or end.end() > MOST_HEAD:
            if _may_be_head(head, 0):
                self._hang_up(HttpProcessingError(message=f"Its headers are longer than {MOST_HEAD} bytes"))
            else:
                super().data_received(head)  # which says why that is none
            return b""
        head, rest = head[: end.end()], head[end.end() :]
        if _LENGTH.search(head) and _CHUNKED.search(head):
            self.force_close()
        super().data_received(plain_head(head))
        return rest

    def _began_another(self) -> bool:
        """Whether a part of another head came with a body's end: the parser keeps that, and says so at its own end.

        Asked a second time, as the connection ends, it would fail the body that is whole.
        """
        parser, self._parser = self._parser, None
        try:
            return parser is not None and parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 (a part that is none of a head)
            return True

    def _hang_up(self, error: HttpProcessingError | None = None) -> None:
        self.force_close()
        if error is not None:
            self.set_exception(error)
        if self.transport is not None:
            self.transport.close()


def plain_head(head: bytes) -> bytes:
    """Return a head that says its body's length in one way.

    Where the body comes in chunks they count, as HTTP has it (RFC 9112, 6.3); of lengths that are all the same, one is
    left. Lengths that differ stay, and are refused.
    """
    found = _LENGTH.findall(head)
    if not found:
        return head
    if _CHUNKED.search(head):
        return _LENGTH.sub(b"", head)
    lengths = {length.strip() for line in found for length in line.split(b",")}
    if len(lengths) > 1 or found == list(lengths):
        return head
    status, newline, headers = _LENGTH.sub(b"", head).partition(b"\n")
    return b"".join((status, newline, b"content-length: ", *lengths, b"\r\n", headers))


def said_by(error: BaseException) -> str:
    """Return what aiohttp says is wrong with a reply, without the bytes of it."""
    text = error.message if isinstance(error, HttpProcessingError | aiohttp.ClientResponseError) else str(error)
    return " ".join(re.split(r"b['\"]", text)[0].split()).rstrip(" :") or type(error).__name__


def _may_be_head(head: bytes, start: int) -> bool:
    return head[:5] == b"HTTP/"[: len(head)] and not _LONE_CR.search(head, start)
