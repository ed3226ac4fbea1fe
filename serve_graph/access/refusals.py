"""How long whoever is refused again and again waits for the next refusal: it costs that caller, not the others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from serve_graph.access.limits.bucket import Bucket

PER_MIN = 60
"""Refusals a minute, and at once, that are told without delay."""
LONGEST_S = 1.0
MOST_HELD = 64
"""Refusals of one key that wait at a time: those beyond are told at once, as waiting takes a place in the ingress."""


class RefusalDelays:
    """Delays of the refusals of each key ('' for callers without one); the first PER_MIN a minute have none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._held: Counter[str] = Counter()

    def delay_s(self, key: str) -> float:
        """Count one more refusal of a key, and return the seconds that it should wait for it."""
        now = self.clock()
        bucket = self._buckets.setdefault(key, Bucket(PER_MIN, now))
        if (wait_s := min(LONGEST_S, bucket.wait_s(now))) == 0.0:
            bucket.take(now)
        return wait_s

    async def hold(self, key: str) -> None:
        """Wait before a refusal is told."""
        delay_s = self.delay_s(key)
        if delay_s == 0.0 or self._held[key] >= MOST_HELD:
            return
        self._held[key] += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._held[key] -= 1
