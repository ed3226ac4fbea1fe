"""A dataset in passes beside the same prompts as interactive requests at best concurrency, one after the other.

    python -m benchmarks.batches [--config configs/local.yaml] [--rows 200] [--max-tokens 64] [--callers 4,8,16,32]
        [--turns 1] [--max-num-seqs 64] [--page FILE] [--rates rates.yaml]

`--config configs/echo.yaml` tries it without models. A graph of the configuration is started, and asked the rows at
each number of callers; the best counts. It is stopped, and the rows are answered in passes by the same version with
engines of the passes' own. Rows a second are told with and without what both spend on starting engines. `--turns`
does it all again so many times, with the best number of callers alone. What the engines' own processes use of the
processors while callers ask is told too: passes cannot be quicker than engines that have the whole machine. `--rates`
writes the file that `serve-graph batch plan` reads.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.batches.timed_passes import TimedPasses, UsageLog
from benchmarks.batches.turns import Asked, Turn, rate, turns_page, write_rates
from benchmarks.graphs import MARK, SERVE_GRAPH, engines_of, started
from serve_graph.cli.batch.answering import RunningGraph
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cli.local.launch import free_port
from serve_graph.cluster.batches.passes.ray_passes import RayPasses
from serve_graph.config.graph import load_config

QUESTIONS = (
    "What is {a} plus {b}? Answer with the number alone.",
    "Which is larger, {a} or {b}? Answer with the number alone.",
    "Write a Python function that adds {a} to its argument and multiplies the sum by {b}.",
    "Name {a} in words.",
    "Is {a} divisible by {b}? Explain in one sentence.",
    'Extract the name and age as JSON from this sentence: "{who} is {a} years old."',
    "What is the capital of {place}? It is question number {a}.",
    'Extract the name and age as JSON from this sentence: "My friend {who}, who is {a}, lives in {place}."',
)
NAMES = ("Omar", "Lena", "Paul", "Rita", "Hugo", "Iris", "Nils")
PLACES = ("France", "Japan", "Norway", "Italy", "Spain", "Egypt", "Peru", "Kenya", "Poland", "Greece", "Chile")


def questions(path: Path, rows: int) -> None:
    """A dataset of short tasks, all different."""
    asked = (
        QUESTIONS[n % len(QUESTIONS)].format(
            a=17 + n, b=3 + n % 7, who=NAMES[n % len(NAMES)], place=PLACES[n % len(PLACES)]
        )
        for n in range(rows)
    )
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))


def configuration(folder: Path, source: Path) -> tuple[Path, str]:
    """The configuration on a free port; its state is kept where it says, since models are converted there."""
    data: dict[str, Any] = yaml.safe_load(source.read_text())
    port = free_port()
    data["http"] = {**data.get("http", {}), "port": port}
    path = folder / "graph.yaml"
    path.write_text(yaml.safe_dump(data))
    return path, f"http://127.0.0.1:{port}"


def interactive(folder: Path, config: Path, url: str, dataset: Dataset, args: Any, callers: list[int]) -> Turn:
    """Runs over the running graph, by callers; each asks every row anew."""
    began = time.monotonic()
    with started([SERVE_GRAPH, "up", "--config", str(config)], url, folder / "graph.log", 900) as graph:
        turn = Turn(time.monotonic() - began, {})
        warm = BatchOptions(url, folder / "warm.jsonl", max_tokens=args.max_tokens, dry_run=4)
        run_batch(dataset, warm, print)
        for count in callers:
            out = folder / f"interactive-{count}-{time.monotonic():.0f}.jsonl"
            options = BatchOptions(url, out, max_tokens=args.max_tokens, concurrency=count)
            answering = RunningGraph(url, options.settings, count, False, False, 900.0)
            before = graph.usage()
            summary = run_batch(dataset, options, print, answering)
            used = {kind: one.cpu_s - before[kind].cpu_s for kind, one in graph.usage().items() if kind in before}
            turn.by_callers[count] = Asked(summary, engines_of(used.items()), sum(used.values()))
            print(f"{count} callers: {rate(summary):.3f} rows/s; processor seconds {used}", flush=True)
    return turn


def in_passes(folder: Path, config: Path, dataset: Dataset, args: Any, turn: Turn) -> None:
    """Note a run in passes in its turn."""
    graph = load_config(config)
    held: list[TimedPasses] = []

    def make(plan: Any) -> TimedPasses:
        passes = RayPasses(plan, logical_cpus=graph.logical_cpus, max_num_seqs=args.max_num_seqs)
        held.append(TimedPasses(passes))
        return held[0]

    for old in folder.glob("passes.jsonl*"):
        old.unlink()
    options = BatchOptions("", folder / "passes.jsonl", max_tokens=args.max_tokens, config=config)
    own = OwnPasses(graph, options.settings, folder, args.batch_size, make=make, max_num_seqs=args.max_num_seqs)
    with UsageLog() as log:
        os.environ[MARK] = log.mark
        try:
            turn.summary = run_batch(dataset, options, print, own)
        finally:
            for timed in held:
                timed.inner.__exit__()
    turn.passes = held[0].passes
    turn.used = [log.between(one.work_began, one.last) for one in turn.passes if one.name != "routing"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/local.yaml"))
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--callers", type=lambda text: [int(n) for n in text.split(",")], default=[4, 8, 16, 32])
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--rates", type=Path)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sg-batches-"))
    try:
        questions(folder / "rows.jsonl", args.rows)
        dataset = Dataset.found([str(folder / "rows.jsonl")])
        config, url = configuration(folder, args.config)
        turns: list[Turn] = []
        for _ in range(args.turns):
            turn = interactive(folder, config, url, dataset, args, [turns[0].best] if turns else args.callers)
            in_passes(folder, config, dataset, args, turn)
            turns.append(turn)
            print(turns_page(args, turns), flush=True)
        text = turns_page(args, turns)
        if args.page is not None:
            args.page.write_text(text)
        if args.rates is not None:
            write_rates(args.rates, folder, turns[-1].passes, turns[-1].summary, load_config(config).tier_names)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
