"""Arrivals by the ten million: Poisson with bursts that come by chance and a day's swing, or as they were recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from router_models.errors import DataError
from router_models.types import FloatArray, IntArray

CHUNK = 50_000
"""Arrivals drawn at once, about."""
DAY_S = 86_400.0


class Traffic(Protocol):
    """Give a stream of arrival times."""

    def chunks(self, seed: int) -> Iterator[FloatArray]:
        """Yield ascending times in seconds, piece by piece, without end or to the end of a recording."""
        ...


@dataclass(frozen=True, slots=True)
class BurstyTraffic:
    """Hold a Poisson stream that jumps between two rates (a Markov-modulated one), and goes with the day.

    Parameters
    ----------
    per_s : float
        Requests a second on average over days; above 0.
    burst_factor : float
        The rate in a burst by that outside; at least 1.
    burst_s, calm_s : float
        Mean length of bursts and of the time between them, both exponential; above 0 where there are bursts.
    daily_swing : float
        The rate goes as 1 − swing·cos(2π·t / day): lowest at second 0 of a day, highest twelve hours later; in [0, 1].
    from_s : float
        The second of the day that is second 0 of the stream.
    """

    per_s: float
    burst_factor: float = 1.0
    burst_s: float = 60.0
    calm_s: float = 540.0
    daily_swing: float = 0.0
    from_s: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.per_s) and self.per_s > 0):
            raise DataError(f"requests a second must be a finite number above 0, found {self.per_s}")
        if not (math.isfinite(self.burst_factor) and self.burst_factor >= 1):
            raise DataError(f"a burst multiplies the rate by a factor ≥ 1, found {self.burst_factor}")
        if not (0 < self.burst_s < math.inf and 0 < self.calm_s < math.inf):
            raise DataError(f"bursts and the time between need finite means above 0 s: {self.burst_s}, {self.calm_s}")
        if not 0 <= self.daily_swing <= 1:
            raise DataError(f"the daily swing lies in [0, 1], found {self.daily_swing}")

    @property
    def calm_per_s(self) -> float:
        """Return requests a second outside bursts, averaged over the day."""
        in_burst = self.burst_s / (self.burst_s + self.calm_s)
        return self.per_s / (1 + in_burst * (self.burst_factor - 1))

    @property
    def busiest_per_s(self) -> float:
        """Return requests a second in a burst at the busiest time of the day."""
        return self.calm_per_s * self.burst_factor * (1 + self.daily_swing)

    def chunks(self, seed: int) -> Iterator[FloatArray]:
        """Yield times without end, by thinning candidates of the highest rate.

        Parameters
        ----------
        seed : int
            Of the stream.

        Yields
        ------
        array of float
            Ascending times in seconds, a piece of them.
        """
        rng = np.random.default_rng(seed)
        highest = self.busiest_per_s
        window, begun = CHUNK / highest, 0.0
        switches = _Switches(self, rng)
        while True:
            times = np.sort(rng.uniform(begun, begun + window, rng.poisson(CHUNK)))
            rate = self.calm_per_s * np.where(switches.in_burst(times, begun + window), self.burst_factor, 1.0)
            if self.daily_swing:
                rate = rate * (1 - self.daily_swing * np.cos(2 * np.pi * (times + self.from_s) / DAY_S))
            yield times[rng.random(len(times)) * highest <= rate]
            begun += window


class _Switches:
    """When bursts begin and end, drawn as far as they are needed; the first state by its share of the time."""

    def __init__(self, traffic: BurstyTraffic, rng: np.random.Generator) -> None:
        self.traffic, self.rng = traffic, rng
        self.bursting = bool(rng.random() < traffic.burst_s / (traffic.burst_s + traffic.calm_s))
        self.next_s = self._length()

    def in_burst(self, times: FloatArray, until: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return for ascending times whether each lies in a burst; `until` is where the next call goes on."""
        if self.traffic.burst_factor == 1:
            return np.zeros(len(times), dtype=np.bool_)
        states, ends = [self.bursting], []
        while self.next_s < until:
            ends.append(self.next_s)
            self.bursting = not self.bursting
            states.append(self.bursting)
            self.next_s += self._length()
        return np.array(states)[np.searchsorted(ends, times, side="right")]

    def _length(self) -> float:
        return float(self.rng.exponential(self.traffic.burst_s if self.bursting else self.traffic.calm_s))


class RecordedTraffic:
    """Arrivals that happened: ascending seconds.

    Parameters
    ----------
    times_s : array of float
        At least one.
    name : str
        Named in errors.
    """

    def __init__(self, times_s: FloatArray, name: str = "the trace") -> None:
        if not len(times_s) or not np.isfinite(times_s).all() or (np.diff(times_s) < 0).any() or times_s[0] < 0:
            raise DataError(f"{name} must hold arrival times: at least one, in seconds ≥ 0, ascending")
        self.times_s = times_s

    @classmethod
    def read(cls, path: Path) -> RecordedTraffic:
        """Read a file of numbers, one a line; blank lines and those with # are left out.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        RecordedTraffic
            Its times, in its order.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            times = [float(line) for line in lines if line.strip() and not line.startswith("#")]
        except (ValueError, OSError) as error:
            raise DataError(f"{path} is no list of arrival times, a number of seconds a line: {error}") from error
        return cls(np.array(times, dtype=np.float64), str(path))

    def chunks(self, seed: int) -> Iterator[FloatArray]:
        """Yield the recorded times.

        Parameters
        ----------
        seed : int
            Changes nothing.

        Yields
        ------
        array of float
            Ascending times in seconds, a piece of them.
        """
        for begin in range(0, len(self.times_s), CHUNK):
            yield self.times_s[begin : begin + CHUNK]


def draw_requests(traffic: Traffic, n: int, prompts: int, seed: int) -> Iterator[tuple[FloatArray, IntArray]]:
    """Draw the times of requests, and which prompt each sends.

    Parameters
    ----------
    traffic : Traffic
        When requests come.
    n : int
        How many at most, at least one.
    prompts : int
        How many there are to draw from, with replacement.
    seed : int
        Of both.

    Yields
    ------
    tuple of two arrays
        Times in seconds, and indexes of prompts: a piece of them.
    """
    if n < 1 or prompts < 1:
        raise DataError(f"at least one request and one prompt are needed, found {n} and {prompts}")
    rng, left = np.random.default_rng([seed, 1]), n
    for times in traffic.chunks(seed):
        taken = times[:left]
        if len(taken):
            yield taken, rng.integers(0, prompts, len(taken))
        left -= len(taken)
        if left <= 0:
            return
