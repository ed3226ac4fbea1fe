"""Memory of a run in passes over the number of rows, with echo tiers; each run in a process of its own.

    python -m benchmarks.batches_memory [--rows 1000,10000,100000,1000000] [--here] [--page FILE]

The driver's anonymous memory (what it holds, without mapped files) is read ten times a second; told are the median and
the most once rows come. `--here` answers in the driver's own process, without Ray, so that workers count too.
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
from datetime import UTC, datetime
from pathlib import Path

import yaml

EVERY_S = 0.1
MIB = 1024**2


def run_here(folder: Path, batch_size: int, local: bool) -> None:
    """The run itself, in a process of its own."""
    from serve_graph.cli.batch.dataset import Dataset
    from serve_graph.cli.batch.passes.own_engines import OwnPasses
    from serve_graph.cli.batch.running import BatchOptions, run_batch
    from serve_graph.cluster.batches.passes.passes import LocalPasses
    from serve_graph.config.graph import load_config

    options = BatchOptions("", folder / "out.jsonl")
    make = LocalPasses if local else None
    own = OwnPasses(load_config(folder / "graph.yaml"), options.settings, folder, batch_size, make=make)
    summary = run_batch(Dataset.found([str(folder / "rows.jsonl")]), options, lambda _: None, own)
    usage = {name: summary[name] for name in ("answered", "failed", "left", "seconds")}
    (folder / "summary.json").write_text(json.dumps(usage | {"cpu_s": time.process_time()}))


def measured(rows: int, batch_size: int, local: bool) -> dict[str, float]:
    """One run: its summary, and what the driver held."""
    folder = Path(tempfile.mkdtemp(prefix="sg-memory-"))
    try:
        config = yaml.safe_load(Path("configs/echo.yaml").read_text()) | {"state_folder": str(folder / "state")}
        (folder / "graph.yaml").write_text(yaml.safe_dump(config))
        with (folder / "rows.jsonl").open("w") as file:
            for n in range(rows):
                file.write(json.dumps({"prompt": f"question {n}" + " and many more words" * (n % 3 * 40)}) + "\n")
        words = [sys.executable, "-m", "benchmarks.batches_memory", "--run", str(folder)]
        process = subprocess.Popen(
            [*words, "--batch-size", str(batch_size)] + ["--here"] * local, stderr=subprocess.DEVNULL
        )
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
        return found | {"rows": rows, "median": statistics.median(held), "most": max(held)}
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
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run is not None:
        return run_here(args.run, args.batch_size, args.here)
    where = "in the driver's process" if args.here else "on Ray Data"
    lines = [
        f"`python -m benchmarks.batches_memory --rows {','.join(map(str, args.rows))}{' --here' * args.here}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()}-core {platform.machine()}, passes {where}.",
        "",
        "| rows | answered | driver, median MiB | driver, most MiB | driver, processor s | seconds |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for rows in args.rows:
        one = measured(rows, args.batch_size, args.here)
        lines.append(
            f"| {rows:,} | {one['answered']:,} | {one['median'] / MIB:.0f} | {one['most'] / MIB:.0f} "
            f"| {one['cpu_s']:.0f} | {one['seconds']:.0f} |"
        )
        print(lines[-1], flush=True)
    if args.page is not None:
        args.page.write_text("\n".join(lines) + "\n")
    return None


if __name__ == "__main__":
    main()
