"""Long work on threads beside the event loop, in turns: no key can keep the others from theirs."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from serve_graph.errors import RateLimitedError

Args = ParamSpec("Args")
Result = TypeVar("Result")
THREADS = 2
REST, REST_AFTER_LONG = 3.0, 100.0
"""Seconds of rest for each second of a key's work, and of work that took LONG_S or more: Python's threads run one at a
time, so others wait meanwhile.
"""
LONG_S = 0.05
LONG_S_PER_MB = 0.004
"""What is long of work on a body, beside LONG_S: reading a photo takes some 2 ms for each of its megabytes."""
LONGEST_TURN_REST_S = 10.0
LONGEST_WAIT_S = 2.0
"""A key that must rest for longer is told so instead."""


class Turns:
    """Runs at most THREADS pieces of work at a time, one a key, first come, first served among keys.

    `work_clock` is what the work is measured by: the processor time of its thread, so that a busy machine makes no
    rest longer.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, work_clock: Callable[[], float] = time.thread_time
    ) -> None:
        self.clock, self.work_clock = clock, work_clock
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

        A key waits in its own line, so that in the line for a thread each has one place. Raises RateLimitedError where
        its rest is longer than LONGEST_WAIT_S.
        """
        return await self._run(key, LONG_S, partial(work, *args, **kwargs))

    async def run_on(self, key: str | None, size: int, work: Callable[[], Result]) -> Result:
        """As `run`, of work on a body of so many bytes as it was sent: a larger one may take longer."""
        return await self._run(key, LONG_S + LONG_S_PER_MB * (size // 1_000_000), work)

    async def _run(self, key: str | None, long_s: float, work: Callable[[], Result]) -> Result:
        def measured() -> Result:
            began = self.work_clock()
            try:
                return work()
            finally:
                self._rest(key, self.work_clock() - began, long_s)

        self.check(key)
        async with self._keys[key]:
            self.check(key)
            await asyncio.sleep(self.resting_s(key))
            async with self._free:
                return await asyncio.to_thread(measured)

    def check(self, key: str | None) -> None:
        """Raise RateLimitedError where a key's rest is longer than LONGEST_WAIT_S."""
        if (rest_s := self.resting_s(key)) > LONGEST_WAIT_S:
            message = f"key {key!r} sent a body that took long to read: wait before the next large one"
            raise RateLimitedError(message, rest_s, "requests")

    def _rest(self, key: str | None, took_s: float, long_s: float) -> None:
        if key is not None:
            rest_s = took_s * (REST if took_s < long_s else REST_AFTER_LONG)
            self._rested[key] = self.clock() + min(LONGEST_TURN_REST_S, rest_s)


HEARD_FOR_S = 2.0
"""For so long it holds what another replica has told: they tell one another every second."""


class InteractiveTraffic:
    """Whether anybody waits for an answer now, or did a moment ago: work that nobody waits for gives way then.

    `under_way` and `left_at`, when the last one ended, are counted by whoever lets requests in; `heard_at` is when
    another replica last told that somebody waits there.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, quiet_s: float = 1.0) -> None:
        self.clock, self.quiet_s = clock, quiet_s
        self.under_way = 0
        self.left_at = float("-inf")
        self.heard_at = float("-inf")

    @property
    def is_here(self) -> bool:
        """Whether requests are under way in this replica, or the last was within `quiet_s`."""
        return self.under_way > 0 or self.clock() - self.left_at < self.quiet_s

    @property
    def is_there(self) -> bool:
        """Whether requests are in this replica or, as it was told within `HEARD_FOR_S`, in another."""
        return self.is_here or self.clock() - self.heard_at < HEARD_FOR_S

    def hear(self) -> None:
        """Take from another replica that somebody waits there."""
        self.heard_at = self.clock()
