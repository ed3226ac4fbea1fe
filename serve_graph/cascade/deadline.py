"""One deadline for all that a request needs: what one step has spent, the next no longer has."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from serve_graph.errors import DeadlineError

T = TypeVar("T")
SLACK_S = 0.25
"""How much later than the deadline a reply may leave: whoever keeps the deadline can still say why it failed."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """`seconds` after `started`, on `clock`'s time; infinite where nobody set one.

    `reserve_s`: what the last tier usually takes. A cheap try leaves it that much, where there is that much.
    """

    seconds: float = math.inf
    started: float = 0.0
    clock: Callable[[], float] = time.monotonic
    reserve_s: float = 0.0

    @property
    def left_s(self) -> float:
        """Seconds left; 0 where none are."""
        return max(0.0, self.started + self.seconds - self.clock())

    async def kept(self, work: Awaitable[T]) -> T:
        """What `work` gives, or DeadlineError at most SLACK_S after the deadline; the work is cancelled then."""
        try:
            async with asyncio.timeout(self._longest_s()) as limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._spent() from None

    def pieces(self, source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """What `source` yields, as long as there is time; as `kept` for every piece."""
        return source if math.isinf(self.seconds) else self._pieces(source)

    async def _pieces(self, source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        while True:
            try:
                piece = await self.kept(anext(source))
            except StopAsyncIteration:
                return
            yield piece

    def _longest_s(self) -> float | None:
        return None if math.isinf(self.seconds) else self.started + self.seconds + SLACK_S - self.clock()

    def _spent(self) -> DeadlineError:
        return DeadlineError(f"no answer within the deadline of {self.seconds:g} s")


NEVER = Deadline()
