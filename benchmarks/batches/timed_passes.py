"""When rows of a pass came, and what its processes used of the processors meanwhile."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from benchmarks.graphs import Marked, engines_of
from serve_graph.cluster.batches.passes.pass_rows import RowPieces, RowProgress
from serve_graph.cluster.batches.passes.purse import PurseLike
from serve_graph.cluster.batches.passes.ray_passes import RayPasses

READY = re.compile(r"INFO (\d\d-\d\d \d\d:\d\d:\d\d) .*init engine .* took")
LOOKED_EVERY_S = 1.0


@dataclass
class TimedPass:
    """One pass: seconds until its engine could take rows, and from then to its last row.

    Where no log says when the engine was ready (echo and hosted tiers, routing), its workers' start counts as work.
    """

    name: str
    rows: int = 0
    began: float = field(default_factory=time.time)
    ready: float | None = None
    last: float = 0.0

    @property
    def work_began(self) -> float:
        return self.ready or self.began

    @property
    def start_s(self) -> float:
        return self.work_began - self.began

    @property
    def working_s(self) -> float:
        return self.last - self.work_began

    @property
    def steady(self) -> float:
        """Rows a second once the engine can take them."""
        return self.rows / self.working_s


class UsageLog:
    """What processes with a mark have used, engines and all, second by second; those that end keep what they had."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.seen: list[tuple[float, float, float]] = []
        self.each: dict[int, tuple[str, float]] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> UsageLog:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def between(self, began: float, ended: float) -> tuple[float, float]:
        """Processor seconds of engines and of all, this process included."""
        sums = [(engines, every) for at, engines, every in self.seen if began <= at <= ended]
        return (sums[-1][0] - sums[0][0], sums[-1][1] - sums[0][1]) if sums else (0.0, 0.0)

    def _look(self) -> None:
        while not self.over.wait(LOOKED_EVERY_S):
            for pid, kind, used in Marked(self.mark).each():
                self.each[pid] = kind, used.cpu_s
            every = sum(used for _, used in self.each.values()) + time.process_time()
            self.seen.append((time.time(), engines_of(self.each.values()), every))


def engine_ready(since: float) -> float | None:
    """When the last engine was ready, by the logs of this machine's Ray; None: none was since then."""
    year = datetime.now().year
    said = [log.read_text(errors="replace") for log in Path("/tmp/ray/session_latest/logs").glob("worker-*")]
    found = [
        datetime.strptime(f"{year}-{told}", "%Y-%m-%d %H:%M:%S").timestamp()
        for text in said
        for told in READY.findall(text)
    ]
    return max((at for at in found if at >= since), default=None)


class TimedPasses:
    """Passes that note when rows came."""

    def __init__(self, inner: RayPasses) -> None:
        self.inner = inner
        self.passes: list[TimedPass] = []

    def route(self, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        return self._timed("routing", self.inner.route(chunks))

    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        return self._timed(tier, self.inner.answer(tier, chunks))

    def purse(self, tier: str, size: int, budget: Decimal | None, spent: Decimal) -> PurseLike | None:
        return self.inner.purse(tier, size, budget, spent)

    def _timed(self, name: str, rows: Iterator[list[RowProgress]]) -> Iterator[list[RowProgress]]:
        one = TimedPass(name)
        self.passes.append(one)
        for progress in rows:
            one.last = time.time()
            one.rows += len(progress)
            yield progress
        one.ready = engine_ready(one.began)
