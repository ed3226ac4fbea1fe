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
"""The longest line, the longest event, and the most that is kept of what came beside the events."""
LAST_WORD_S = 5.0
"""For how long a stream is read on whose answer is whole: for its usage and its end."""


@dataclass(frozen=True, slots=True)
class ApiEvent:
    """One event: its name, mostly None, and its data."""

    name: str | None
    data: str


class EventReader:
    """Split bytes into events. `feed` and `end` raise ValueError where a line or an event has no end."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_first = True
        self._name: str | None = None
        self._data: list[str] = []
        self._data_size = 0
        self._other: list[str] = []
        self._other_size = 0

    @property
    def text(self) -> str:
        """What came beside the events: the whole reply, where it is no event stream."""
        return "\n".join(self._other)

    def feed(self, piece: bytes) -> Iterator[ApiEvent]:
        """Yield the events that are complete with these bytes."""
        may_end = self._is_first or self._buffer.endswith(b"\r") or b"\n" in piece or b"\r" in piece
        self._buffer += piece
        if may_end:  # what is no end of a line is not looked through again for each piece of a long one
            yield from self._lines_of(bytes(self._buffer))
        if len(self._buffer) > MOST_BYTES:
            raise ValueError("a line without an end")

    def end(self) -> Iterator[ApiEvent]:
        """Yield what is left once the bytes have ended."""
        for line in bytes(self._buffer).replace(b"\r", b"\n").split(b"\n"):
            yield from self._line(line)
        self._buffer.clear()
        yield from self._dispatch()

    def _lines_of(self, text: bytes) -> Iterator[ApiEvent]:
        """Read the lines that are whole, and keep the rest."""
        if self._is_first:
            if len(text) < len(BOM) and BOM.startswith(text):
                return
            text, self._is_first = text.removeprefix(BOM), False
        held = b"\r" if text.endswith(b"\r") else b""  # it may be half of a CRLF
        lines = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._buffer = bytearray(lines.pop() + held)
        for line in lines:
            yield from self._line(line)

    def _line(self, raw: bytes) -> Iterator[ApiEvent]:
        line = raw.decode("utf-8", "replace")
        if not line.strip():
            yield from self._dispatch()
            return
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if colon and field == "data":
            self._data.append(value)
            self._data_size += len(value) + 1
            if self._data_size > MOST_BYTES:
                raise ValueError("an event without an end")
        elif colon and field == "event":
            self._name = value.strip()
        elif not line.startswith((":", "id:", "retry:")) and self._other_size < MOST_BYTES:
            self._other.append(line)
            self._other_size += len(line)

    def _dispatch(self) -> Iterator[ApiEvent]:
        name, data = self._name, self._data
        self._name, self._data, self._data_size = None, [], 0
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
