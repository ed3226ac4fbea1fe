"""What learning from live traffic costs a request: everything on, beside everything off (`make bench-learning`).

    python -m benchmarks.learning [--blocks 7] [--out docs/results/serving/learning-cost.md]

Two graphs over the same two hosted models serve the same certified version, side by side. One keeps prompts, has a
judge grade a share of answers, a shadow version decide and be compared on a share of requests, and watches alarms and
tickets; the other does none of that. Blocks of the same questions go to each in turn. Latencies are the caller's;
processor time is that of all processes of a graph, without the models.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import yaml

from benchmarks.graphs import SERVE_GRAPH, Started, serve_graph, started
from benchmarks.load import Load, ask, median_and_range
from serve_graph.cli.local.launch import free_port
from tests.story.running import configuration
from tests.story.tables import write_outcomes
from tests.story.world import task

LEARNING: dict[str, Any] = {
    "records": {"keep_prompts": True},
    "judge": {"tier": "frontier", "rate": 0.05, "mode": "pairwise", "budget_usd_per_day": 1000},
    "comparisons": {"judge": "frontier", "budget_usd_per_day": 1000},
    "tickets": {"poll_s": 5.0},
}
PAGE = """# What learning from live traffic costs a request

`{command}`, {day}, {machine}; callers, models and both graphs share them.

Two graphs over the same two hosted models of known quality serve the same certified version. *On*: prompts are kept,
5 % of answers are judged, a shadow version decides 5 % of requests and is compared, tickets and alarms are watched.
*Off*: none of that. Blocks of the same questions go to each in turn: medians, in brackets the least and the most of a
block. Processor time is that of every process of a graph, without the models.

| callers | learning | p50, ms | p99, ms | requests/s | processor ms a request | failed |
|---|---|---|---|---|---|---|
{rows}
"""
RATE = "0.05"
WITHOUT = ("comparisons", "feedback", "alarms", "rollouts")


def prepared(folder: Path, world_url: str, outcomes: Path, learning: bool) -> tuple[Path, str]:
    """A configuration with its first version certified; with `learning` a second one, to be tried as a shadow."""
    folder.mkdir()
    port = free_port()
    path = configuration(folder, world_url, port)
    data = yaml.safe_load(path.read_text())
    data = {name: part for name, part in data.items() if name not in WITHOUT}
    data |= LEARNING if learning else {"tickets": {"window": None}}
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    for i, epsilon in enumerate(("0.05", "0.1") if learning else ("0.05",)):
        rows = ("--outcomes", str(outcomes), "--config", str(path))
        candidate = str(folder / f"candidate-{i}")
        serve_graph("train", *rows, "--out", candidate, "--router", "linear", "--seed", str(i))
        said = serve_graph(
            "certify", *rows, "--candidate", candidate, "--epsilon", epsilon, "--engines-as-configured", "--json"
        )
        number = str(json.loads(said)["version"]).rpartition("/")[2]
        for words in (("approve", number, "--by", "benchmark"), ("promote", number)):
            if i == 0 or words[0] == "approve":
                serve_graph("versions", *words, "--reason", "a benchmark", "--config", str(path))
    return path, f"http://127.0.0.1:{port}"


def block(graph: Started, prompts: list[str], requests: int, callers: int) -> tuple[Load, float]:
    """Ask a block of questions; returns what it took, and the graph's processor milliseconds a request."""
    before = sum(each.cpu_s for each in graph.usage().values())
    load = ask(graph.url, prompts, requests, callers)
    return load, 1000 * (sum(each.cpu_s for each in graph.usage().values()) - before) / requests


def measured(folder: Path, blocks: int) -> list[str]:
    world_port = free_port()
    world_url = f"http://127.0.0.1:{world_port}"
    rng = Random(7)
    with ExitStack() as running:
        world = [sys.executable, "-m", "tests.story.world", str(world_port)]
        running.enter_context(started(world, world_url, folder / "world.log", ready="/docs"))
        outcomes = write_outcomes(folder / "outcomes.parquet", 4000, 0)
        graphs: dict[str, Started] = {}
        for name, learning in (("off", False), ("on", True)):
            path, url = prepared(folder / name, world_url, outcomes, learning)
            up = [SERVE_GRAPH, "up", "--config", str(path)]
            graphs[name] = running.enter_context(started(up, url, folder / f"{name}.log"))
            if learning:
                serve_graph(
                    "versions", "shadow", "2", "--rate", RATE, "--reason", "a benchmark", "--config", str(path)
                )
        for graph in graphs.values():
            ask(graph.url, [task(rng) for _ in range(200)], 200, 8)
        lines = []
        for callers, requests in ((1, 150), (16, 600)):
            found: dict[str, list[tuple[Load, float]]] = {name: [] for name in graphs}
            for i in range(blocks):
                prompts = [task(rng) for _ in range(requests)]
                for name in sorted(graphs, reverse=i % 2 == 1):
                    found[name].append(block(graphs[name], prompts, requests, callers))
            lines += [_row(callers, name, found[name]) for name in ("off", "on")]
            lines.append(_ratios(callers, found))
        resident = {name: sum(each.resident for each in graph.usage().values()) for name, graph in graphs.items()}
        lines += ["", f"Resident memory of all processes: off {resident['off'] / 2**20:,.0f} MB, "
                  f"on {resident['on'] / 2**20:,.0f} MB."]  # fmt: skip
    return lines


def _row(callers: int, name: str, blocks: list[tuple[Load, float]]) -> str:
    figures = [
        median_and_range([1000 * load.quantile(0.5) for load, _ in blocks]),
        median_and_range([1000 * load.quantile(0.99) for load, _ in blocks]),
        median_and_range([load.per_s for load, _ in blocks]),
        median_and_range([cpu for _, cpu in blocks]),
    ]
    failed = sum(sum(n for said, n in load.answered.items() if said[:1] in "45" and said) for load, _ in blocks)
    return f"| {callers} | {name} | " + " | ".join(figures) + f" | {failed} |"


def _ratios(callers: int, found: dict[str, list[tuple[Load, float]]]) -> str:
    """Medians of the blocks' ratios, on by off: blocks are paired."""
    pairs = list(zip(found["on"], found["off"], strict=True))
    ratios = [
        [on.quantile(0.5) / off.quantile(0.5) for (on, _), (off, _) in pairs],
        [on.quantile(0.99) / off.quantile(0.99) for (on, _), (off, _) in pairs],
        [on.per_s / off.per_s for (on, _), (off, _) in pairs],
        [on / off for (_, on), (_, off) in pairs],
    ]
    return f"| {callers} | on ÷ off | " + " | ".join(median_and_range(each, 2) for each in ratios) + " | |"


def main() -> None:
    """Measure and print the page, or write it."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--blocks", type=int, default=7)
    reads.add_argument("--out", type=Path)
    chosen = reads.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        rows = measured(Path(folder), chosen.blocks)
    command = f"python -m benchmarks.learning --blocks {chosen.blocks}"
    machine = f"{os.cpu_count()} cores {platform.machine()}, load average {statistics.mean(os.getloadavg()):.1f}"
    page = PAGE.format(command=command, day=f"{datetime.now(UTC):%Y-%m-%d}", machine=machine, rows="\n".join(rows))
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page)


if __name__ == "__main__":
    main()
