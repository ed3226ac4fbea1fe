"""Read an asynchronous generator with time-outs that do not cancel it; and what it has ready at once, together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class BufferedAsyncIterator(Generic[T]):
    """Iterate over a generator with a time-out per item; an item that times out is returned by the next call.

    A class rather than a generator, so that `aclose` closes the source even if nothing was ever read.
    """

    def __init__(self, source: AsyncGenerator[T, None]) -> None:
        self.source = source
        self.coming: asyncio.Future[T] | None = None

    async def next(self, timeout_s: float | None = None) -> T:
        """Return the next item; raises TimeoutError (call again), StopAsyncIteration or what the source raises.

        Without a time-out it is read here, which takes no task, and whoever is cancelled meanwhile ends the source.
        """
        if timeout_s is None and self.coming is None:
            return await anext(self.source)
        coming = await self.started(timeout_s)
        if not coming.done():
            raise TimeoutError
        self.coming = None
        return coming.result()

    async def started(self, timeout_s: float | None = None) -> asyncio.Future[T]:
        """Return the next item's future after at most `timeout_s` seconds; `next` still returns the item."""
        if self.coming is None:
            self.coming = asyncio.ensure_future(anext(self.source))
        await asyncio.wait({self.coming}, timeout=timeout_s)
        return self.coming

    def __aiter__(self) -> BufferedAsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await self.next()

    async def aclose(self) -> None:
        """Close the source, also while an item is coming that timed out; exceptions it raises meanwhile are dropped.

        Not while somebody else awaits `next` without a time-out: whoever does is cancelled first.
        """
        with anyio.CancelScope(shield=True):  # a caller's task group cancels again at every await
            if self.coming is not None:
                await wait_until_done(self.coming)
            await self.source.aclose()


async def wait_until_done(future: asyncio.Future[T]) -> None:
    """Cancel a future and wait until it is done; its exception, if any, is retrieved and dropped."""
    if not future.done():
        future.cancel()
        await asyncio.wait({future})
    if not future.cancelled():
        future.exception()


async def ready_together(source: AsyncGenerator[T, None]) -> AsyncGenerator[list[T], None]:
    """Yield what a generator yields as it comes, in lists of what came while nobody looked; at least one each.

    The source is read in a task, in a copy of this context, and closed before this ends. What it raises is raised
    after all that came before.
    """
    come: list[T] = []
    news = asyncio.Event()

    async def read() -> None:
        async for item in source:
            come.append(item)
            news.set()

    reading = asyncio.create_task(read())
    reading.add_done_callback(lambda _: news.set())
    try:
        while True:
            await news.wait()
            news.clear()
            ended = reading.done()
            if come:
                taken, come[:] = list(come), []
                yield taken
            if ended:
                reading.result()
                return
    finally:
        await wait_until_done(reading)
        await source.aclose()
