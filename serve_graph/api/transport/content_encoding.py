"""Undo the content-encoding of request bodies, within a bound on what they become.

gzip and deflate are the standard library's. `br` and `zstd` are understood where a library for them is installed:
`brotli` (1.2 or later, which can stop at a bound) and Python 3.14's `compression.zstd` or its backport.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Protocol

from serve_graph.errors import PayloadTooLargeError, RequestError, UnsupportedEncodingError

MAX_CODINGS = 4  # a list of them is undone one by one
MAX_MEMBERS = 4096  # of one gzip or zstd body: tools that work in parallel write one for every 64 KiB or so
PIECE = 1 << 16


class Decoder(Protocol):
    """One member of a compressed body; `zlib`'s and `compression.zstd`'s objects are such."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def codings_of(values: list[str]) -> tuple[str, ...]:
    """Return the codings that `content-encoding` headers name, in the order in which they were applied.

    Raises UnsupportedEncodingError for an unknown one, or more than MAX_CODINGS.
    """
    named = (coding.strip().lower() for value in values for coding in value.split(","))
    codings = tuple(coding for coding in named if coding not in ("", "identity"))
    known = understood()
    unknown = next((coding for coding in codings if coding not in known), None)
    if unknown is not None or len(codings) > MAX_CODINGS:
        which = f"{unknown[:40]!r}" if unknown is not None else f"with more than {MAX_CODINGS} codings"
        message = f"the content-encoding {which} is not supported; supported: {', '.join(offered())}"
        raise UnsupportedEncodingError(message, "content-encoding", "unsupported_content_encoding")
    return codings


def decoded(body: bytes, codings: tuple[str, ...], limit: int) -> bytes:
    """Undo the codings, the last one first.

    Raises PayloadTooLargeError as soon as a result exceeds `limit` bytes, RequestError for a body that is corrupt, cut
    short or followed by anything else.
    """
    for coding in reversed(codings):
        try:
            body = understood()[coding](body, limit)
        except PayloadTooLargeError:
            raise
        except Exception as error:  # each library has errors of its own
            message = f"the request body is not valid {coding} ({type(error).__name__})"
            raise RequestError(message, "content-encoding", "invalid_content_encoding") from error
    return body


def offered() -> tuple[str, ...]:
    """Return the codings for an `Accept-Encoding` header."""
    return tuple(coding for coding in understood() if not coding.startswith("x-"))


def too_large(limit: int) -> PayloadTooLargeError:
    """Return the exception for a body of more than `limit` bytes."""
    return PayloadTooLargeError(f"the request body exceeds {limit} bytes", code="payload_too_large")


def _gzip(body: bytes, limit: int) -> bytes:
    return _members(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), body, limit)


def _deflate(body: bytes, limit: int) -> bytes:
    """RFC 9110's deflate has zlib's header; some clients send the bare format."""
    is_zlib = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0
    return _members(lambda: zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS), body, limit, 1)


def _members(start: Callable[[], Decoder], body: bytes, limit: int, most: int = MAX_MEMBERS) -> bytes:
    """Undo one member after the other, in pieces: what follows a member is copied, and must not be long."""
    parts: list[bytes] = []
    room, at = limit, 0
    for _ in range(most):
        decoder = start()
        while not decoder.eof:
            piece = body[at : at + PIECE]
            if not piece:
                raise EOFError("cut short")
            at += len(piece)
            part = decoder.decompress(piece, room + 1)
            room -= len(part)
            if room < 0:
                raise too_large(limit)
            parts.append(part)
        at -= len(decoder.unused_data)
        if at == len(body):
            return b"".join(parts)
    raise ValueError("something follows the end")


def _brotli() -> Callable[[bytes, int], bytes]:
    library = import_module("brotli")
    library.Decompressor().process(b"", output_buffer_limit=1)

    def undo(body: bytes, limit: int) -> bytes:
        decoder = library.Decompressor()
        whole = bytearray(decoder.process(body, output_buffer_limit=limit + 1))
        while len(whole) <= limit and not decoder.is_finished():
            part = decoder.process(b"", output_buffer_limit=limit + 1 - len(whole))
            if not part:
                raise EOFError("cut short")
            whole += part
        if len(whole) > limit:
            raise too_large(limit)
        return bytes(whole)

    return undo


def _zstd(name: str) -> Callable[[], Callable[[bytes, int], bytes]]:
    def undo_with() -> Callable[[bytes, int], bytes]:
        library = import_module(name)
        window = {library.DecompressionParameter.window_log_max: 23}  # RFC 9659: 8 MiB
        return lambda body, limit: _members(lambda: library.ZstdDecompressor(options=window), body, limit)

    return undo_with


LIBRARIES: Mapping[str, tuple[Callable[[], Callable[[bytes, int], bytes]], ...]] = MappingProxyType(
    {"br": (_brotli,), "zstd": (_zstd("compression.zstd"), _zstd("backports.zstd"))}
)
"""What undoes the codings that the standard library may not have: the first whose library is installed."""
_UNDERSTOOD: dict[str, Callable[[bytes, int], bytes]] = {}


def understood() -> Mapping[str, Callable[[bytes, int], bytes]]:
    """Return what undoes each coding, by its name in lower case."""
    if not _UNDERSTOOD:
        found: dict[str, Callable[[bytes, int], bytes]] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate}
        for coding, candidates in LIBRARIES.items():
            for candidate in candidates:
                try:
                    found[coding] = candidate()
                except (ImportError, TypeError):  # not installed, or a release without a bound
                    continue
                break
        _UNDERSTOOD.update(found)
    return _UNDERSTOOD
