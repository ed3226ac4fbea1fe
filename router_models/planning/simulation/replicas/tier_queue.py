"""One tier: a first-come queue in front of its replicas' places, advanced from moment to moment.

The wait of each call follows from when places become free (Kiefer and Wolfowitz, "On the theory of queues with many
servers", 1955): the next call takes the place that is free first. A call that would begin after the moment up to which
the tier is advanced stays in the queue, so that replicas which are added then take it.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from heapq import heapify, heapreplace

import numpy as np

from router_models.errors import DataError
from router_models.planning.simulation.replicas.histogram import DurationHistogram
from router_models.planning.simulation.replicas.scaling import ReplicaScaling
from router_models.types import BoolArray, FloatArray, IntArray

PIECE = 8192
"""Calls turned into Python's numbers at once: a queue of millions stays in arrays."""


@dataclass(frozen=True, slots=True)
class ReplicaTier:
    """Hold a tier that is simulated.

    Parameters
    ----------
    service_s : array of float, (prompts,)
        Seconds that a call with each prompt keeps its place.
    places : int
        Calls that a replica has at once.
    replicas : int
        Replicas at the start.
    scaling : ReplicaScaling, optional
        None: as many replicas all the time.
    queue_limit : int, optional
        A call that finds so many waiting is refused; None = no limit.
    """

    service_s: FloatArray
    places: int
    replicas: int = 1
    scaling: ReplicaScaling | None = None
    queue_limit: int | None = None

    def __post_init__(self) -> None:
        if self.places < 1 or self.replicas < 1:
            raise DataError(f"a tier needs at least one replica of one place, found {self.replicas} of {self.places}")
        if not (len(self.service_s) and np.isfinite(self.service_s).all() and (self.service_s >= 0).all()):
            raise DataError("service times must be finite and ≥ 0 for every prompt: record or assume them")
        if self.queue_limit is not None and self.queue_limit < 0:
            raise DataError(f"a queue's limit is 0 at least, found {self.queue_limit}")


@dataclass(frozen=True, slots=True)
class CallBatch:
    """Hold calls: when each comes to a tier, when its request came, and which prompt it sends; equally long."""

    at_s: FloatArray
    came_s: FloatArray
    rows: IntArray

    def __len__(self) -> int:
        return len(self.at_s)

    def where(self, chosen: BoolArray | IntArray | slice) -> CallBatch:
        """Return some of the calls."""
        return CallBatch(self.at_s[chosen], self.came_s[chosen], self.rows[chosen])


