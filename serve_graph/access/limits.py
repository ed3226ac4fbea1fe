"""A rate limit as a bucket: it fills steadily, requests and tokens empty it. Pure: the clock is an argument.

Tokens are taken *after* an answer, when the engine has counted them, so the bucket may go below zero; nothing more is
let in until it has filled up past it. Over any stretch of time no more than limit x minutes + one minute's worth (and
what was under way) gets through.
"""

from __future__ import annotations


class Bucket:
    """`per_min` units a minute, at most one minute's worth saved up; full at the start."""

    def __init__(self, per_min: float, now: float) -> None:
        self.per_min = per_min
        self._level = per_min
        self._at = now

    def wait_s(self, now: float, needed: float = 1.0) -> float:
        """Seconds until `needed` units are there; 0 where they are now."""
        missing = min(needed, self.per_min) - self._filled(now)
        return max(0.0, missing * 60.0 / self.per_min)

    def take(self, now: float, units: float = 1.0) -> None:
        """Take units, into debt if need be."""
        self._level = self._filled(now) - units
        self._at = now

    def _filled(self, now: float) -> float:
        return min(self.per_min, self._level + max(0.0, now - self._at) * self.per_min / 60.0)
