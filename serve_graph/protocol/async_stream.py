"""Wait for an asynchronous generator without losing what it was about to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class BufferedAsyncIterator(Generic[T]):
    """A generator's items, each awaited for as long as one likes: a time-out leaves the item coming.

    An object, not a generator: `aclose` ends the source even where nothing was ever read.
    """

    def __init__(self, source: AsyncGenerator[T, None]) -> None:
        self.source = source
        self.coming: asyncio.Future[T] | None = None

    async def next(self, timeout_s: float | None = None) -> T:
        """The next item. Raises TimeoutError (ask again later), StopAsyncIteration, or what the source raises."""
        coming = await self.started(timeout_s)
        if not coming.done():
            raise TimeoutError
        self.coming = None
        return coming.result()

    async def started(self, timeout_s: float | None = None) -> asyncio.Future[T]:
        """The next item's future, after at most `timeout_s` seconds; `next` will still return it."""
        if self.coming is None:
            self.coming = asyncio.ensure_future(anext(self.source))
        await asyncio.wait({self.coming}, timeout=timeout_s)
        return self.coming

    def __aiter__(self) -> BufferedAsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await self.next()

    async def aclose(self) -> None:
        """End the source, whatever it was doing; what it raises on the way is dropped."""
        with anyio.CancelScope(shield=True):  # a caller's task group cancels again at every await
            if self.coming is not None:
                await wait_until_done(self.coming)
            await self.source.aclose()


async def wait_until_done(future: asyncio.Future[T]) -> None:
    """Cancel a future and wait until it is over; its failure, if any, counts as seen."""
    future.cancel()
    await asyncio.wait({future})
    if not future.cancelled():
        future.exception()
