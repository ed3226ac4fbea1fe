"""Replicas over time where escalations are made room for before they arrive, beside Ray Serve's own rule.

    python -m benchmarks.scaling [--seconds 75] [--out docs/results/serving/scaling.md]

Two graphs of echo engines that take two seconds an answer, and eight to start, get the same requests at the
same times: one with `scaling.anticipate`, one without. Requests arrive by chance (Poisson) at a rate that follows a
pattern, whoever still waits; two in five are escalated. Late is what took half as long again as both tiers take.

The one without aims at fewer requests a replica, so that both use about as many replica-seconds: `TARGETS`, chosen by
`benchmarks.capacity.scaling_simulated` before anything was measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import yaml

from benchmarks.graphs import SERVE_GRAPH, Started, started
from serve_graph.cli.local.launch import free_port

ANSWER_S, START_S = 2.0, 8.0
LATE_S = 3 * ANSWER_S
ESCALATED = 0.4
TARGETS = {"plain": 1.5, "anticipating": 2.0}
"""`target_ongoing_requests` of both graphs."""
PATTERNS: dict[str, Callable[[float], float]] = {
    "step": lambda part: 1.0 if part < 0.25 else 4.0,
    "ramp": lambda part: 0.5 + 4.0 * part,
    "flash crowd": lambda part: 10.0 if 0.3 < part < 0.45 else 1.0,
    "two days": lambda part: 2.5 - 2.0 * math.cos(4 * math.pi * part),
}
"""Requests a second by the part of the time that has passed."""
SHAPE = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
PAGE = """# Scaling before escalations arrive

`{command}`, {day}, {machine}; both graphs side by side, with the same requests at the same times.

Echo engines that take {answer:g} s an answer and {start:g} s to start, at most four requests a replica, one to eight
replicas of a tier. *Anticipating*: escalations are counted before they arrive (`scaling.anticipate`, the default).
*Plain*: Ray Serve's own rule. The target is `target_ongoing_requests`: lower for the plain rule, so that both use
about as many replica-seconds. Late: over {late:g} s. Replica-seconds are both tiers'. Failed: any status but 200.

| pattern | scaling | target | requests | late | p95, s | replica-seconds | failed |
|---|---|---|---|---|---|---|---|
{rows}

