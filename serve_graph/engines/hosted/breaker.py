"""Whether a deployment may be called now. Pure: the time is an argument, in seconds on any steady clock.

    closed ── `trip_after` failures in a row ──▶ tripped: rests for `cooldown_s`
      ▲                                             │
      └── the probe succeeds ── half-open: one probe ◀── the rest is over      (the probe fails: another rest)

A `Retry-After` makes a closed breaker rest as long, too, but no probe is needed then: the API said when to come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LONGEST_REST_S = 300.0  # whatever a Retry-After says; a call every five minutes harms nobody


@dataclass(slots=True)
class Breaker:
    """One deployment's. Every `begin` is followed by `succeeded`, `failed` or `dropped`, given what it returned."""

    trip_after: int
    cooldown_s: float
    failures: int = 0
    resting_until: float = -math.inf
    tripped: bool = False
    probing: bool = False

    def free_at(self, now: float) -> float:
        """When a call may begin: `now` or later; infinity while a probe is out."""
        return math.inf if self.probing else max(now, self.resting_until)

    def begin(self) -> bool:
        """A call begins (`free_at` said it may); returns whether it is the probe."""
        self.probing = self.tripped
        return self.probing

    def succeeded(self, probe: bool) -> None:
        """The deployment answered. A call that began before the trip does not undo it."""
        if probe:
            self.tripped = self.probing = False
        if not self.tripped:
            self.failures = 0

    def failed(self, probe: bool, now: float, retry_after_s: float | None = None) -> None:
        """The deployment did not answer, or asked to be left alone."""
        self.failures += 1
        if probe:
            self.probing = False
        if probe or self.failures >= self.trip_after:
            self.tripped = True
            self.resting_until = max(self.resting_until, now + self.cooldown_s)
        if retry_after_s is not None:
            self.resting_until = max(self.resting_until, now + min(retry_after_s, LONGEST_REST_S))

    def dropped(self, probe: bool) -> None:
        """The caller went away: nothing was learned."""
        if probe:
            self.probing = False
