"""What embedding the compared questions takes by itself, as what a routed request takes at least.

    python -m benchmarks.gateways.embedding [--callers 16] [--stream] [--long] [--seconds 3]

A process for each processor, all at once, as the blocks keep every processor busy: a served version's encoder, each
question once, as many together as there are callers (sixteen at most). Of a long question the parts are not embedded,
as coverage has them besides.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks.gateways.turns import Kind
from benchmarks.graphs import ROOT

MOST_TOGETHER = 16


@dataclass(frozen=True)
class Embedded:
    """Processor seconds of 1,000 questions, and how long the questions that are embedded together take, in ms."""

    cpu_s: float
    together_ms: float


def embedded(kind: Kind, seconds: float) -> Embedded:
    """The mean of one process for each processor; what they do before all are there is not counted."""
    words = [sys.executable, "-m", "benchmarks.gateways.embedding", "--callers", str(kind.callers), "--seconds"]
    words += [str(seconds), *(["--stream"] if kind.stream else []), *(["--long"] if kind.long else [])]
    running = [
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(os.cpu_count() or 1)
    ]
    said = [json.loads(each.communicate()[0]) for each in running]
    return Embedded(*(statistics.fmean(one[name] for one in said) for name in ("cpu_s", "together_ms")))


def main() -> None:
    """Embed for so many seconds, after as many that warm up, and print the figures as JSON."""
    from router_models.data.embeddings.encoder import Encoder

    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--callers", type=int, default=16)
    reads.add_argument("--stream", action="store_true", help="questions that are answered at length")
    reads.add_argument("--long", action="store_true", help="long ones")
    reads.add_argument("--seconds", type=float, default=3.0)
    chosen = reads.parse_args()
    encoder = Encoder(threads=1, products="integers")
    prompts = Kind(chosen.callers, chosen.stream, long=chosen.long).prompts(itertools.count(2_400))
    together = min(chosen.callers, MOST_TOGETHER)
    for counted in (False, True):
        took, cpu, until = list[float](), time.process_time(), time.perf_counter() + chosen.seconds
        while time.perf_counter() < until:
            texts, began = list(itertools.islice(prompts, together)), time.perf_counter()
            encoder.encode(texts)
            took.append(time.perf_counter() - began)
        if counted:
            cpu_s = 1000 * (time.process_time() - cpu) / (together * len(took))
            print(json.dumps({"cpu_s": cpu_s, "together_ms": 1000 * statistics.median(took)}))


if __name__ == "__main__":
    main()
