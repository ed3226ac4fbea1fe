"""What a request costs beside its models: routed by a certified version, and forced to a tier (`make bench-overhead`).

    python -m benchmarks.overhead [--blocks 5] [--out docs/results/overhead.md]

One graph of echo engines, which take no time, serves a version that is certified by the commands (linear router,
combined verifier). Nearly every routed question is decided, answered by the cheap tier and accepted: one decision, one
call, one verdict. Blocks of both kinds go to it in turn, with one caller and with sixteen, whole and as streams;
processor time is that of each process of the graph.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.graphs import SERVE_GRAPH, BenchmarkError, Started, Usage, serve_graph, started
from benchmarks.load import Load, ask, median_and_range
from router_models.data.outcomes import prompt_id, write_outcomes
from router_models.types import Outcome
from router_models.types import Usage as Tokens
from router_models.types.exchange import logprob_summary
from serve_graph.config.graph import load_config
from serve_graph.policy.bindings import tier_binds, write_collected_binds

TIERS: list[dict[str, Any]] = [
    {"name": name, "engine": "echo", "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": 2 * usd}}
    for name, usd in (("cheap", 0.01), ("frontier", 0.11))
]
TIERS[0]["skill"] = 1.0
ANIMALS = tuple(
    "cat dog cow horse sheep goat fox wolf bear lion hen duck goose swan owl crow bee ant frog eel".split()
)
LEAST_CHEAP = 0.8
KINDS = ("routed", "forced")
PAGE = """# What a request costs beside its models

`{command}`, {day}, {machine}; callers and graph share them.

Echo engines in the graph, which take no time. *Routed*: by a certified version (linear router, combined verifier);
{cheap} of {asked} questions were answered by the cheap tier and accepted, the others by the last tier. *Forced*:
`model: cheap`, no router and no verifier. Blocks go to both in turn: medians, in brackets the least and the most.

| callers | replies | asked | p50, ms | p99, ms | first chunk, ms | requests/s | processor ms a request |
|---|---|---|---|---|---|---|---|
{rows}

Routed by forced, medians of paired blocks: {ratios}.

Processor milliseconds a request and resident megabytes, by process:

| process | routed | forced | MB |
|---|---|---|---|
{processes}
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def question(i: int) -> str:
    """The i-th question; those below 1,200 are trained and certified on, and none comes twice below 24,000."""
    return f"What colour is {ANIMALS[i % len(ANIMALS)]} {100 + i % 1201}?"


