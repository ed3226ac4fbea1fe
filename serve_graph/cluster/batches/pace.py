"""How many requests of batches may be under way: many while nobody else asks, and as good as none beside others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serve_graph.access.turns import InteractiveTraffic

GROWS_EVERY_S = 0.25
TURN_LOOKED_AT_S = 0.05
APART_S = 0.002
"""Between beginnings: lines that begin together end together, and the event loop is theirs until all are written."""


class Pace:
    """The places of one ingress replica, given out first come, first served over all its batches.

    While interactive requests are under way, and for a second after, there are `beside` places. Then the number
    doubles every quarter of a second, up to `most`. Places that are taken are not taken back: what is under way ends.
    """

    def __init__(
        self, traffic: InteractiveTraffic, most: int, beside: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.traffic = traffic
        self.most, self.beside = most, min(beside, most)
        self.clock = clock
        self.under_way = 0
        self._places = float(self.beside)
        self._grown_at = clock()
        self._turns = asyncio.Lock()
        self._left = asyncio.Event()

    def places(self) -> int:
        """How many there are now."""
        now = self.clock()
        if self.traffic.is_there:
            self._places, self._grown_at = float(self.beside), now
        else:
            steps = int((now - self._grown_at) / GROWS_EVERY_S)
            self._places = min(float(self.most), self._places * 2.0 ** min(steps, 32))
            self._grown_at += steps * GROWS_EVERY_S
        return int(self._places)

    async def _apart(self) -> None:
        try:
            await asyncio.sleep(APART_S)
        except asyncio.CancelledError:
            self.under_way -= 1
            raise

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place, once there is one."""
        async with self._turns:
            while self.under_way >= self.places():
                self._left.clear()
                try:
                    async with asyncio.timeout(TURN_LOOKED_AT_S):
                        await self._left.wait()
                except TimeoutError:
                    continue
            self.under_way += 1
            await self._apart()
        try:
            yield
        finally:
            self.under_way -= 1
            self._left.set()
