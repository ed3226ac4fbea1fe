"""A token-bucket rate limit, refilled continuously. Pure: the clock is an argument.

Tokens are taken *after* an answer, when the engine has counted them, so the level may become negative; nothing is
admitted until it is positive again. Over any period, at most limit x minutes + one minute's allowance (plus what was
in progress) is admitted.
"""

from __future__ import annotations

import math


class Bucket:
    """A bucket that gains `per_min` units a minute and holds at most that many; full at the start."""

    def __init__(self, per_min: float, now: float) -> None:
        self.per_min = per_min
        self._level = per_min
        self._at = now

    def wait_s(self, now: float, needed: float = 1.0) -> float:
        """Return the seconds until `needed` units are available; 0 if they are now."""
        missing = min(needed, self.per_min) - self._filled(now)
        return max(0.0, missing * 60.0 / self.per_min)

    def left(self, now: float) -> int:
        """Return the whole units that are available now."""
        return max(0, math.floor(self._filled(now)))

    def full_s(self, now: float) -> float:
        """Return the seconds until the bucket is full again."""
        return (self.per_min - self._filled(now)) * 60.0 / self.per_min

    def level(self, now: float) -> float:
        """Return the units that are available now; below 0: a debt."""
        return self._filled(now)

    def take(self, now: float, units: float = 1.0) -> None:
        """Take units; the level may become negative."""
        self._level = self._filled(now) - units
        self._at = now

    def _filled(self, now: float) -> float:
        return min(self.per_min, self._level + max(0.0, now - self._at) * self.per_min / 60.0)


def shown_duration(seconds: float) -> str:
    """Return a duration as OpenAI's rate limit headers have it: `12.5s`, `6m0s`."""
    minutes, rest = divmod(max(0.0, seconds), 60.0)
    shown = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{minutes:.0f}m{shown}s" if minutes else f"{shown}s"
