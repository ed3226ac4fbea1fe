"""Work that may take long, in threads of its own: few at a time, waited for so long and no longer.

A thread cannot be killed. One that is given up goes on; its place is given to another, and once `most_stuck` are out,
nothing is begun any more until one of them ends, and `fault` says so to whoever replaces the process.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from serve_graph.errors import PolicyUnavailableError

T = TypeVar("T")
logger = logging.getLogger(__name__)


async def side_by_side(*works: Coroutine[Any, Any, Any]) -> None:
    """Do all of these until they end or are cancelled, and be over no sooner than the last of them.

    One that fails is logged, and the others go on. (`asyncio.gather` alone is over with the first that is cancelled,
    so that whoever then closes what the others still use takes it from under their hands.)
    """

    async def kept(work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception:
            logger.exception("background work has ended")

    try:
        await asyncio.gather(*map(kept, works), return_exceptions=True)
    finally:
        for work in works:
            work.close()  # one that was cancelled before it began; the others are over


class LongWork:
    """A bounded pool. `limit_s` is from the call of `run` to its result, the wait for a thread included."""

    def __init__(self, limit_s: float, threads: int = 2, most_waiting: int = 32, most_stuck: int = 4) -> None:
        self.limit_s = limit_s
        self.most_waiting = most_waiting
        self.most_stuck = most_stuck
        self._places = asyncio.Semaphore(threads)
        self._waiting = 0
        self._stuck: set[asyncio.Future[Any]] = set()

    def fault(self) -> str | None:
        """Why nothing can be done here until the process is replaced; None where it can."""
        stuck = len(self._stuck)
        return f"{stuck} threads do not come to an end" if stuck >= self.most_stuck else None

    async def run(self, work: Callable[[], T]) -> T:
        """Do `work` in a thread and return its result, or raise what it raises.

        Raises PolicyUnavailableError where it is not done in `limit_s`, or too much is waiting or stuck already.
        """
        if (fault := self.fault()) is not None:
            raise PolicyUnavailableError(fault)
        if self._waiting >= self.most_waiting:
            raise PolicyUnavailableError(f"{self._waiting} others are waiting for a thread")
        self._waiting += 1
        try:
            async with asyncio.timeout(self.limit_s):
                try:
                    await self._places.acquire()
                finally:
                    self._waiting -= 1
                try:
                    return await self._in_thread(work)
                finally:
                    self._places.release()
        except TimeoutError:
            raise PolicyUnavailableError(f"not done in {self.limit_s:g} s") from None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(put: Callable[[], None]) -> None:
            self._stuck.discard(done)
            if not done.done():
                put()

        def do() -> None:
            try:
                result = work()
                told = lambda: done.set_result(result)  # noqa: E731
            except Exception as error:  # noqa: BLE001 (it is raised where it is waited for)
                fault = PolicyUnavailableError("StopIteration") if isinstance(error, StopIteration) else error
                told = lambda: done.set_exception(fault)  # noqa: E731
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, told)

        context = copy_context()  # whose work it is: what the thread logs says so
        threading.Thread(target=context.run, args=(do,), name="long-work", daemon=True).start()
        try:
            return await done
        except asyncio.CancelledError:
            self._stuck.add(done)
            raise