def joined(batches: list[CallBatch]) -> CallBatch:
    """Return calls of several batches as one."""
    if not batches:
        return CallBatch(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    return CallBatch(
        np.concatenate([batch.at_s for batch in batches]),
        np.concatenate([batch.came_s for batch in batches]),
        np.concatenate([batch.rows for batch in batches]),
    )


@dataclass
class TierQueue:
    """Hold a tier's state during a run, and what is counted of it."""

    tier: ReplicaTier
    free_s: list[float] = field(default_factory=list)
    starting: list[float] = field(default_factory=list)
    ready: int = 0
    waiting: deque[CallBatch] = field(default_factory=deque)
    queued: int = 0
    ends_s: FloatArray = field(default_factory=lambda: np.empty(0))
    calls: int = 0
    refused: int = 0
    busy_s: float = 0.0
    waits: DurationHistogram = field(default_factory=DurationHistogram)

    def __post_init__(self) -> None:
        self.ready = self.tier.replicas
        self.free_s = [0.0] * (self.ready * self.tier.places)

    @property
    def replicas(self) -> int:
        """Return how many replicas answer or start."""
        return self.ready + len(self.starting)

    @property
    def ongoing(self) -> int:
        """Return the calls at work or waiting, at the moment up to which the tier is advanced."""
        return len(self.ends_s) + self.queued

    def advance(self, come: CallBatch, until_s: float) -> tuple[CallBatch, CallBatch]:
        """Take calls that come before a moment, in the order in which they come, and begin all that can by then.

        Returns
        -------
        begun, refused : CallBatch
            Those that began, `at_s` being when each ends (perhaps after the moment); and those that were refused.
        """
        come, turned_away = self._admit(come, until_s)
        if len(come):
            self.waiting.append(come)
            self.queued += len(come)
        begun: list[CallBatch] = []
        while self.waiting:
            piece = self.waiting.popleft()
            if len(piece) > PIECE:
                self.waiting.appendleft(piece.where(slice(PIECE, None)))
                piece = piece.where(slice(PIECE))
            service = self.tier.service_s[piece.rows]
            starts = np.array(_begin(self.free_s, piece.at_s.tolist(), service.tolist(), until_s), dtype=np.float64)
            n = len(starts)
            self.waits.add(starts - piece.at_s[:n])
            self.busy_s += float(service[:n].sum())
            begun.append(CallBatch(starts + service[:n], piece.came_s[:n], piece.rows[:n]))
            if n < len(piece):
                self.waiting.appendleft(piece.where(slice(n, None)))
                break
        done = joined(begun)
        self.calls, self.queued = self.calls + len(done), self.queued - len(done)
        ends = np.concatenate([self.ends_s, done.at_s])
        self.ends_s = ends[ends > until_s]
        up = sum(at <= until_s for at in self.starting)
        self.ready, self.starting = self.ready + up, [at for at in self.starting if at > until_s]
        return done, turned_away

    def add(self, replicas: int, ready_s: float) -> None:
        """Start replicas that answer from a moment on."""
        self.starting += [ready_s] * replicas
        self.free_s += [ready_s] * (replicas * self.tier.places)
        heapify(self.free_s)

    def remove(self, replicas: int) -> None:
        """Take replicas away: first those that start, then evenly busy and idle ones, which end what they have."""
        stopped = Counter(self.starting[-replicas:]) if self.starting else Counter()
        self.starting = self.starting[:-replicas]
        replicas -= stopped.total()
        left = {ready_s: n * self.tier.places for ready_s, n in stopped.items()}
        self.free_s.sort()
        kept = []
        for at in self.free_s:
            if left.get(at):
                left[at] -= 1
            else:
                kept.append(at)
        self.free_s = kept
        gone = set(np.linspace(0, len(self.free_s) - 1, replicas * self.tier.places).round().astype(int).tolist())
        self.free_s = [at for i, at in enumerate(self.free_s) if i not in gone]
        self.ready -= replicas
        heapify(self.free_s)

    def _admit(self, come: CallBatch, until_s: float) -> tuple[CallBatch, CallBatch]:
        """Split calls into those that find room in the queue and the others, by a rehearsal of who begins when."""
        limit = self.tier.queue_limit
        if limit is None or not len(come):
            return come, come.where(slice(0))
        places = list(self.free_s)
        begins = deque[float]()
        for batch in self.waiting:
            service = self.tier.service_s[batch.rows].tolist()
            for at, takes in zip(batch.at_s.tolist(), service, strict=True):
                begins.append(max(at, places[0]))
                heapreplace(places, begins[-1] + takes)
        taken = np.ones(len(come), dtype=np.bool_)
        service = self.tier.service_s[come.rows].tolist()
        for i, at in enumerate(come.at_s.tolist()):
            while begins and begins[0] <= at:
                begins.popleft()
            if len(begins) >= limit and places[0] > at:
                taken[i] = False
                continue
            begins.append(max(at, places[0]))
            heapreplace(places, begins[-1] + service[i])
        self.refused += int((~taken).sum())
        return come.where(taken), come.where(~taken)


def _begin(free_s: list[float], at_s: list[float], service_s: list[float], until_s: float) -> list[float]:
    """Begin calls in their order as places become free, up to a moment; returns when those began."""
    starts: list[float] = []
    begun = starts.append
    for start, takes in zip(at_s, service_s, strict=True):
        free = free_s[0]
        if free > start:
            start = free
        if start >= until_s:
            break
        heapreplace(free_s, start + takes)
        begun(start)
    return starts
