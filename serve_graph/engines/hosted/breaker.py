"""A circuit breaker per deployment. Pure: the time is an argument, in seconds on any monotonic clock.

    closed ── `trip_after` failures in a row ──▶ open: no calls for `cooldown_s`
      ▲                                             │
      └── the probe succeeds ── half-open: one probe ◀── cooldown over      (the probe fails: another cooldown)

A `Retry-After` blocks a closed breaker as long, but needs no probe, since the API said when to return.

A call whose caller gives it less time than the tier would (`is_cut`) may run out of time where nothing is wrong. It
probes as well, but beside the one probe that has its whole time, and never in its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LONGEST_REST_S = 300.0  # upper bound of a Retry-After; one call every five minutes is harmless


@dataclass(slots=True)
class Breaker:
    """The breaker of one deployment. Pass what `begin` returned to `succeeded`, `failed` or `dropped`."""

    trip_after: int
    cooldown_s: float
    failures: int = 0
    resting_until: float = -math.inf
    tripped: bool = False
    probing: bool = False
    cut_probing: bool = False
    misconfigured: bool = False  # its last failure was of its key, account or model, and nothing has succeeded since

    def free_at(self, now: float, *, is_cut: bool = False) -> float:
        """Return when a call may start: `now` or later; infinity while a probe is in progress."""
        is_taken = self.probing or (is_cut and self.cut_probing)
        return math.inf if is_taken else max(now, self.resting_until)

    def begin(self, *, is_cut: bool = False) -> bool:
        """Start a call that `free_at` permits; returns whether it is a probe."""
        if is_cut:
            self.cut_probing = self.tripped
        else:
            self.probing = self.tripped
        return self.tripped

    def succeeded(self, probe: bool) -> None:
        """Record an answer. A call that started before the breaker opened does not close it."""
        self.misconfigured = False
        if probe:
            self.tripped = self.probing = self.cut_probing = False
        if not self.tripped:
            self.failures = 0

    def failed(
        self, probe: bool, now: float, retry_after_s: float | None = None, *, is_setups_fault: bool = False
    ) -> None:
        """Record a failure, or a request to retry later; `is_setups_fault`: it would refuse every request."""
        self.failures += 1
        self.misconfigured = is_setups_fault
        if probe:
            self.probing = self.cut_probing = False
        if probe or self.failures >= self.trip_after:
            self.tripped = True
            self.resting_until = max(self.resting_until, now + self.cooldown_s)
        if retry_after_s is not None:
            self.resting_until = max(self.resting_until, now + min(retry_after_s, LONGEST_REST_S))

    def dropped(self, probe: bool, *, is_cut: bool = False) -> None:
        """Record that the client disconnected, or its own time was over: that says nothing about the deployment."""
        if probe and is_cut:
            self.cut_probing = False
        elif probe:
            self.probing = False
