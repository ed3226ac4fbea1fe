"""What happened in each phase, as the page of results."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.nodes.callers import PROBE_EVERY_S, PROBE_FAULTS, Reply, longest_gap


@dataclass
class Phase:
    """A part of the story: between two moments, with what was done, and how long until all was well again."""

    title: str
    began: float
    ended: float = 0.0
    recovered_s: float | None = None
    since: str = ""
    notes: list[str] = field(default_factory=list)

    def line(self, replies: Sequence[Reply]) -> str:
        """Its row of the table. A request belongs to the phase in which it was sent."""
        mine = [reply for reply in replies if self.began <= reply.began < self.ended]
        answered = [reply for reply in mine if reply.whole and reply.said.startswith("200")]
        said = Counter(reply.said.removeprefix("200 ") for reply in answered)
        failed = Counter(reply.said for reply in mine if reply not in set(answered))
        gap = longest_gap(replies, self.began, self.ended)
        slowest = max((reply.took for reply in answered), default=0.0)
        recovered = "" if self.recovered_s is None else f"{self.recovered_s:.1f} {self.since}"
        cells = (
            self.title, f"{self.ended - self.began:.0f}", str(len(mine)), str(len(answered)), counted(said),
            counted(failed) or "none", f"{gap:.1f}", f"{slowest:.1f}", recovered,
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"


def counted(counts: Counter[str]) -> str:
    return ", ".join(f"{what} × {n:,}" for what, n in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


HEAD = """# The graph on three nodes

`make nodes`, {day}, {cores} cores {machine}, load average {load:.1f} at its end; everything shares them. Three Ray
nodes in network, mount and process namespaces of their own, each with its own disk, a link that can be cut, and power
that can be: a head that runs no replica (Redis outside keeps what it knows), a worker of the cheap tier and one of the
frontier tier. Each worker has besides a proxy and one replica each of ingress, router and verifier. Outside:
PostgreSQL, an MLflow server on it, and {threads} callers who ask those workers whose `/readyz` answers (asked every
{probe:g} s, away after {faults} faults), and ask nothing twice. Echo engines; the graph is deployed by `serve deploy`
from `configs/cluster.yaml` with other engines, addresses and folders.

| {columns} |
|{lines}|
"""
COLUMNS = (
    "what happened", "s", "requests", "answered", "how", "not answered", "longest time without an answer, s",
    "slowest answer, s", "all well again, s",
)  # fmt: skip


def page(phases: Sequence[Phase], replies: Sequence[Reply], ends: Sequence[str], threads: int) -> str:
    """The whole page."""
    head = HEAD.format(
        day=datetime.now(UTC).date(), cores=os.cpu_count(), machine=platform.machine(), load=os.getloadavg()[0],
        threads=threads, probe=PROBE_EVERY_S, faults=PROBE_FAULTS, columns=" | ".join(COLUMNS),
        lines="|".join(["---"] * len(COLUMNS)),
    )  # fmt: skip
    lines = [phase.line(replies) for phase in phases]
    notes = [f"- *{phase.title}*: {note}" for phase in phases for note in phase.notes]
    return head + "\n".join([*lines, "", *notes, *(f"- {end}" for end in ends)]) + "\n"
