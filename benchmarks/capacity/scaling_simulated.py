"""The rules of `benchmarks.scaling` at ten times its load, in simulated time: late requests beside replica-seconds.

    python -m benchmarks.capacity.scaling_simulated [--runs 5]

Two tiers of replicas that take two seconds an answer, eight to start, and four requests at once. Each second's needs,
delays and bounds are applied as Ray Serve does; what is expected is worked out by the graph's own `ExpectedCalls`. Not
simulated: processors that replicas share while they start, and load that is told every other second.
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

from benchmarks.scaling import ANSWER_S, ESCALATED, LATE_S, PATTERNS, START_S
from router_models.types import Call, Usage
from serve_graph.cluster.load.expected_calls import ExpectedCalls

STEP_S, SECONDS, WARM_S, DRAIN_S = 0.1, 75.0, 60.0, 60.0
TIMES, AT_ONCE = 10, 4
LOOK_BACK_S, RECENT_S, UP_S, DOWN_S = 10.1, 1.0, 1.0, 15.0
TARGETS = (1.0, 1.5, 2.0)


@dataclass
class Tier:
    """Replicas that answer, those that start, and who waits; `seconds`: replica-seconds so far."""

    ready: int = TIMES
    starting: list[float] = field(default_factory=list)
    queue: deque[tuple[float, bool]] = field(default_factory=deque)
    busy: list[tuple[float, tuple[float, bool]]] = field(default_factory=list)
    late_load: deque[float] = field(default_factory=deque)
    above_s: float = 0.0
    below_s: float = 0.0
    seconds: float = 0.0

    @property
    def requests(self) -> float:
        return float(len(self.busy) + len(self.queue))

    def advance(self, now: float) -> list[tuple[float, bool]]:
        """Answer, begin and start what is due; returns what was answered."""
        up = [at for at in self.starting if at <= now]
        self.ready, self.starting = self.ready + len(up), [at for at in self.starting if at > now]
        done = [request for until, request in self.busy if until <= now]
        self.busy = [one for one in self.busy if one[0] > now]
        while self.queue and len(self.busy) < AT_ONCE * self.ready:
            self.busy.append((now + ANSWER_S, self.queue.popleft()))
        self.late_load.append(self.requests)
        if len(self.late_load) > LOOK_BACK_S / STEP_S:
            self.late_load.popleft()
        self.seconds += (self.ready + len(self.starting)) * STEP_S
        return done

    def scale(self, now: float, needed: float, target: float) -> None:
        """As Ray Serve does: more after `UP_S` of too few, fewer after `DOWN_S` of too many."""
        have = self.ready + len(self.starting)
        wanted = min(8 * TIMES, max(TIMES, math.ceil(needed / target - 1e-9)))
        self.above_s = self.above_s + STEP_S if wanted > have else 0.0
        self.below_s = self.below_s + STEP_S if wanted < have else 0.0
        if self.above_s > UP_S:
            self.starting += [now + START_S] * (wanted - have)
            self.above_s = 0.0
        elif self.below_s > DOWN_S:
            kept = max(0, len(self.starting) - (have - wanted))
            self.ready, self.starting = wanted - kept, self.starting[:kept]
            self.below_s = 0.0


def seen_before() -> ExpectedCalls:
    """What the graph has learned of earlier requests: two in five were escalated."""
    calls = ExpectedCalls()
    for i in range(400):
        tiers = ("cheap", "frontier") if i % 5 < 5 * ESCALATED else ("cheap",)
        calls.note(_Record(tuple(Call(tier, Usage(1, 1), 1.0, Decimal(0)) for tier in tiers)))  # type: ignore[arg-type]
    return calls


@dataclass(frozen=True)
class _Record:
    calls: tuple[Call, ...]


def run(pattern: Any, anticipate: bool, target: float, seed: int, calls: ExpectedCalls) -> tuple[float, float]:
    """The share that is late, and replica-seconds of both tiers, of one run."""
    rng, now = Random(seed), -WARM_S
    cheap, frontier, took = Tier(), Tier(), list[float]()
    said: deque[dict[str, float]] = deque(maxlen=round(RECENT_S / STEP_S))
    while now < SECONDS + DRAIN_S:
        part = now / SECONDS
        rate = TIMES * (pattern(max(0.0, part)) if part < 1 else 0.0)
        cheap.queue.extend((now, rng.random() < ESCALATED) for _ in range(_poisson(rng, rate * STEP_S)))
        for began, escalated in cheap.advance(now):
            if escalated:
                frontier.queue.append((began, True))
            elif began >= 0:
                took.append(now - began)
        took += [now - began for began, _ in frontier.advance(now) if began >= 0]
        under_way = {"cheap": cheap.requests, "frontier": frontier.requests}
        said.append(calls.expected(under_way, {"cheap": ANSWER_S, "frontier": ANSWER_S}))
        for name, tier in (("cheap", cheap), ("frontier", frontier)):
            needed = sum(tier.late_load) / len(tier.late_load)
            if anticipate:
                needed = max(needed, sum(one[name] for one in said) / len(said))
            tier.scale(now, needed, target)
        if abs(now) < STEP_S / 2:
            cheap.seconds = frontier.seconds = 0.0
        if abs(now - SECONDS) < STEP_S / 2:
            used = cheap.seconds + frontier.seconds
        now += STEP_S
    return sum(one > LATE_S for one in took) / len(took), used / TIMES


def _poisson(rng: Random, mean: float) -> int:
    number, product, least = 0, rng.random(), math.exp(-mean)
    while product > least:
        number, product = number + 1, product * rng.random()
    return number


def main() -> None:
    """Print the table: late, and replica-seconds for a tenth of the load, by pattern, rule and target."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--runs", type=int, default=5)
    runs, calls = reads.parse_args().runs, seen_before()
    print(f"| pattern | scaling | {' | '.join(f'target {target:g}' for target in TARGETS)} |\n|---|---|{'---|' * 3}")
    for name, pattern in PATTERNS.items():
        for anticipate in (False, True):
            cells = []
            for target in TARGETS:
                found = [run(pattern, anticipate, target, seed, calls) for seed in range(runs)]
                late, used = (sum(column) / runs for column in zip(*found, strict=True))
                cells.append(f"{late:.1%}, {used:.0f}")
            print(f"| {name} | {'anticipating' if anticipate else 'plain'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
