"""Memory of a run in passes over the number of rows, with echo tiers; each run in a process of its own.

    python -m benchmarks.batches_memory [--rows 1000,10000,100000] [--here | --told | --asked] [--run-with OPTION]

The driver's anonymous memory (what it holds, without mapped files) is read ten times a second; told are the median
and the most once rows come, and the last before it ends. `--here` answers in the driver's own process, without Ray, so
that workers count too. `--told` has ready-made answers come out of the passes: what is left is what the driver itself
does for a row, whoever answers it. `--asked` asks a stand-in of a running graph over HTTP's client, without a socket.
`--run-with`: audit (200 answers are drawn), dry-run (200 rows are asked), duplicates (each row four times),
failures (every tenth row fails; then the run is started once more with --retry-failed).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_graph.cli.batch.answering import Answering, RunningGraph, RunProgress
from serve_graph.cli.batch.asking import RowAsk, RowAsker
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.passes.own_engines import MakePasses, OwnPasses
from serve_graph.cli.batch.quality.foretold import Proof
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.pass_rows import PassRow, RowPieces, RowProgress
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.cluster.batches.passes.purse import PurseLike
from serve_graph.cluster.batches.passes.row_answer import row_answer
from serve_graph.config.graph import load_config

EVERY_S = 0.1
MIB = 1024**2
STORY = json.dumps({"told": "x" * 600})
SAID = {"p_answer_ok": 0.9, "promised": True, "not_promised": None, "uncovered": None, "last_tier_usd": "0.00002"}


class ToldPasses:
    """Passes whose answers are ready: every fourth row is escalated, and every tenth fails where `fails` says so."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def route(self, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        for number in range(chunks.count):
            yield [RowProgress(row.key, "0", "cheap", STORY, row.body) for row in chunks.read(number)]

    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        for number in range(chunks.count):
            yield [self._answered(tier, row) for row in chunks.read(number)]

    def _answered(self, tier: str, row: PassRow) -> RowProgress:
        drawn = int(row.key[:6], 16)
        if tier == "cheap" and drawn % 4 == 0:
            return RowProgress(row.key, "0.000001", "frontier", STORY)
        if self.fails and drawn % 10 == 1:
            return RowProgress(row.key, "0.000001", result={"status": 500, "error": "as told", "kind": "server_error"})
        return RowProgress(row.key, "0.000002", ok=True, result=row_answer(reply_to(tier, row.body)) | SAID)

    def purse(self, tier: str, size: int, budget: Decimal | None, spent: Decimal) -> PurseLike | None:
        return None


def reply_to(tier: str, body: str) -> dict[str, Any]:
    """A reply that repeats what it was asked."""
    facts = {
        "decision": "dec-" + "0" * 32,
        "tier": tier,
        "outcome": "accepted",
        "version": "v",
        "cost_usd": "0.000002",
    }
    message = {"role": "assistant", "content": json.loads(body)["messages"][-1]["content"]}
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return {"object": "chat.completion", "choices": choices, "usage": usage, "serve_graph": facts}


class AskedStandIn(RunningGraph):
    """A running graph without a socket; every tenth row is refused where `fails` says so."""

    def __init__(self, fails: bool) -> None:
        self.version, self.promise, self.certificate = "v", "nothing", "a stand-in"
        self.settings, self.concurrency, self.records, self.fails = {"model": "auto"}, 16, False, fails

    def proof(self) -> Proof:
        return None, "a stand-in"

    async def _asked(
        self, rows: Iterator[RowAsk], journal: Journal, budget: Decimal | None, shown: RunProgress
    ) -> RowAsker:
        def reply(request: httpx.Request) -> httpx.Response:
            body = request.content.decode()
            if self.fails and hash(body) % 10 == 1:
                return httpx.Response(400, json={"error": {"message": "as told"}})
            return httpx.Response(200, json=reply_to("cheap", body))

        async with httpx.AsyncClient(transport=httpx.MockTransport(reply), base_url="http://graph") as client:
            asker = RowAsker(client, journal, self.settings, self.concurrency, budget)
            await asker.run(rows)
            return asker


