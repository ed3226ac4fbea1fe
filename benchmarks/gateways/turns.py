"""Blocks of requests that go to each contender in turn, and the figures of one kind of block."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.gateways.contenders import Contender, asked
from benchmarks.graphs import BenchmarkError, Usage
from benchmarks.load import Load, ask, median_and_range, quantile_of
from benchmarks.overhead import LEAST_CHEAP

LEAST_ANSWERED = 0.99
IDLE_S, IDLE_TRIES = 10.0, 9
MOST_IDLE = 0.3
"""Of a core: what a program may use while nobody asks."""


@dataclass(frozen=True)
class Kind:
    """So many callers, whose answers are read whole, or as streams of some fifty chunks.

    `paced`: as an engine of 50 tokens a second sends. `long`: of long questions.
    """

    callers: int
    stream: bool
    paced: bool = False
    long: bool = False

    @property
    def replies(self) -> str:
        if not self.stream:
            return "whole"
        return "paced stream" if self.paced else "stream, long questions" if self.long else "stream"

    def prompts(self, numbers: Iterator[int]) -> Iterator[str]:
        """Questions that nobody has asked yet."""
        at_length = self.stream and not self.long
        return (asked(i, at_length=at_length, paced=self.paced, long=self.long) for i in numbers)


CALLERS = (1, 16, 64, 256)
KINDS = (
    *(Kind(callers, stream) for callers in CALLERS for stream in (False, True)),
    Kind(16, stream=True, long=True),
    Kind(64, stream=True, paced=True),
)


@dataclass
class Block:
    """What one contender did in one block, without the upstream: processor seconds of 1,000 requests, bytes held."""

    load: Load
    cpu_s: float
    resident: int
    by_tier: float = 1.0
    """The share that was answered by the tier that is to answer nearly all."""


@dataclass
class Blocks:
    """All blocks of one kind, by contender."""

    kind: Kind
    of: dict[str, list[Block]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def figures(self, name: str, figure: str) -> list[float]:
        """One figure of each block of a contender."""
        return [FIGURES[figure](block) for block in self.of.get(name, ())]

    def ratios(self, one: str, other: str, figure: str, less: str | None = None) -> list[float]:
        """One contender's figure by another's, of the blocks that were made next to each other.

        `less`: what a third one's block took is taken off both first: what a gateway adds.
        """
        off = self.figures(less, figure) if less else itertools.repeat(0.0)
        rows = zip(self.figures(one, figure), self.figures(other, figure), off, strict=False)
        return [(a - c) / (b - c) for a, b, c in rows if b > c]

    def row(self, name: str) -> str:
        """The page's line."""
        if name in self.failed:
            return f"| {self.kind.callers} | {self.kind.replies} | {name} | {self.failed[name]} |  |  |  |  |  |  |"
        elsewhere = 1 - statistics.median(block.by_tier for block in self.of[name])
        cells = [median_and_range(self.figures(name, each), 1) for each in ("p50", "p99", "per_s")]
        streams = ["first", "between_p50", "between_p99"] if self.kind.stream else []
        cells[2:2] = [median_and_range(self.figures(name, each), 1) for each in streams] or ["", "", ""]
        cells.append(median_and_range(self.figures(name, "cpu_s"), 2))
        said = name if elsewhere < 0.005 else f"{name} ({elsewhere:.0%} by the last tier)"
        return f"| {self.kind.callers} | {self.kind.replies} | {said} | " + " | ".join(cells) + " |"


def _ms(seconds: Sequence[float], q: float) -> float:
    return 1000 * quantile_of(seconds, q) if seconds else 0.0


FIGURES = {
    "p50": lambda block: _ms(block.load.took_s, 0.5),
    "p99": lambda block: _ms(block.load.took_s, 0.99),
    "first": lambda block: _ms(block.load.first_s, 0.5),
    "between_p50": lambda block: _ms(block.load.between_s, 0.5),
    "between_p99": lambda block: _ms(block.load.between_s, 0.99),
    "per_s": lambda block: block.load.per_s,
    "cpu_s": lambda block: block.cpu_s,
}


