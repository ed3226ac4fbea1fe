"""Whoever is refused again and again waits for it; nobody else does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from serve_graph.access.refusals import LONGEST_S, MOST_HELD, PER_MIN, RefusalDelays


def test_the_first_refusals_of_a_minute_are_told_at_once_and_those_of_another_key_too() -> None:
    delays = RefusalDelays(lambda: 0.0)
    assert [delays.delay_s("a") for _ in range(PER_MIN)] == [0.0] * PER_MIN
    assert delays.delay_s("a") == LONGEST_S
    assert delays.delay_s("b") == 0.0


def test_a_minute_later_they_are_told_at_once_again() -> None:
    now = [0.0]
    delays = RefusalDelays(lambda: now[0])
    for _ in range(1000):
        delays.delay_s("a")
    now[0] = 60.0
    assert [delays.delay_s("a") for _ in range(PER_MIN)] == [0.0] * PER_MIN


async def test_no_more_than_some_wait_at_a_time() -> None:
    delays = RefusalDelays(lambda: 0.0)
    for _ in range(PER_MIN):
        delays.delay_s("a")
    waiting = [asyncio.ensure_future(delays.hold("a")) for _ in range(MOST_HELD + 3)]
    await asyncio.sleep(0)
    assert sum(not each.done() for each in waiting) == MOST_HELD
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    other = asyncio.ensure_future(delays.hold("b"))
    await asyncio.sleep(0)
    assert other.done(), "it does not wait"


class NotedDelays(RefusalDelays):
    """Notes whose refusals are held, and holds none."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    async def hold(self, key: str) -> None:
        self.noted.append(key)


async def test_every_kind_of_refusal_counts_for_the_key_that_is_refused(endpoint: Callable[..., Any]) -> None:
    at = endpoint(secrets=("a", "b"))
    at.accounts.refusals = NotedDelays()
    async with at.client() as client:
        for path, key in (("/metrics", "a"), ("/nowhere", "b"), ("/v1/models", ""), ("/v1/models/x", "a")):
            await client.get(path, headers={"x-api-key": key} if key else {})
        await client.post("/v1/chat/completions", headers={"x-api-key": "b"}, content=b"{")
        await client.get("/v1/models", headers={"x-api-key": "b"})
    assert at.accounts.refusals.noted == ["a", "b", "", "a", "b"]


async def test_without_keys_nobody_waits(endpoint: Callable[..., Any]) -> None:
    at = endpoint()
    at.accounts.refusals = NotedDelays()
    async with at.client() as client:
        assert (await client.get("/nowhere")).status_code == 404
    assert at.accounts.refusals.noted == []


async def test_a_request_whose_body_does_not_come_takes_a_place_of_its_key(endpoint: Callable[..., Any]) -> None:
    at = endpoint(secrets=("a",), limits={"concurrency": 1}, body_timeout_s=60.0)
    ask = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    asked = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        asked.set()
        await asyncio.Event().wait()

    async with at.client() as client:
        client.headers["x-api-key"] = "a"
        slow = asyncio.ensure_future(client.post("/v1/chat/completions", content=never()))
        await asyncio.wait_for(asked.wait(), 20)
        assert (await client.post("/v1/chat/completions", json=ask)).status_code == 429
        assert (await client.get("/v1/models")).status_code == 200
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        for _ in range(3):
            assert (await client.post("/v1/chat/completions", json=ask)).status_code == 200
