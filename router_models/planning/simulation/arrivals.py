"""Draw arrival times: seeded Poisson streams, steady or with bursts.

Python's own generator is used because its stream of `random()` is guaranteed to stay the same; golden traces need it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from router_models.errors import DataError


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Hold a Poisson stream of requests, optionally with bursts.

    Parameters
    ----------
    rate_per_s : float
        Requests per second outside bursts; above 0.
    burst_factor : float
        Multiplies the rate in a burst; at least 1.
    burst_every_s, burst_length_s : float
        A burst fills the last `burst_length_s` of every `burst_every_s` seconds.

    Raises
    ------
    DataError
        For values outside these ranges.
    """

    rate_per_s: float
    burst_factor: float = 1.0
    burst_every_s: float = 0.0
    burst_length_s: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_per_s) and self.rate_per_s > 0):
            raise DataError(f"the arrival rate must be a finite number of requests per second > 0: {self.rate_per_s}")
        if not (math.isfinite(self.burst_factor) and self.burst_factor >= 1):
            raise DataError(f"a burst multiplies the rate by a factor ≥ 1, found {self.burst_factor}")
        if self.burst_factor > 1 and not 0 < self.burst_length_s < self.burst_every_s:
            raise DataError(
                f"bursts need 0 < length < period, found {self.burst_length_s} s every {self.burst_every_s} s"
            )

    def rate_at(self, time_s: float) -> float:
        """Return requests per second at a moment."""
        if self.burst_factor == 1:
            return self.rate_per_s
        into = time_s % self.burst_every_s
        return self.rate_per_s * (self.burst_factor if into >= self.burst_every_s - self.burst_length_s else 1.0)

    def times(self, n: int, seed: int) -> list[float]:
        """Draw the first n arrival times, by thinning: candidates at the highest rate, each kept with rate / highest.

        Parameters
        ----------
        n : int
            How many; at least 1.
        seed : int
            Another seed draws other times.

        Returns
        -------
        list of float
            Seconds, ascending, to the microsecond.

        References
        ----------
        Lewis and Shedler, "Simulation of nonhomogeneous Poisson processes by thinning", 1979.
        """
        if n < 1:
            raise DataError(f"at least one request is needed, found {n}")
        chance = random.Random(seed)
        highest = self.rate_per_s * self.burst_factor
        found: list[float] = []
        now = 0.0
        while len(found) < n:
            now += -math.log(1.0 - chance.random()) / highest
            if self.burst_factor == 1 or chance.random() * highest <= self.rate_at(now):
                found.append(round(now, 6))
        return found


def draw_rows(n: int, rows: int, seed: int) -> list[int]:
    """Draw which recorded prompt each of n requests sends: the workload in a seeded order, repeated until n."""
    if rows < 1:
        raise DataError("the workload holds no prompts")
    chance = random.Random(f"rows-{seed}")
    drawn: list[int] = []
    while len(drawn) < n:
        deck = list(range(rows))
        chance.shuffle(deck)
        drawn += deck
    return drawn[:n]
