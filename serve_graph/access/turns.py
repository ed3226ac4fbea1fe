"""Long work on threads beside the event loop, in turns: no key can keep the others from theirs."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Args = ParamSpec("Args")
Result = TypeVar("Result")
THREADS = 2
REST = 3.0
"""Seconds of rest for each second of a key's work: Python's threads run one at a time, so others wait meanwhile."""
LONGEST_TURN_REST_S = 2.0


class Turns:
    """Runs at most THREADS pieces of work at a time, one a key, first come, first served among keys."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._free = asyncio.Semaphore(THREADS)
        self._keys: defaultdict[str | None, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rested: dict[str | None, float] = {}

    def resting_s(self, key: str | None) -> float:
        """Return the seconds until a key's next piece of work may begin."""
        return max(0.0, self._rested.get(key, 0.0) - self.clock())

    async def run(
        self, key: str | None, work: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
    ) -> Result:
        """Return what `work` returns, after the key's earlier work and its rest; without a rest where no key is given.

        A key waits in its own line, so that in the line for a thread each has one place.
        """
        async with self._keys[key]:
            if (rest_s := self.resting_s(key)) > 0:
                await asyncio.sleep(rest_s)
            async with self._free:
                began = self.clock()
                try:
                    return await asyncio.to_thread(work, *args, **kwargs)
                finally:
                    ended = self.clock()
                    if key is not None:
                        self._rested[key] = ended + min(LONGEST_TURN_REST_S, REST * (ended - began))
