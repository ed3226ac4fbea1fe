import asyncio
import codecs
import itertools
import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import httpx
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from serve_graph.api.transport.sse import KEEP_ALIVE, event, kept_alive
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
    assert said == [KEEP_ALIVE, b"data: 1\n\n", b"data: 2\n\n"]


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