![Both tiers' replicas over time, by pattern](scaling.png)

One run of each pattern, few replicas, and a start costs the two processors that also answer some eight seconds more:
decision 0065 says what these figures do and do not show, beside the same rules in simulated time.
"""


@dataclass
class Side:
    """What one graph did in one pattern."""

    took_s: list[float] = field(default_factory=list)
    failed: int = 0
    replicas: list[tuple[float, int]] = field(default_factory=list)

    @property
    def late(self) -> float:
        return sum(took > LATE_S for took in self.took_s) / len(self.took_s)

    @property
    def replica_seconds(self) -> float:
        steps = zip(self.replicas, self.replicas[1:], strict=False)
        return sum(n * (later - now) for (now, n), (later, _) in steps)


def configuration(folder: Path) -> tuple[Path, str]:
    """An echo graph whose tiers scale by the rule that its folder is named after; returns its file and its address."""
    folder.mkdir()
    scaling = {
        "min_replicas": 1,
        "max_replicas": 8,
        "target_ongoing_requests": TARGETS[folder.name],
        "max_ongoing_requests": 4,
        "upscale_delay_s": 1,
        "downscale_delay_s": 15,
        "look_back_s": 10.1,
        "drain_s": 30,
    }
    price = {"input_usd_per_mtok": 0.01, "output_usd_per_mtok": 0.02}
    port = free_port()
    tiers = [
        {"name": name, "engine": "echo", "price": price, "latency_s": ANSWER_S, "start_s": START_S}
        | {"scaling": scaling | {"anticipate": folder.name == "anticipating"}}
        for name in ("cheap", "frontier")
    ]
    data = {"logical_cpus": 16, "tiers": tiers, "http": {"port": port}, "state_folder": str(folder)}
    data["policy"] = {"version": "builtin", "safe_tier": "frontier"}
    path = folder / "graph.yaml"
    path.write_text(yaml.safe_dump(data))
    return path, f"http://127.0.0.1:{port}"


def arrivals(pattern: Callable[[float], float], seconds: float, rng: Random) -> list[tuple[float, bool]]:
    """When requests arrive, and which are escalated: by thinning a Poisson process of the highest rate."""
    most = max(pattern(i / 1000) for i in range(1000))
    found, now = [], rng.expovariate(most)
    while now < seconds:
        if rng.random() < pattern(now / seconds) / most:
            found.append((now, rng.random() < ESCALATED))
        now += rng.expovariate(most)
    return found


async def run(graphs: Mapping[str, Started], asked: list[tuple[float, bool]], seconds: float) -> dict[str, Side]:
    """Send every request to both graphs when it is due, and count both tiers' replicas meanwhile."""
    sides = {name: Side() for name in graphs}
    began = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(name: str, number: int, escalated: bool) -> None:
            body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": f"question {number}"}]}
            sent = time.monotonic()
            async with session.post(
                f"{graphs[name].url}/v1/chat/completions",
                json=body | ({"response_format": SHAPE} if escalated else {}),
            ) as reply:
                await reply.read()
                sides[name].failed += reply.status != 200
            sides[name].took_s.append(time.monotonic() - sent)

        async def count() -> None:
            while True:
                for name, graph in graphs.items():
                    both = [await asyncio.to_thread(graph.replicas, tier) for tier in ("cheap", "frontier")]
                    sides[name].replicas.append((time.monotonic() - began, sum(both)))
                await asyncio.sleep(0.5)

        counting = asyncio.create_task(count())
        pending = []
        for number, (due, escalated) in enumerate(asked):
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            pending += [asyncio.create_task(ask(name, number, escalated)) for name in graphs]
        await asyncio.gather(*pending)
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        counting.cancel()
    return sides


def measured(folder: Path, seconds: float) -> dict[str, dict[str, Side]]:
    """Every pattern, after some requests of each kind by which the graphs learn how many are escalated."""
    rng = Random(11)
    with ExitStack() as running:
        graphs: dict[str, Started] = {}
        for name in TARGETS:
            path, url = configuration(folder / name)
            up = [SERVE_GRAPH, "up", "--config", str(path)]
            graphs[name] = running.enter_context(started(up, url, folder / f"{name}.log"))
        asyncio.run(run(graphs, arrivals(lambda _: 2.0, 30.0, rng), 60.0))
        found = {}
        for name, pattern in PATTERNS.items():
            found[name] = asyncio.run(run(graphs, arrivals(pattern, seconds, rng), seconds))
            time.sleep(35)  # both go back to one replica
    return found


def drawn(found: Mapping[str, Mapping[str, Side]], path: Path) -> None:
    """Draw both tiers' replicas over time, a panel for each pattern."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(found), 1, figsize=(8, 2.2 * len(found)), sharex=True, layout="constrained")
    for panel, (pattern, sides) in zip(panels, found.items(), strict=True):
        for (name, side), style in zip(sides.items(), ("--", "-"), strict=True):
            panel.step(*zip(*side.replicas, strict=True), style, where="post", label=name)
        panel.set_title(pattern, loc="left", fontsize=10)
        panel.set_ylabel("replicas")
        panel.set_ylim(0, 16.5)
    panels[0].legend(loc="upper left", fontsize=8)
    panels[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure and print the page, or write it with its picture beside it."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--seconds", type=float, default=75.0)
    reads.add_argument("--out", type=Path)
    chosen = reads.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        found = measured(Path(folder), chosen.seconds)
    rows = [
        f"| {pattern} | {name} | {TARGETS[name]:g} | {len(side.took_s)} | {side.late:.1%} "
        f"| {statistics.quantiles(side.took_s, n=20)[-1]:.1f} | {side.replica_seconds:.0f} | {side.failed} |"
        for pattern, sides in found.items()
        for name, side in sides.items()
    ]
    machine = f"{os.cpu_count()} cores {platform.machine()}, load average {os.getloadavg()[1]:.1f}"
    page = PAGE.format(
        command=f"python -m benchmarks.scaling --seconds {chosen.seconds:g}",
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine,
        answer=ANSWER_S,
        start=START_S,
        late=LATE_S,
        rows="\n".join(rows),
    )
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page)
        drawn(found, chosen.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
