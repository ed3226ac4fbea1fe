"""What a request costs beside its models: routed by a certified version, and forced to a tier (`make bench-overhead`).

    python -m benchmarks.overhead [--blocks 5] [--folder DIR] [--out docs/results/overhead.md]

Two graphs of echo engines, which take no time, serve one version that is certified by the commands (linear router,
combined verifier): one with router and verifier in replicas of their own, one with both in the ingress
(`policy.placement`). Nearly every routed question is decided, answered by the cheap tier and accepted: one decision,
one call, one verdict. Blocks of all kinds go to them in turn, with one caller and with sixteen, whole and as streams;
processor time is that of each process of a graph.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
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
from serve_graph.cli.local.launch import free_port
from serve_graph.config.graph import load_config
from serve_graph.engines.echo.engine import EchoEngine, echo_words
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
KINDS: Mapping[str, tuple[str, str]] = {
    "routed, replicas": ("replicas", "auto"),
    "routed, ingress": ("ingress", "auto"),
    "forced": ("ingress", "cheap"),
}
PAGE = """# What a request costs beside its models

`{command}`, {day}, {machine}; callers and graphs share them.

Echo engines in the graph, which take no time. *Routed*: by a certified version (linear router, combined verifier),
with router and verifier in replicas of their own or in the ingress (`policy.placement`); {cheap} of {asked} questions
were answered by the cheap tier and accepted, the others by the last tier. *Forced*: `model: cheap`, no router and no
verifier. Blocks go to all in turn: medians, in brackets the least and the most of a block. What one ingress takes by
itself, before and after prompts were embedded together:
[decision 0076](../decisions/project/cluster/0076-prompts-embedded-together.md).

| callers | replies | asked | p50, ms | p99, ms | first chunk, ms | requests/s | processor ms a request |
|---|---|---|---|---|---|---|---|
{rows}

Requests a second, routed by forced, medians of paired blocks:

| callers | replies | replicas ÷ forced | ingress ÷ forced |
|---|---|---|---|
{ratios}

Processor milliseconds a request of sixteen callers, whole, and resident megabytes, by process:

