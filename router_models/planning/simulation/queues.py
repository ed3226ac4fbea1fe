"""Replay a workload through a policy: queues, slots, service times and prices. Event-driven, exact, repeatable.

Each tier is a first-come queue in front of `slots` places; a call holds its place for its recorded service time. The
next step of an itinerary starts when the last call of the step before has ended and been judged. Not modelled: that
an engine slows down as its batch fills, retries, and time-outs; recorded latencies include the conditions under which
they were measured.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from router_models.errors import DataError
from router_models.planning.simulation.itineraries import Itinerary
from router_models.planning.simulation.load import (
    NO_OVERHEAD,
    Overhead,
    PriceSchedule,
    ReplayTier,
    Simulated,
    TierLoad,
)

__all__ = ["NO_OVERHEAD", "Overhead", "PriceSchedule", "ReplayTier", "Simulated", "TierLoad", "simulate"]


def simulate(
    tiers: Mapping[str, ReplayTier],
    itineraries: Sequence[Itinerary],
    times_s: Sequence[float],
    rows: Sequence[int],
    overhead: Overhead = NO_OVERHEAD,
    *,
    keep_trace: bool = False,
) -> Simulated:
    """Send requests along their prompts' itineraries.

    Pure: equal input gives an equal result. Events at the same instant happen in the order in which they were caused.

    Parameters
    ----------
    tiers : mapping of str to ReplayTier
        Every tier that an itinerary calls.
    itineraries : sequence of Itinerary
        One per prompt.
    times_s : sequence of float
        When each request arrives, in seconds.
    rows : sequence of int
        Which prompt each request sends.
    overhead : Overhead
        The cost of decisions and verdicts.
    keep_trace : bool
        Whether to record every event.

    Returns
    -------
    Simulated

    Raises
    ------
    DataError
        For no requests, unequal lengths, or a tier that is not replayed.
    """
    if len(times_s) != len(rows) or not len(rows):
        raise DataError(f"{len(times_s)} arrival times for {len(rows)} requests")
    unknown = {t for way in itineraries for step in way.steps for t in step.tiers} - set(tiers)
    if unknown:
        raise DataError(f"itineraries name tier(s) {sorted(unknown)} that are not replayed; known: {sorted(tiers)}")
    run = _Run(tiers, itineraries, rows, times_s, overhead, keep_trace)
    for i, time_s in enumerate(times_s):
        run.later(time_s, "arrive", i)
    while run.events:
        now, _, what, request, tier = heapq.heappop(run.events)
        run.happen(now, what, request, tier)
    return run.result()


@dataclass
class _Place:
    """Hold one tier's state during a run."""

    queue: deque[tuple[float, int]] = field(default_factory=deque)
    busy: int = 0
    calls: int = 0
    answered: int = 0
    busy_s: float = 0.0
    queue_s: float = 0.0
    queue_max: int = 0
    changed_s: float = 0.0
    cost: Decimal = Decimal(0)
    waits: list[float] = field(default_factory=list)