def outcomes(path: Path, n: int = 1200) -> None:
    """Questions that the cheap tier knows, and a fifth that it does not; answers as the echo engine gives them."""
    chance, rows = random.Random(5), []
    for i in range(n):
        hard = chance.random() < 0.2
        text = f"Prove in full that theorem {100 + i} of the list holds." if hard else question(i)
        right = chance.random() < (0.1 if hard else 0.995)
        for tier, grade in (("cheap", right), ("frontier", chance.random() < 0.97)):
            said, logprobs = f"echo {tier}: {text}", [-0.01 if grade else -2.0] * 8
            usage = Tokens(len(text) // 4 + 1, len(said.split()))
            rows.append(
                Outcome(
                    prompt_id(text), text, tier, said, float(grade), usage, 0.01, "stop", logprob_summary(logprobs)
                )
            )
    write_outcomes(path, rows)


def prepared(folder: Path) -> tuple[Path, str]:
    """A configuration whose alias `stable` names a version that the commands trained, certified and approved."""
    port, path, table = free_port(), folder / "graph.yaml", folder / "outcomes.parquet"
    data = {
        "tiers": TIERS,
        "policy": {"version": "stable", "safe_tier": "frontier", "epsilon": 0.1},
        "state_folder": str(folder / "state"),
        "http": {"port": port},
    }
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    if (folder / "candidate").exists():  # a folder that was kept
        return path, f"http://127.0.0.1:{port}"
    outcomes(table)
    write_collected_binds(table, tier_binds(load_config(path)))
    given = ("--config", str(path), "--outcomes", str(table), "--candidate", str(folder / "candidate"))
    serve_graph("train", *given[:4], "--out", given[5], "--router", "linear", "--verifier", "combined")
    said = serve_graph("certify", *given, "--json", "--alias", "stable")
    number = str(json.loads(said)["version"]).rpartition("/")[2]
    for word in ("approve", "promote"):
        serve_graph("versions", word, number, "--reason", "a benchmark", "--config", str(path))
    return path, f"http://127.0.0.1:{port}"


class Measured:
    """Blocks of one number of callers, whole or streamed."""

    def __init__(self, callers: int, stream: bool) -> None:
        self.callers, self.stream = callers, stream
        self.loads: dict[str, list[Load]] = {kind: [] for kind in KINDS}
        self.used: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}

    def block(self, graph: Started, kind: str, prompts: list[str]) -> None:
        before = graph.usage()
        model = "auto" if kind == "routed" else "cheap"
        load = ask(graph.url, prompts, len(prompts), self.callers, model, stream=self.stream)
        if load.answered["200"] != len(prompts) or load.answered["cheap"] < LEAST_CHEAP * len(prompts):
            raise BenchmarkError(f"too few questions were answered by the cheap tier: {dict(load.answered)}")
        used = {name: each.cpu_s - before.get(name, Usage()).cpu_s for name, each in graph.usage().items()}
        self.loads[kind].append(load)
        self.used[kind].append({name: 1000 * cpu / len(prompts) for name, cpu in used.items()})

    def rows(self) -> list[str]:
        return [self._row(kind) for kind in KINDS]

    def _row(self, kind: str) -> str:
        loads = self.loads[kind]
        first = [1000 * sorted(load.first_s)[len(load.first_s) // 2] for load in loads if load.first_s]
        figures = [
            median_and_range([1000 * load.quantile(0.5) for load in loads]),
            median_and_range([1000 * load.quantile(0.99) for load in loads]),
            median_and_range(first) if first else "",
            median_and_range([load.per_s for load in loads]),
            median_and_range([sum(each.values()) for each in self.used[kind]]),
        ]
        replies = "stream" if self.stream else "whole"
        return f"| {self.callers} | {replies} | {kind} | " + " | ".join(figures) + " |"

    def ratio(self) -> str:
        pairs = zip(self.loads["routed"], self.loads["forced"], strict=True)
        what = median_and_range([routed.per_s / forced.per_s for routed, forced in pairs], 2)
        return f"{what} in requests/s of {self.callers} callers, {'streams' if self.stream else 'whole'}"


def measured(graph: Started, blocks: int) -> list[Measured]:
    numbers = iter(range(1_500, 24_000))
    found = []
    for callers, stream, requests in ((1, False, 200), (16, False, 500), (16, True, 300)):
        each = Measured(callers, stream)
        for i in range(blocks):
            for kind in KINDS if i % 2 else KINDS[::-1]:
                each.block(graph, kind, [question(next(numbers)) for _ in range(requests)])
        found.append(each)
    return found


def by_process(found: list[Measured], resident: dict[str, Usage]) -> list[str]:
    """Rows of the processes that take 0.05 ms a request or more, or 50 MB."""
    sixteen = found[1]
    rows = []
    for name, each in sorted(resident.items()):
        means = [sum(used.get(name, 0.0) for used in sixteen.used[kind]) / len(sixteen.used[kind]) for kind in KINDS]
        if max(means) >= 0.05 or each.resident >= 50 * 2**20:
            rows.append(f"| {name} | {means[0]:.2f} | {means[1]:.2f} | {each.resident / 2**20:,.0f} |")
    return rows


def main() -> None:
    """Measure and print the page, or write it."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--blocks", type=int, default=5)
    reads.add_argument("--out", type=Path)
    reads.add_argument("--folder", type=Path, help="a folder that is kept, with its version")
    chosen = reads.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        folder = chosen.folder or Path(made)
        folder.mkdir(exist_ok=True)
        path, url = prepared(folder)
        with started([SERVE_GRAPH, "up", "--config", str(path)], url, folder / "graph.log") as graph:
            ask(graph.url, [question(1_200 + i) for i in range(200)], 200, 8)
            found, resident = measured(graph, chosen.blocks), graph.usage()
    asked = sum(len(load.took_s) for each in found for load in each.loads["routed"])
    cheap = sum(load.answered["cheap"] for each in found for load in each.loads["routed"])
    page = PAGE.format(
        command=f"python -m benchmarks.overhead --blocks {chosen.blocks}",
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=f"{os.cpu_count()} cores {platform.machine()}, load average {os.getloadavg()[0]:.1f} at its end",
        asked=f"{asked:,}",
        cheap=f"{cheap:,}",
        rows="\n".join(row for each in found for row in each.rows()),
        ratios="; ".join(each.ratio() for each in found),
        processes="\n".join(by_process(found, resident)),
    )
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page)


if __name__ == "__main__":
    main()
