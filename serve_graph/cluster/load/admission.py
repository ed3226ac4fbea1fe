"""How many requests may be at a tier: so many at work, so many waiting, the rest refused at once.

A queue that nobody bounds answers everybody too late. Here a request either gets its turn within its deadline or a
429 that says when to come back. The bounds are one ingress replica's. Time is injected; nothing else is drawn or read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from serve_graph.errors import SaturatedError

RECENT = 0.1  # weight of the newest service time in the running mean: about the last twenty requests
LONGEST_RETRY_AFTER_S = 60.0


@dataclass(slots=True)
class AdmissionController:
    """One tier's admission control. First come, first served.

    `service_s` is the running mean of how long requests that were answered held their place; None before the first.
    """

    tier: str
    max_in_flight: int
    max_queued: int
    clock: Callable[[], float] = time.monotonic
    in_flight: int = 0
    refused: int = 0
    service_s: float | None = None
    queue: deque[asyncio.Future[None]] = field(default_factory=deque)
    behind: deque[asyncio.Future[None]] = field(default_factory=deque)

    def wait_s(self, ahead: int) -> float:
        """How long a request with `ahead` others before it in the queue would wait; 0 where nothing is known."""
        return (ahead + 1) * (self.service_s or 0.0) / self.max_in_flight

    @property
    def spare(self) -> int:
        """How many places work may take that can be left: half of them, one at least."""
        return (self.max_in_flight + 1) // 2

    @property
    def is_busy(self) -> bool:
        """Whether work that can be left should be: requests wait, or so many places are taken."""
        return bool(self.queue) or self.in_flight >= self.spare

    @asynccontextmanager
    async def place(self, deadline_s: float) -> AsyncIterator[float]:
        """Hold a place; gives the seconds left of `deadline_s`.

        Raises SaturatedError at once where the queue is full or the answer would come after the deadline, and when
        the deadline passes while waiting.
        """
        arrived = self.clock()
        if self.in_flight >= self.max_in_flight or self.queue:
            await self._wait(deadline_s)
        else:
            self.in_flight += 1
        begun = self.clock()
        try:
            yield max(0.0, deadline_s - (begun - arrived))
            self._note(self.clock() - begun)
        finally:
            self._leave()

    @asynccontextmanager
    async def place_behind(self, seconds: float) -> AsyncIterator[float]:
        """Hold a place for work that nobody waits for: one of the half that may be left, once no other request waits.

        It waits for that as long as it takes, in a line of its own, and has all of `seconds` then, which it gives.
        """
        if self.is_busy or self.behind:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.behind.append(turn)
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self._leave()
                elif turn in self.behind:
                    self.behind.remove(turn)
                raise
        else:
            self.in_flight += 1
        try:
            yield seconds
        finally:
            self._leave()

    async def _wait(self, deadline_s: float) -> None:
        waiting = len(self.queue)
        wait = self.wait_s(waiting)
        if waiting >= self.max_queued:
            raise self._refusal("its queue is full", wait)
        if wait + (self.service_s or 0.0) > deadline_s:
            raise self._refusal(f"an answer would take longer than {deadline_s:g} s", wait)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.queue.append(turn)
        try:
            async with asyncio.timeout(deadline_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()  # the place was given in the very moment its taker went away
            elif turn in self.queue:
                self.queue.remove(turn)
            if isinstance(error, TimeoutError):
                raise self._refusal(f"no place within {deadline_s:g} s", self.wait_s(len(self.queue))) from None
            raise

    def _leave(self) -> None:
        """Hand the place to the first who still waits, or free it."""
        while self.queue:
            turn = self.queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1
        while self.behind and not self.is_busy:
            turn = self.behind.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def _note(self, seconds: float) -> None:
        self.service_s = seconds if self.service_s is None else self.service_s + RECENT * (seconds - self.service_s)

    def _refusal(self, why: str, wait_s: float) -> SaturatedError:
        self.refused += 1
        message = f"tier {self.tier!r} is saturated: {why}"
        return SaturatedError(message, retry_after_s=min(wait_s, LONGEST_RETRY_AFTER_S))

    def counters(self) -> dict[str, float]:
        """What `/metrics` shows: requests at work, waiting, and refused so far."""
        return {"in_flight": self.in_flight, "queued": len(self.queue), "refused": self.refused}