def run_here(folder: Path, batch_size: int, way: str, run_with: str | None) -> None:
    """The run itself, in a process of its own."""
    fails, audit = run_with == "failures", 200 if run_with == "audit" else None
    options = BatchOptions("", folder / "out.jsonl", audit=audit, dry_run=200 if run_with == "dry-run" else None)
    own: Answering
    if way == "asked":
        own = AskedStandIn(fails)
    else:
        makes: dict[str, MakePasses] = {"told": lambda _: ToldPasses(fails), "here": LocalPasses}
        config = load_config(folder / "graph.yaml")
        own = OwnPasses(config, options.settings, folder, batch_size, make=makes.get(way))
    for chosen in (options, *([replace(options, retry_failed=True)] * fails)):
        summary = run_batch(Dataset.found([str(folder / "rows.jsonl")]), chosen, lambda _: None, own)
    usage = {name: summary[name] for name in ("answered", "failed", "left", "seconds")}
    (folder / "summary.json").write_text(json.dumps(usage | {"cpu_s": time.process_time()}))


def measured(rows: int, batch_size: int, way: str, run_with: str | None) -> dict[str, float]:
    """One run: its summary, and what the driver held."""
    folder = Path(tempfile.mkdtemp(prefix="sg-memory-"))
    try:
        config = yaml.safe_load(Path("configs/echo.yaml").read_text()) | {"state_folder": str(folder / "state")}
        (folder / "graph.yaml").write_text(yaml.safe_dump(config))
        with (folder / "rows.jsonl").open("w") as file:
            for n in range(rows):
                n //= 4 if run_with == "duplicates" else 1
                file.write(json.dumps({"prompt": f"question {n}" + " and many more words" * (n % 3 * 40)}) + "\n")
        words = [sys.executable, "-m", "benchmarks.batches_memory", "--run", str(folder)]
        words += ["--batch-size", str(batch_size), *([f"--{way}"] if way != "ray" else [])]
        words += [] if run_with is None else ["--run-with", run_with]
        process = subprocess.Popen(words)
        held: list[float] = []
        journal = folder / "out.jsonl.journal"
        while process.poll() is None:
            if journal.exists():
                held.append(anonymous(process.pid))
            time.sleep(EVERY_S)
        if process.returncode != 0:
            raise RuntimeError(f"the run of {rows} rows ended with {process.returncode}")
        found: dict[str, float] = json.loads((folder / "summary.json").read_text())
        held = [one for one in held if one] or [0.0]
        return found | {"rows": rows, "median": statistics.median(held), "most": max(held), "last": held[-1]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def anonymous(pid: int) -> float:
    """Bytes that a process holds, mapped files left out."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith("RssAnon")), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")], default=[1000, 10_000, 100_000])
    parser.add_argument("--batch-size", type=int, default=500)
    ways = parser.add_mutually_exclusive_group()
    for way in ("here", "told", "asked"):
        ways.add_argument(f"--{way}", dest="way", action="store_const", const=way, default="ray")
    parser.add_argument("--run-with", choices=["audit", "dry-run", "duplicates", "failures"])
    parser.add_argument("--page", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run is not None:
        return run_here(args.run, args.batch_size, args.way, args.run_with)
    more = f" --{args.way}" * (args.way != "ray") + f" --run-with {args.run_with}" * (args.run_with is not None)
    lines = [
        f"`python -m benchmarks.batches_memory --rows {','.join(map(str, args.rows))}{more}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()}-core {platform.machine()}.",
        "",
        "| rows | answered | median MiB | most MiB | at its end, MiB | processor s | seconds |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for rows in args.rows:
        one = measured(rows, args.batch_size, args.way, args.run_with)
        lines.append(
            f"| {rows:,} | {one['answered']:,} | "
            + " | ".join(f"{one[name] / MIB:.0f}" for name in ("median", "most", "last"))
            + f" | {one['cpu_s']:.0f} | {one['seconds']:.0f} |"
        )
        print(lines[-1], flush=True)
    if args.page is not None:
        args.page.write_text("\n".join(lines) + "\n")
    return None


if __name__ == "__main__":
    main()
