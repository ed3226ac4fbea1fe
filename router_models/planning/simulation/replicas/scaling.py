"""When replicas of a tier are added and taken away: by Ray Serve's rule, or the graph's, which looks ahead."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from router_models.errors import DataError

RECENT_S = 1.0
"""Over so many seconds expected calls are averaged, as a running graph does."""


@dataclass(frozen=True, slots=True)
class ReplicaScaling:
    """Hold a tier's bounds and delays; names and meaning as in a configuration's `scaling`.

    Parameters
    ----------
    min_replicas, max_replicas : int
        Bounds, those that start included.
    target_ongoing_requests : float
        Requests at once that a replica should have on average.
    start_s : float
        Seconds from the decision until a replica answers.
    upscale_delay_s, downscale_delay_s : float
        For how long too few, or too many, are there before anything is done.
    look_back_s : float
        Over how many seconds requests are averaged.
    anticipate : bool
        Whether calls that are expected count where they are more (`expected_calls`).
    """

    min_replicas: int
    max_replicas: int
    target_ongoing_requests: float
    start_s: float
    upscale_delay_s: float = 3.0
    downscale_delay_s: float = 600.0
    look_back_s: float = 30.0
    anticipate: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise DataError(f"replicas need 1 ≤ min ≤ max, found {self.min_replicas} and {self.max_replicas}")
        if not self.target_ongoing_requests > 0:
            raise DataError(f"target_ongoing_requests must be above 0, found {self.target_ongoing_requests}")
        if min(self.start_s, self.upscale_delay_s, self.downscale_delay_s, self.look_back_s) < 0:
            raise DataError(f"a start, delay or look-back is below 0 s: {self}")


class Scaler:
    """Decide once every `every_s` how many replicas there shall be.

    Parameters
    ----------
    scaling : ReplicaScaling
        Bounds and delays.
    every_s : float
        Seconds from one decision to the next.
    """

    def __init__(self, scaling: ReplicaScaling, every_s: float) -> None:
        self.scaling, self.every_s = scaling, every_s
        self._had: deque[float] = deque(maxlen=max(1, round(scaling.look_back_s / every_s)))
        self._expected: deque[float] = deque(maxlen=max(1, round(RECENT_S / every_s)))
        self._above_s = self._below_s = 0.0

    def change(self, replicas: int, ongoing: float, expected: float) -> int:
        """Return how many replicas to add (> 0) or to take away (< 0).

        Parameters
        ----------
        replicas : int
            Those there are, with those that start.
        ongoing, expected : float
            Requests at work or waiting, and calls that are expected (`expected_calls`).
        """
        rule = self.scaling
        self._had.append(ongoing)
        self._expected.append(expected)
        needed = sum(self._had) / len(self._had)
        if rule.anticipate:
            needed = max(needed, sum(self._expected) / len(self._expected))
        wanted = math.ceil(needed / rule.target_ongoing_requests - 1e-9)
        more = min(rule.max_replicas, max(rule.min_replicas, wanted)) - replicas
        self._above_s = self._above_s + self.every_s if more > 0 else 0.0
        self._below_s = self._below_s + self.every_s if more < 0 else 0.0
        if self._above_s > rule.upscale_delay_s or self._below_s > rule.downscale_delay_s:
            self._above_s = self._below_s = 0.0
            return more
        return 0
