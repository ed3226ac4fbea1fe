import asyncio
import codecs
import contextlib
import itertools
import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from serve_graph.api.transport.sse import KEEP_ALIVE, MOST_AHEAD, event, kept_alive
from tests.fixtures.made_up_time import run


async def _said_slowly(ended: list[str], silence_s: float) -> AsyncGenerator[bytes, None]:
    try:
        yield b"data: 1\n\n"
        await asyncio.sleep(silence_s)
        yield b"data: 2\n\n"
    finally:
        ended.append("ended")


def test_silence_is_filled_with_comments_and_no_event_is_lost() -> None:
    ended: list[str] = []

    async def read() -> list[bytes]:
        return [item async for item in kept_alive(_said_slowly(ended, 0.22), 0.05)]

    said = run(read())
    assert said.count(KEEP_ALIVE) == 4
    assert [item for item in said if item != KEEP_ALIVE] == [b"data: 1\n\n", b"data: 2\n\n"]
    assert said[1] == said[2] == KEEP_ALIVE
    assert ended == ["ended"]


async def test_a_stream_with_output_in_time_gets_no_comment() -> None:
    assert KEEP_ALIVE not in [item async for item in kept_alive(_said_slowly([], 0), 5)]


async def test_a_stream_that_was_already_silent_begins_with_a_comment() -> None:
    said = [item async for item in kept_alive(_said_slowly([], 0), 5, at_once=True)]
    assert said[0] == KEEP_ALIVE
    assert b"".join(said[1:]) == b"data: 1\n\ndata: 2\n\n"


async def test_events_that_are_there_at_the_same_time_are_one_piece_and_others_come_at_once() -> None:
    more = asyncio.Event()

    async def said() -> AsyncGenerator[bytes, None]:
        for i in range(5):
            yield b"%d" % i
        await more.wait()
        yield b"5"

    events = kept_alive(said(), 60)
    assert await anext(events) == b"01234"
    more.set()
    assert [piece async for piece in events] == [b"5"]


async def test_no_more_is_read_than_a_caller_is_to_be_sent_next() -> None:
    made: list[int] = []

    async def said() -> AsyncGenerator[bytes, None]:
        for i in itertools.count():
            made.append(i)
            yield b"%d " % i

    events = kept_alive(said(), 60)
    pieces = [await anext(events) for _ in range(3)]
    assert b"".join(pieces) == b"".join(b"%d " % i for i in range(3 * MOST_AHEAD))
    await asyncio.sleep(0.01)
    assert len(made) <= 4 * MOST_AHEAD + 1
    await events.aclose()


async def test_what_a_stream_fails_with_comes_after_what_it_said() -> None:
    async def said() -> AsyncGenerator[bytes, None]:
        yield b"1"
        raise ValueError("it broke")

    events = kept_alive(said(), 60)
    assert await anext(events) == b"1"
    with pytest.raises(ValueError, match="it broke"):
        await anext(events)


async def test_a_caller_who_leaves_before_the_first_event_ends_the_events() -> None:
    ended: list[str] = []
    events = kept_alive(_said_slowly(ended, 60), 60, at_once=True)
    assert await anext(events) == KEEP_ALIVE
    await asyncio.sleep(0)
    await events.aclose()
    assert ended == ["ended"]


async def test_caller_who_leaves_during_a_silence_ends_the_events() -> None:
    ended: list[str] = []
    events = kept_alive(_said_slowly(ended, 60), 0.02)
    assert [await anext(events), await anext(events)] == [b"data: 1\n\n", KEEP_ALIVE]
    await events.aclose()
    assert ended == ["ended"]


async def test_cancelled_task_group_ends_the_events_during_a_silence() -> None:
    ended: list[str] = []
    events = kept_alive(_said_slowly(ended, 60), 60)

    begun = asyncio.Event()

    async def read() -> None:
        async for _ in events:
            begun.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await begun.wait()
        group.cancel_scope.cancel()
    await events.aclose()
    assert ended == ["ended"]


async def test_a_stream_that_goes_on_when_it_is_cancelled_is_not_read_on() -> None:
    made: list[int] = []

    async def said() -> AsyncGenerator[bytes, None]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        for i in range(3 * MOST_AHEAD):
            made.append(i)
            yield b"%d " % i

    events = kept_alive(said(), 60, at_once=True)
    assert await anext(events) == KEEP_ALIVE
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await events.aclose()
    assert made == [0]


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """The bytes as TCP may deliver them: cut anywhere, also inside a character."""
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(edges) if a < b]


def by_openai(parts: list[bytes]) -> list[Any]:
    return [json.loads(sse.data) for sse in SSEDecoder().iter_bytes(iter(parts)) if sse.data]


def by_httpx_lines(parts: list[bytes]) -> list[Any]:
    response = httpx.Response(200, content=iter(parts), headers={"content-type": "text/event-stream; charset=utf-8"})
    lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def by_the_book(parts: list[bytes]) -> list[Any]:
    """The HTML standard's parser, over an incremental UTF-8 decoder."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    text = "".join(decoder.decode(part) for part in parts) + decoder.decode(b"", final=True)
    found, data = [], []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            found.append(json.loads("\n".join(data)))
            data = []
    return found


TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["\u2028\u2029\x85", "\r\n\r\n", "data: x\n\n", "👩‍👩‍👧", "\x00\x1f", "\ufeff", ": keep-alive"]
)


@given(st.lists(TEXT, max_size=8), st.lists(st.integers(0, 5000), max_size=12), st.booleans())
def test_every_consumer_reads_what_was_said_however_it_is_cut(
    texts: list[str], places: list[int], commented: bool
) -> None:
    events = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    raw = (KEEP_ALIVE if commented else b"").join(event(data) for data in events)
    parts = cut(raw, places)
    assert by_openai(parts) == by_the_book(parts) == events
    assert by_httpx_lines(parts) == events