| process | routed, replicas | routed, ingress | forced | MB, replicas | MB, ingress |
|---|---|---|---|---|---|
{processes}
"""


def question(i: int) -> str:
    """The i-th question; none comes twice below 24,000. The first (`prepared`) are trained and certified on."""
    return f"What colour is {ANIMALS[i % len(ANIMALS)]} {100 + i % 1201}?"


def echo_answer(tier: str, text: str) -> str:
    """The answer of an echo tier."""
    wanted = [int(float(value)) for _, word, value in EchoEngine.directives_of(text) if word == "words"]
    return " ".join(echo_words(tier, text, *wanted))


def outcomes(
    path: Path, n: int = 1200, first: int = 0, asked: Callable[[int], str] = question, hard_ends: str = ""
) -> None:
    """Questions that the cheap tier knows, and a fifth that it does not; answers as the echo engine gives them.

    `hard_ends`: how hard questions end, a directive by which the cheap tier is unsure of all of them, as it then is
    here; without one its recorded answers are unsure where they are wrong, and its live ones never.
    """
    chance, rows = random.Random(5 + first), []
    for i in range(first, first + n):
        hard = chance.random() < 0.2
        text = f"Prove in full that theorem {100 + i} of the list holds.{hard_ends}" if hard else asked(i)
        right = chance.random() < (0.1 if hard else 0.995)
        for tier, grade in (("cheap", right), ("frontier", chance.random() < 0.97)):
            unsure = hard and tier == "cheap" if hard_ends else not grade
            said, logprobs = echo_answer(tier, text), [(-3.0 if hard_ends else -2.0) if unsure else -0.01] * 8
            usage = Tokens(len(text) // 4 + 1, len(said.split()))
            rows.append(
                Outcome(
                    prompt_id(text), text, tier, said, float(grade), usage, 0.01, "stop", logprob_summary(logprobs)
                )
            )
    write_outcomes(path, rows)


def prepared(
    folder: Path,
    tiers: Sequence[Mapping[str, Any]] = TIERS,
    asked: Callable[[int], str] = question,
    placements: Sequence[str] = ("replicas", "ingress"),
    rows: int = 1200,
) -> dict[str, tuple[Path, str]]:
    """Configurations by placement; `stable` names a version that the commands trained, certified and approved."""
    found = {}
    for placement in placements:
        port, path = free_port(), folder / f"{placement}.yaml"
        data = {
            "tiers": list(tiers),
            "policy": {"version": "stable", "safe_tier": "frontier", "epsilon": 0.1, "placement": placement},
            "tracking_uri": f"sqlite:///{folder}/mlflow.db",
            "state_folder": str(folder / placement),
            "http": {"port": port},
        }
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        found[placement] = path, f"http://127.0.0.1:{port}"
    table, path = folder / "outcomes.parquet", found[placements[0]][0]
    if (folder / "candidate").exists():  # a folder that was kept
        return found
    outcomes(table, rows, asked=asked)
    write_collected_binds(table, tier_binds(load_config(path)))
    given = ("--config", str(path), "--outcomes", str(table), "--candidate", str(folder / "candidate"))
    serve_graph("train", *given[:4], "--out", given[5], "--router", "linear", "--verifier", "combined")
    said = serve_graph("certify", *given, "--json", "--alias", "stable")
    number = str(json.loads(said)["version"]).rpartition("/")[2]
    for word in ("approve", "promote"):
        serve_graph("versions", word, number, "--reason", "a benchmark", "--config", str(path))
    return found


class Measured:
    """Blocks of one number of callers, whole or streamed."""

    def __init__(self, callers: int, stream: bool) -> None:
        self.callers, self.stream = callers, stream
        self.loads: dict[str, list[Load]] = {kind: [] for kind in KINDS}
        self.used: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}

    def block(self, graphs: Mapping[str, Started], kind: str, prompts: list[str]) -> None:
        placement, model = KINDS[kind]
        graph = graphs[placement]
        before = graph.usage()
        load = ask(graph.url, prompts, len(prompts), self.callers, model, stream=self.stream)
        if load.answered["200"] != len(prompts) or load.answered["cheap"] < LEAST_CHEAP * len(prompts):
            raise BenchmarkError(f"too few questions were answered by the cheap tier: {dict(load.answered)}")
        used = {name: each.cpu_s - before.get(name, Usage()).cpu_s for name, each in graph.usage().items()}
        self.loads[kind].append(load)
        self.used[kind].append({name: 1000 * cpu / len(prompts) for name, cpu in used.items()})

    @property
    def replies(self) -> str:
        return "stream" if self.stream else "whole"

    def row(self, kind: str) -> str:
        loads = self.loads[kind]
        first = [1000 * sorted(load.first_s)[len(load.first_s) // 2] for load in loads if load.first_s]
        figures = [
            median_and_range([1000 * load.quantile(0.5) for load in loads]),
            median_and_range([1000 * load.quantile(0.99) for load in loads]),
            median_and_range(first) if first else "",
            median_and_range([load.per_s for load in loads]),
            median_and_range([sum(each.values()) for each in self.used[kind]]),
        ]
        return f"| {self.callers} | {self.replies} | {kind} | " + " | ".join(figures) + " |"

    def ratios(self) -> str:
        found = []
        for kind in list(KINDS)[:2]:
            pairs = zip(self.loads[kind], self.loads["forced"], strict=True)
            found.append(median_and_range([routed.per_s / forced.per_s for routed, forced in pairs], 2))
        return f"| {self.callers} | {self.replies} | " + " | ".join(found) + " |"

    def mean_of(self, kind: str, process: str) -> float:
        """Processor milliseconds a request."""
        return sum(used.get(process, 0.0) for used in self.used[kind]) / len(self.used[kind])


def measured(graphs: Mapping[str, Started], blocks: int) -> list[Measured]:
    numbers, found = iter(range(1_500, 100_000)), []
    for callers, stream, requests in ((1, False, 200), (16, False, 500), (16, True, 300)):
        each = Measured(callers, stream)
        for i in range(blocks):
            for kind in list(KINDS)[:: 1 if i % 2 else -1]:
                each.block(graphs, kind, [question(next(numbers)) for _ in range(requests)])
        found.append(each)
    return found


def by_process(sixteen: Measured, graphs: Mapping[str, Started]) -> list[str]:
    """Rows of the processes that take 0.05 ms a request or more, or 50 MB."""
    resident = {placement: {n: u.resident / 2**20 for n, u in g.usage().items()} for placement, g in graphs.items()}
    rows = []
    for name in sorted({name for each in resident.values() for name in each}):
        means = [sixteen.mean_of(kind, name) for kind in KINDS]
        held = [resident[placement].get(name, 0.0) for placement in ("replicas", "ingress")]
        if max(means) >= 0.05 or max(held) >= 50:
            cells = [f"{mean:.2f}" for mean in means] + [f"{mb:,.0f}" for mb in held]
            rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Measure and print the page, or write it."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--blocks", type=int, default=5)
    reads.add_argument("--out", type=Path)
    reads.add_argument("--folder", type=Path, help="a folder that is kept, with its version")
    chosen = reads.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made, ExitStack() as running:
        folder = chosen.folder or Path(made)
        folder.mkdir(exist_ok=True)
        graphs = {}
        for placement, (path, url) in prepared(folder).items():
            up = [SERVE_GRAPH, "up", "--config", str(path)]
            graphs[placement] = running.enter_context(started(up, url, folder / f"{placement}.log"))
        for kind, (placement, model) in KINDS.items():
            ask(graphs[placement].url, [question(1_200 + i) for i in range(200)], 200, 8, model)
            print(f"{kind} is warm", flush=True)
        found = measured(graphs, chosen.blocks)
        processes = by_process(found[1], graphs)
    routed = [load for each in found for kind in list(KINDS)[:2] for load in each.loads[kind]]
    page = PAGE.format(
        command=f"python -m benchmarks.overhead --blocks {chosen.blocks}",
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=f"{os.cpu_count()} cores {platform.machine()}, load average {os.getloadavg()[0]:.1f} at its end",
        asked=f"{sum(len(load.took_s) for load in routed):,}",
        cheap=f"{sum(load.answered['cheap'] for load in routed):,}",
        rows="\n".join(each.row(kind) for each in found for kind in KINDS),
        ratios="\n".join(each.ratios() for each in found),
        processes="\n".join(processes),
    )
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page)


if __name__ == "__main__":
    main()
