"""A dataset in passes beside the same prompts as interactive requests at best concurrency, one after the other.

    python -m benchmarks.batches [--config configs/local.yaml] [--rows 200] [--max-tokens 64] [--callers 4,8,16,32]
        [--page FILE] [--rates rates.yaml]

`--config configs/echo.yaml` tries it without models. A graph of the configuration is started, and asked the rows at
each number of callers; the best counts. It is stopped, and the rows are answered in passes by the same version with
engines of the passes' own. Rows a second are told with and without what both spend on starting engines. `--rates`
writes the file that `serve-graph batch plan` reads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from benchmarks.graphs import SERVE_GRAPH, started
from serve_graph.cli.batch.answering import RunningGraph
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cli.local.launch import free_port
from serve_graph.cluster.batches.passes.pass_rows import RowPieces, RowProgress
from serve_graph.cluster.batches.passes.purse import Purse, PurseLike
from serve_graph.cluster.batches.passes.ray_passes import RayPasses
from serve_graph.config.graph import load_config

QUESTIONS = (
    "What is {a} plus {b}? Answer with the number alone.",
    "Which is larger, {a} or {b}? Answer with the number alone.",
    "Write a Python function that adds {a} to its argument and multiplies the sum by {b}.",
    "Name {a} in words.",
    "Is {a} divisible by {b}? Explain in one sentence.",
)


@dataclass
class TimedPass:
    """One pass: seconds until its first rows came (engines start in these), and from then to its last."""

    name: str
    rows: int = 0
    began: float = field(default_factory=time.monotonic)
    first: float | None = None
    first_rows: int = 0
    last: float = 0.0

    @property
    def start_s(self) -> float:
        return (self.first or self.last or self.began) - self.began

    @property
    def steady(self) -> float | None:
        """Rows a second once rows come; None where all came at once."""
        if self.first is None or self.rows == self.first_rows or self.last <= self.first:
            return None
        return (self.rows - self.first_rows) / (self.last - self.first)


class TimedPasses:
    """Passes that note when rows came."""

    def __init__(self, inner: RayPasses) -> None:
        self.inner = inner
        self.passes: list[TimedPass] = []

    def route(self, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        return self._timed("routing", self.inner.route(chunks))

    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        return self._timed(tier, self.inner.answer(tier, chunks))

    def shared(self, purse: Purse) -> PurseLike:
        return self.inner.shared(purse)

    def _timed(self, name: str, rows: Iterator[list[RowProgress]]) -> Iterator[list[RowProgress]]:
        one = TimedPass(name)
        self.passes.append(one)
        for progress in rows:
            one.last = time.monotonic()
            one.rows += len(progress)
            if one.first is None:
                one.first, one.first_rows = one.last, len(progress)
            yield progress


def questions(path: Path, rows: int) -> None:
    """A dataset of short tasks, all different."""
    asked = (QUESTIONS[n % len(QUESTIONS)].format(a=17 + n, b=3 + n % 7) for n in range(rows))
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))


def configuration(folder: Path, source: Path) -> tuple[Path, str]:
    """The configuration on a free port; its state is kept where it says, since models are converted there."""
    data: dict[str, Any] = yaml.safe_load(source.read_text())
    port = free_port()
    data["http"] = {**data.get("http", {}), "port": port}
    path = folder / "graph.yaml"
    path.write_text(yaml.safe_dump(data))
    return path, f"http://127.0.0.1:{port}"


def interactive(folder: Path, config: Path, url: str, dataset: Dataset, args: Any) -> dict[int, dict[str, Any]]:
    """The summaries of runs over the running graph, by callers; each asks every row anew."""
    found = {}
    with started([SERVE_GRAPH, "up", "--config", str(config)], url, folder / "graph.log", 900):
        warm = BatchOptions(url, folder / "warm.jsonl", max_tokens=args.max_tokens, dry_run=4)
        run_batch(dataset, warm, print)
        for callers in args.callers:
            out = folder / f"interactive-{callers}.jsonl"
            options = BatchOptions(url, out, max_tokens=args.max_tokens, concurrency=callers)
            answering = RunningGraph(url, options.settings, callers, False, False, 900.0)
            found[callers] = run_batch(dataset, options, print, answering)
            print(f"{callers} callers: {rate(found[callers]):.2f} rows/s", flush=True)
    return found


def in_passes(folder: Path, config: Path, dataset: Dataset, args: Any) -> tuple[dict[str, Any], list[TimedPass]]:
    """The summary of a run in passes, and its passes."""
    graph = load_config(config)
    held: list[TimedPasses] = []

    def make(plan: Any) -> TimedPasses:
        held.append(TimedPasses(RayPasses(plan, logical_cpus=graph.logical_cpus)))
        return held[0]

    options = BatchOptions("", folder / "passes.jsonl", max_tokens=args.max_tokens, config=config)
    own = OwnPasses(graph, options.settings, folder, args.batch_size, make=make)
    try:
        summary = run_batch(dataset, options, print, own)
    finally:
        for timed in held:
            timed.inner.__exit__()
    return summary, held[0].passes


def rate(summary: dict[str, Any]) -> float:
    return float(summary["asked"] / summary["seconds"])


def per_thousand(summary: dict[str, Any]) -> Decimal:
    return Decimal(summary["total_usd"]) / max(1, summary["answered"]) * 1000


def page(args: Any, by_callers: dict[int, dict[str, Any]], passes: tuple[dict[str, Any], list[TimedPass]]) -> str:
    """The figures as Markdown."""
    best = max(by_callers, key=lambda callers: rate(by_callers[callers]))
    summary, timed = passes
    working = summary["seconds"] - sum(one.start_s for one in timed)
    steady = summary["asked"] / working if working > 0 else float("nan")
    lines = [
        f"`python -m benchmarks.batches --config {args.config} --rows {args.rows} --max-tokens {args.max_tokens}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()}-core {platform.machine()}.",
        "",
        "| way | rows/s | failed | US dollars per 1,000 rows |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| interactive, {callers} callers | {rate(one):.3f} | {one['failed']} | {per_thousand(one):.6f} |"
        for callers, one in by_callers.items()
    ]
    lines += [
        f"| in passes, engines' starts included | {rate(summary):.3f} | {summary['failed']} "
        f"| {per_thousand(summary):.6f} |",
        f"| in passes, from each pass's first rows on | {steady:.3f} | | |",
        "",
        f"In passes beside the best of interactive ({best} callers): {rate(summary) / rate(by_callers[best]):.2f} "
        f"times the rows a second with engines' starts, {steady / rate(by_callers[best]):.2f} without. "
        "One run of each.",
        "",
        *(
            f"- {one.name}: {one.rows} rows, {one.start_s:.1f} s until the first came"
            + ("" if one.steady is None else f", then {one.steady:.2f} a second")
            for one in timed
        ),
    ]
    return "\n".join(lines) + "\n"


def write_rates(path: Path, folder: Path, timed: list[TimedPass], summary: dict[str, Any], tiers: Any) -> None:
    """What `batch plan` reads: each tier's tokens a second by its answers here, reading and writing not told apart."""
    rows = [json.loads(line) for line in (folder / "passes.jsonl").read_text().splitlines()]
    outcomes = {name: one["count"] for name, one in summary["outcomes"].items()}
    tried = outcomes.get("accepted", 0) + outcomes.get("escalated", 0) + outcomes.get("abstained", 0)
    data: dict[str, Any] = {
        "source": f"measured by benchmarks.batches, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, no GPU",
        "tried": tried / max(1, len(rows)),
        "accepted": (tried - outcomes.get("escalated", 0)) / max(1, tried),
    }
    for name, tier in zip(("cheap", "last"), (tiers[0], tiers[-1]), strict=True):
        one = next((found for found in timed if found.name == tier), None)
        own = [row for row in rows if row["serve_graph_tier"] == tier]
        if one is None or not one.steady or not own:
            continue
        prompt = sum(row["serve_graph_prompt_tokens"] for row in own) / len(own)
        made = sum(row["serve_graph_completion_tokens"] for row in own) / len(own)
        data[name] = {
            "prompt_tokens": prompt, "completion_tokens": made, "load_s": one.start_s,
            "prompt_tokens_per_s": 2 * one.steady * prompt, "completion_tokens_per_s": 2 * one.steady * made,
        }  # fmt: skip
    routed = next((found for found in timed if found.name == "routing"), None)
    data["decided_per_s"] = routed.steady if routed is not None and routed.steady else 100.0
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/local.yaml"))
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--callers", type=lambda text: [int(n) for n in text.split(",")], default=[4, 8, 16, 32])
    parser.add_argument("--page", type=Path)
    parser.add_argument("--rates", type=Path)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sg-batches-"))
    try:
        questions(folder / "rows.jsonl", args.rows)
        dataset = Dataset.found([str(folder / "rows.jsonl")])
        config, url = configuration(folder, args.config)
        by_callers = interactive(folder, config, url, dataset, args)
        passes = in_passes(folder, config, dataset, args)
        text = page(args, by_callers, passes)
        print(text)
        if args.page is not None:
            args.page.write_text(text)
        if args.rates is not None:
            write_rates(args.rates, folder, passes[1], passes[0], load_config(config).tier_names)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