class _Run:
    def __init__(
        self,
        tiers: Mapping[str, ReplayTier],
        itineraries: Sequence[Itinerary],
        rows: Sequence[int],
        times_s: Sequence[float],
        overhead: Overhead,
        keep_trace: bool,
    ) -> None:
        self.tiers, self.ways = tiers, [itineraries[row] for row in rows]
        self.rows, self.times_s, self.overhead, self.keep_trace = rows, times_s, overhead, keep_trace
        self.places = {name: _Place() for name in tiers}
        self.events: list[tuple[float, int, str, int, str]] = []
        self.order = 0
        self.step = [0] * len(rows)
        self.open_calls = [0] * len(rows)
        self.refused: set[int] = set()
        self.extra = Decimal(0)
        self.latencies: list[float] = []
        self.grades: list[float] = []
        self.actions: Counter[str] = Counter()
        self.end_s = 0.0
        self.trace: list[Mapping[str, Any]] = []

    def later(self, time_s: float, what: str, request: int, tier: str = "") -> None:
        heapq.heappush(self.events, (time_s, self.order, what, request, tier))
        self.order += 1

    def happen(self, now: float, what: str, request: int, tier: str) -> None:
        self.end_s = max(self.end_s, now)
        if what == "arrive":
            self._note(now, "arrive", request, "")
            routed = self.ways[request].routed
            self.extra += self.overhead.router_usd if routed else 0
            self.later(now + (self.overhead.router_s if routed else 0.0), "step", request)
        elif what == "step":
            self._begin_step(now, request)
        else:
            self._end_call(now, request, tier)

    def _begin_step(self, now: float, request: int) -> None:
        way = self.ways[request]
        if self.step[request] == len(way.steps):
            return self._reply(now, request)
        wanted = way.steps[self.step[request]].tiers
        for tier, calls in Counter(wanted).items():
            place, limit = self.places[tier], self.tiers[tier].queue_limit
            free = self.tiers[tier].slots - place.busy
            if limit is not None and calls > free and len(place.queue) + calls - free > limit:
                self.refused.add(request)
                self.actions["refused"] += 1
                return self._note(now, "refuse", request, tier)
        self.open_calls[request] = len(wanted)
        for tier in wanted:
            self._queue_changes(now, tier)
            self.places[tier].queue.append((now, request))
            self._start_calls(now, tier)
        return None

    def _start_calls(self, now: float, tier: str) -> None:
        place, setup = self.places[tier], self.tiers[tier]
        while place.queue and place.busy < setup.slots:
            self._queue_changes(now, tier)
            queued_s, request = place.queue.popleft()
            row = self.rows[request]
            service = float(setup.service_s[row])
            place.busy += 1
            place.calls += 1
            place.busy_s += service
            place.waits.append(now - queued_s)
            place.cost += setup.prices.at(now).cost(setup.usage[row]) * setup.price_factor
            self._note(now, "start", request, tier)
            self.later(now + service, "end", request, tier)
        place.queue_max = max(place.queue_max, len(place.queue))

    def _end_call(self, now: float, request: int, tier: str) -> None:
        self.places[tier].busy -= 1
        self._note(now, "end", request, tier)
        self._start_calls(now, tier)
        self.open_calls[request] -= 1
        if self.open_calls[request]:
            return
        judged = self.ways[request].steps[self.step[request]].judged
        self.extra += self.overhead.verifier_usd if judged else 0
        self.step[request] += 1
        self.later(now + (self.overhead.verifier_s if judged else 0.0), "step", request)

    def _reply(self, now: float, request: int) -> None:
        way = self.ways[request]
        self.latencies.append(now - self.times_s[request])
        self.actions[str(way.action)] += 1
        if way.answered_by is not None:
            self.places[way.answered_by].answered += 1
            self.grades.append(float(self.tiers[way.answered_by].grades[self.rows[request]]))
        self._note(now, str(way.action), request, way.answered_by or "")

    def _queue_changes(self, now: float, tier: str) -> None:
        place = self.places[tier]
        place.queue_s += len(place.queue) * (now - place.changed_s)
        place.changed_s = now

    def _note(self, now: float, what: str, request: int, tier: str) -> None:
        if self.keep_trace:
            waiting = {name: len(place.queue) for name, place in self.places.items() if place.queue}
            self.trace.append({"t": round(now, 6), "what": what, "request": request, "tier": tier, "waiting": waiting})

    def result(self) -> Simulated:
        duration = self.end_s
        loads = {
            name: TierLoad(
                calls=place.calls,
                answered=place.answered,
                cost_usd=place.cost,
                utilisation=place.busy_s / (self.tiers[name].slots * duration) if duration else 0.0,
                queue_mean=place.queue_s / duration if duration else 0.0,
                queue_max=place.queue_max,
                wait_p95_s=float(np.quantile(place.waits, 0.95)) if place.waits else 0.0,
            )
            for name, place in self.places.items()
        }
        answered = sum(load.answered for load in loads.values())
        return Simulated(
            requests=len(self.rows),
            answered=answered,
            abstained=len(self.latencies) - answered,
            refused=len(self.refused),
            duration_s=duration,
            cost_usd=sum((load.cost_usd for load in loads.values()), Decimal(0)) + self.extra,
            right=float(np.mean(self.grades)) if self.grades else float("nan"),
            latencies_s=np.array(self.latencies, dtype=np.float64),
            tiers=loads,
            actions=dict(self.actions),
            trace=tuple(self.trace),
        )
