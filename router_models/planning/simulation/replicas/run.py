"""Send tens of millions of requests through tiers of replicas, in bounded memory.

Requests go down the ladder of tiers only, and a tier's scaling looks at its own and at cheaper tiers' calls. So each
tier can be advanced by itself from moment to moment, the cheapest first: exact, like `queues.simulate`, at a hundred
times its pace. Memory holds the requests that are under way, and a histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from router_models.errors import DataError
from router_models.planning.simulation.itineraries import Itinerary
from router_models.planning.simulation.load import NO_OVERHEAD, Overhead
from router_models.planning.simulation.replicas.expected import expected_calls
from router_models.planning.simulation.replicas.histogram import DurationHistogram
from router_models.planning.simulation.replicas.paths import Paths
from router_models.planning.simulation.replicas.scaling import Scaler
from router_models.planning.simulation.replicas.tier_queue import CallBatch, ReplicaTier, TierQueue, joined
from router_models.types import FloatArray, IntArray

MOST_SEEN = 100_000
"""Moments kept of how many replicas there were."""


@dataclass
class TierSeen:
    """Hold what one tier did.

    Parameters
    ----------
    calls, refused : int
        Calls made, and calls that found its queue full.
    busy_s, replica_s : float
        Seconds that its places were taken, and that its replicas were there or starting; what replicas that were taken
        away still had to end is not counted.
    most_replicas : int
        The greatest number of replicas.
    waits : DurationHistogram
        Seconds that calls waited.
    ongoing_s : float
        Calls at work or waiting, as seen at each moment, times the seconds from the one before.
    replicas : list of tuple
        (second, replicas) at each change.
    """

    calls: int = 0
    refused: int = 0
    busy_s: float = 0.0
    replica_s: float = 0.0
    most_replicas: int = 0
    waits: DurationHistogram = field(default_factory=DurationHistogram)
    ongoing_s: float = 0.0
    replicas: list[tuple[float, int]] = field(default_factory=list)


@dataclass
class ReplicaRun:
    """Hold the figures of a run: requests that were served (answered, or abstained from) or refused; its tiers.

    `duration_s` is when the last request left; where a tier scales, the decision after that.
    """

    requests: int
    served: int
    refused: int
    duration_s: float
    latencies: DurationHistogram
    tiers: Mapping[str, TierSeen]


def simulate_replicas(
    tiers: Mapping[str, ReplicaTier],
    itineraries: Sequence[Itinerary],
    requests: Iterable[tuple[FloatArray, IntArray]],
    overhead: Overhead = NO_OVERHEAD,
    *,
    every_s: float = 1.0,
) -> ReplicaRun:
    """Send requests along their prompts' itineraries through replicas that scale.

    Parameters
    ----------
    tiers : mapping of str to ReplicaTier
        Cheapest first; every tier that an itinerary calls.
    itineraries : sequence of Itinerary
        One per prompt, each step a single call of a dearer tier than the one before.
    requests : iterable of tuple of arrays
        Times of arrival, ascending over all pieces, and which prompt each sends (`traffic.draw_requests`).
    overhead : Overhead
        Seconds of decisions and verdicts; its dollars are not counted.
    every_s : float
        Seconds from one decision on replicas to the next, where a tier scales; Ray Serve decides every 0.1 s.

    Returns
    -------
    ReplicaRun

    Raises
    ------
    DataError
        For an itinerary with several calls at once, or back to a cheaper tier; unequal lengths; times that do not
        ascend; no requests.
    """
    if not every_s > 0:
        raise DataError(f"replicas are decided on every so many seconds, above 0; found {every_s}")
    return _Replicas(tiers, Paths.of(itineraries, tuple(tiers)), overhead, every_s).run(requests)


class _Replicas:
    def __init__(self, tiers: Mapping[str, ReplicaTier], paths: Paths, overhead: Overhead, every_s: float) -> None:
        if unequal := [name for name, tier in tiers.items() if len(tier.service_s) != paths.prompts]:
            raise DataError(f"{paths.prompts} itineraries, but service times of {unequal[0]!r} for other prompts")
        self.paths, self.overhead, self.every_s = paths, overhead, every_s
        self.names = tuple(tiers)
        self.queues = [TierQueue(tier) for tier in tiers.values()]
        self.scalers = [None if t.scaling is None else Scaler(t.scaling, every_s) for t in tiers.values()]
        self.seen = {name: TierSeen(replicas=[(0.0, tier.replicas)]) for name, tier in tiers.items()}
        self.coming: list[list[CallBatch]] = [[] for _ in tiers]
        self.latencies = DurationHistogram()
        self.requests = self.refused = 0
        self.now = self.last_s = self.end_s = 0.0
        means = {name: paths.mean_service_s(i, tier.service_s) for i, (name, tier) in enumerate(tiers.items())}
        self.means: dict[str, float | None] = dict(means)

    def run(self, requests: Iterable[tuple[FloatArray, IntArray]]) -> ReplicaRun:
        scales = any(scaler is not None for scaler in self.scalers)
        for times, rows in requests:
            if not len(times):
                continue
            if len(times) != len(rows) or times[0] < self.last_s or (np.diff(times) < 0).any():
                raise DataError("arrival times must ascend, with a prompt for each")
            self.last_s = float(times[-1])
            self.end_s = max(self.end_s, self.last_s)
            self.requests += len(times)
            self._arrive(times, rows)
            while scales and self.now + self.every_s < self.last_s:
                self._advance(self.now + self.every_s)
            if not scales:
                self._advance(self.last_s)
        if not self.requests:
            raise DataError("at least one request is needed")
        while scales and (self.now < self.last_s or any(self.coming) or any(queue.ongoing for queue in self.queues)):
            self._advance(self.now + self.every_s)
        if not scales:
            self._advance(math.inf)
        for name, queue in zip(self.names, self.queues, strict=True):
            seen = self.seen[name]
            seen.calls, seen.refused, seen.busy_s, seen.waits = queue.calls, queue.refused, queue.busy_s, queue.waits
            seen.replica_s = seen.replica_s if scales else queue.replicas * self.end_s
            seen.most_replicas = max(seen.most_replicas, queue.tier.replicas)
        duration_s = self.now if scales else self.end_s
        return ReplicaRun(self.requests, self.latencies.n, self.refused, duration_s, self.latencies, self.seen)

    def _arrive(self, times: FloatArray, rows: IntArray) -> None:
        at = times + self.overhead.router_s * self.paths.routed[rows]
        first = self.paths.first[rows]
        for tier in range(len(self.queues)):
            chosen = first == tier
            if chosen.any():
                self.coming[tier].append(CallBatch(at[chosen], times[chosen], rows[chosen]))

    def _advance(self, until_s: float) -> None:
        """Take every tier to a moment, the cheapest first, then decide on replicas."""
        for tier, queue in enumerate(self.queues):
            begun, refused = queue.advance(self._due(tier, until_s), until_s)
            self.refused += len(refused)
            judged = self.paths.judged[tier][begun.rows]
            done = CallBatch(begun.at_s + self.overhead.verifier_s * judged, begun.came_s, begun.rows)
            self.end_s = max(self.end_s, float(done.at_s.max(initial=0.0)))
            following = self.paths.following[tier][done.rows]
            last = following < 0
            self.latencies.add((done.at_s - done.came_s)[last])
            for later in range(tier + 1, len(self.queues)):
                chosen = following == later
                if chosen.any():
                    self.coming[later].append(done.where(chosen))
        if any(scaler is not None for scaler in self.scalers):
            self._scale(until_s)
        self.now = until_s

    def _due(self, tier: int, until_s: float) -> CallBatch:
        """The calls that come to a tier before a moment, in their order; the others stay."""
        every = joined(self.coming[tier])
        due = every.at_s < until_s
        self.coming[tier] = [every.where(~due)] if not due.all() else []
        now = every.where(due)
        return now.where(np.argsort(now.at_s, kind="stable"))

    def _scale(self, now: float) -> None:
        under_way = {name: float(queue.ongoing) for name, queue in zip(self.names, self.queues, strict=True)}
        expected = expected_calls(under_way, self.means, self._sent_on, self._came_from)
        for name, queue, scaler in zip(self.names, self.queues, self.scalers, strict=True):
            seen = self.seen[name]
            seen.ongoing_s += under_way[name] * self.every_s
            seen.replica_s += queue.replicas * self.every_s
            change = 0 if scaler is None else scaler.change(queue.replicas, under_way[name], expected[name])
            if change > 0 and scaler is not None:
                queue.add(change, now + scaler.scaling.start_s)
            elif change < 0:
                queue.remove(-change)
            if change and len(seen.replicas) < MOST_SEEN:
                seen.replicas.append((now, queue.replicas))
            seen.most_replicas = max(seen.most_replicas, queue.replicas)

    def _sent_on(self, cheaper: str, tier: str) -> float:
        return float(self.paths.sent_on[self.names.index(cheaper), self.names.index(tier)])

    def _came_from(self, tier: str, cheaper: str) -> float:
        return float(self.paths.came_from[self.names.index(tier), self.names.index(cheaper)])
