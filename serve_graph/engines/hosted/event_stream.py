"""Server-sent events as APIs send them, from bytes in any packets; more forgiving than the standard.

Read as meant: CRLF and CR, a byte order mark, `data:` without a space, comments, an event without the empty line that
ends it, events without any between them, lines of plain JSON, and JSON that is no event stream at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"
MOST_BYTES = 32 * 2**20
"""The longest line, and the longest reply that is not a stream."""
LAST_WORD_S = 5.0
"""For how long a stream is read on whose answer is whole: for its usage and its end."""


@dataclass(frozen=True, slots=True)
class ApiEvent:
    """One event: its name, mostly None, and its data."""

    name: str | None
    data: str


class EventReader:
    """Split bytes into events. `feed` and `end` raise ValueError where a line has no end."""

    def __init__(self) -> None:
        self._buffer = b""
        self._is_first = True
        self._name: str | None = None
        self._data: list[str] = []
        self._other: list[str] = []

    @property
    def text(self) -> str:
        """What came beside the events: the whole reply, where it is no event stream."""
        return "\n".join(self._other)

    def feed(self, piece: bytes) -> Iterator[ApiEvent]:
        """Yield the events that are complete with these bytes."""
        self._buffer += piece
        if self._is_first:
            if len(self._buffer) < len(BOM) and BOM.startswith(self._buffer):
                return
            self._buffer, self._is_first = self._buffer.removeprefix(BOM), False
        held = b"\r" if self._buffer.endswith(b"\r") else b""  # it may be half of a CRLF
        lines = self._buffer.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._buffer = lines.pop() + held
        for line in lines:
            yield from self._line(line)
        if len(self._buffer) > MOST_BYTES:
            raise ValueError("a line without an end")

    def end(self) -> Iterator[ApiEvent]:
        """Yield what is left once the bytes have ended."""
        for line in self._buffer.replace(b"\r", b"\n").split(b"\n"):
            yield from self._line(line)
        self._buffer = b""
        yield from self._dispatch()

    def _line(self, raw: bytes) -> Iterator[ApiEvent]:
        line = raw.decode("utf-8", "replace")
        if not line.strip():
            yield from self._dispatch()
            return
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if colon and field == "data":
            self._data.append(value)
        elif colon and field == "event":
            self._name = value.strip()
        elif not line.startswith((":", "id:", "retry:")) and sum(map(len, self._other)) < MOST_BYTES:
            self._other.append(line)

    def _dispatch(self) -> Iterator[ApiEvent]:
        name, data = self._name, self._data
        self._name, self._data = None, []
        if data:
            yield from (ApiEvent(name, text) for text in _separated(data))


def _separated(lines: list[str]) -> list[str]:
    """Return the data of an event: its lines joined, or one each where every line is an event of its own."""
    whole = "\n".join(lines)
    if len(lines) == 1 or _is_json(whole):
        return [whole]
    if all(line.startswith("[DONE]") or _is_json(line) for line in lines if line.strip()):
        return [line for line in lines if line.strip()]
    return [whole]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
