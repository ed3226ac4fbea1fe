"""Quantiles of any number of durations in a fixed amount of memory."""

from __future__ import annotations

import numpy as np

from router_models.errors import DataError
from router_models.types import FloatArray

SHORTEST_S, LONGEST_S = 1e-6, 1e7
GROWTH = 1.005
"""Each bin's upper end by its lower one: a quantile is off by a quarter of a percent at most."""


class DurationHistogram:
    """Counts of durations in bins that grow by `GROWTH`, with their exact sum and greatest.

    Durations below `SHORTEST_S` are one bin, read as 0; above `LONGEST_S` another, read as the greatest.
    """

    def __init__(self) -> None:
        self._bins = int(np.ceil(np.log(LONGEST_S / SHORTEST_S) / np.log(GROWTH)))
        self.counts = np.zeros(self._bins + 2, dtype=np.int64)
        self.total_s = 0.0
        self.greatest_s = 0.0

    def add(self, seconds: FloatArray) -> None:
        """Count durations; DataError for a negative one or NaN."""
        if not len(seconds):
            return
        if not (seconds >= 0).all():
            raise DataError(f"a duration is negative or not a number: {float(seconds[~(seconds >= 0)][0])}")
        with np.errstate(divide="ignore"):
            places = np.floor(np.log(seconds / SHORTEST_S) / np.log(GROWTH)) + 1
        self.counts += np.bincount(np.clip(places, 0, self._bins + 1).astype(np.int64), minlength=self._bins + 2)
        self.total_s += float(seconds.sum())
        self.greatest_s = max(self.greatest_s, float(seconds.max()))

    @property
    def n(self) -> int:
        """Return how many were counted."""
        return int(self.counts.sum())

    @property
    def mean_s(self) -> float:
        """Return the exact mean; NaN where nothing was counted."""
        return self.total_s / self.n if self.n else float("nan")

    def quantile(self, share: float) -> float:
        """Return the duration that a share does not exceed, to a quarter of a percent; NaN where there is none."""
        if not self.n:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.counts), max(1.0, np.ceil(share * self.n))))
        if place == 0:
            return 0.0
        if place > self._bins:
            return self.greatest_s
        return float(min(SHORTEST_S * GROWTH ** (place - 0.5), self.greatest_s))

    def share_above(self, seconds: float) -> float:
        """Return the share of durations above a limit, to the bin that the limit lies in; NaN where there is none."""
        if not self.n:
            return float("nan")
        place = 0 if seconds < SHORTEST_S else int(np.floor(np.log(seconds / SHORTEST_S) / np.log(GROWTH))) + 1
        return float(self.counts[min(place, self._bins + 1) + 1 :].sum()) / self.n