def block_of(contender: Contender, kind: Kind, numbers: Iterator[int], seconds: float, most: int) -> Block:
    """Ask one contender for so many seconds; BenchmarkError where it does not answer as it should."""
    if kind.paced and contender.model == "auto":
        raise BenchmarkError("its answers come whole, once they are judged")
    before = total(contender.runs.usage())
    load = ask(
        contender.runs.url, kind.prompts(numbers), most, kind.callers, contender.model, stream=kind.stream,
        seconds=seconds, headers=contender.headers,
    )  # fmt: skip
    after, n = total(contender.runs.usage()), len(load.took_s)
    if load.answered["200"] < LEAST_ANSWERED * n:
        statuses = {status: times for status, times in load.answered.items() if status.isdecimal()}
        raise BenchmarkError(f"not answered: {statuses}")
    by_tier = 1.0 if contender.tier is None else load.answered[contender.tier] / n
    if by_tier < LEAST_CHEAP and not kind.long:  # of long ones coverage leaves out as many as it does
        raise BenchmarkError(f"too few were answered by {contender.tier}: {dict(load.answered)}")
    if kind.stream and not load.first_s:
        raise BenchmarkError("its streams hold no text")
    return Block(load, 1000 * (after.cpu_s - before.cpu_s) / n, after.resident, by_tier)


def total(usage: Mapping[str, Usage]) -> Usage:
    """What all processes of a contender use."""
    return sum(usage.values(), Usage())


def programs(contenders: Sequence[Contender]) -> dict[str, Contender]:
    """Contenders by name, each program once: one of ours is asked in three ways."""
    once = {each.runs.url: each for each in reversed(contenders)}
    return {each.name.partition(", routed")[0]: each for each in reversed(once.values())}


def idle_of(contenders: Sequence[Contender]) -> dict[str, float]:
    """What each program uses of a core while nobody asks, once none starts anything any more.

    Raises BenchmarkError where one goes on using more: it would be in the figures of all others.
    """
    for _ in range(IDLE_TRIES):
        before = {name: total(each.runs.usage()) for name, each in programs(contenders).items()}
        began = time.monotonic()
        time.sleep(IDLE_S)
        took = time.monotonic() - began
        found = {
            name: (total(each.runs.usage()).cpu_s - before[name].cpu_s) / took
            for name, each in programs(contenders).items()
        }
        if 0 <= min(found.values()) <= max(found.values()) < MOST_IDLE:  # below: a process ended meanwhile
            return found
    raise BenchmarkError(f"of a core, asked by nobody: {found}")


def measured(
    contenders: Sequence[Contender], kinds: Sequence[Kind], blocks: int, seconds: float, most: int = 10**6
) -> list[Blocks]:
    """Every kind of block to every contender in turn, forwards and backwards; who fails at a kind is left out."""
    numbers, found = itertools.count(2_400), []
    for kind in kinds:
        made = Blocks(kind)
        for i in range(-1, blocks):  # the first round warms up
            for contender in contenders[:: 1 if i % 2 else -1]:
                if contender.name in made.failed:
                    continue
                try:
                    block = block_of(contender, kind, numbers, seconds if i >= 0 else seconds / 3, most)
                except (BenchmarkError, OSError) as error:
                    made.failed[contender.name] = str(error)
                    made.of.pop(contender.name, None)
                    continue
                if i >= 0:
                    made.of.setdefault(contender.name, []).append(block)
        print(
            f"{kind.callers} callers, {kind.replies}: "
            + ", ".join(f"{name} {statistics.median(made.figures(name, 'per_s')):.0f}/s" for name in made.of)
            + "".join(f", {name} failed ({why})" for name, why in made.failed.items()),
            flush=True,
        )
        found.append(made)
    return found
