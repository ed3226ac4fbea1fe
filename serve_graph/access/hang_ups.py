"""Requests whose callers hang up: beyond a few a minute, each keeps its place in a key's `concurrency` for a while.

Whoever waits for answers is held by `concurrency` to so many requests in the time that answers take. Whoever hangs up
at once is not, though what was begun costs as much as an answered request; nor is whoever ends requests by a deadline
of their own. Pure: the clock is an argument.
"""

from __future__ import annotations

from collections import deque

from serve_graph.access.limits.bucket import Bucket

FREE_PER_MIN = 120
"""Abandoned requests a minute, and at once, whose places are free again immediately: editors abandon some."""
KEPT_S = 1.0
MOST_KEPT = 256


class HangUps:
    """Places that abandoned requests of each key still keep."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._kept: dict[str, deque[float]] = {}

    def note(self, key: str, now: float) -> None:
        """Count an abandoned request of a key."""
        bucket = self._buckets.setdefault(key, Bucket(FREE_PER_MIN, now))
        if bucket.wait_s(now) > 0:
            self._kept.setdefault(key, deque(maxlen=MOST_KEPT)).append(now + KEPT_S)
        else:
            bucket.take(now)

    def kept(self, key: str, now: float) -> int:
        """Return how many places are kept now."""
        places = self._kept.get(key)
        if places is None:
            return 0
        while places and places[0] <= now:
            places.popleft()
        return len(places)
