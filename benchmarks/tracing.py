"""What tracing costs a request: processor time in one process, over fakes, by turns.

    python -m benchmarks.tracing [--blocks 40] [--requests 100] [--without PATH]

Three ways: `off` (no `tracing`), `unsampled` (`sample: 0`) and `on` (`sample: 1`, sent to a collector of this machine,
in a process of its own). They take turns in one process, the order changes with every block, and what is counted is
its processor time, the thread that sends included. `--without` is a checkout from before there was any tracing,
`absent`: processes of it and of this one, both off, take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

WAYS = ("off", "unsampled", "on")
HERE = Path(__file__).parents[1]
BODY = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
PROCESSES = 6


async def measure(ways: Sequence[str], blocks: int, requests: int, collector: str) -> dict[str, list[float]]:
    """Processor milliseconds a request, routed, tried and judged by fakes over the real HTTP application, by way."""
    from serve_graph.cascade.fakes import ListSink, fake_context
    from tests.fixtures.serving import Endpoint

    found: dict[str, list[float]] = {way: [] for way in ways}
    async with AsyncExitStack() as opened:
        clients = {}
        for way in ways:
            endpoint = Endpoint(fake_context(), ListSink())
            if way != "off":
                from serve_graph.config.records import TracingConfig
                from serve_graph.engines.telemetry.otel import OtelTracer

                endpoint.service.tracer = OtelTracer(
                    TracingConfig(otlp_endpoint=collector, sample=float(way == "on")), {}, {}
                )
            clients[way] = await opened.enter_async_context(endpoint.client()), endpoint
        for i in range(-1, blocks):  # the first is not counted
            for n in range(len(ways)):
                way = ways[(i + n) % len(ways)]
                client, endpoint = clients[way]
                begun = time.process_time()
                for _ in range(requests):
                    await client.post("/v1/chat/completions", json=BODY)
                if (tracer := getattr(endpoint.service, "tracer", None)) is not None:
                    tracer.provider.force_flush()
                took = (time.process_time() - begun) / requests * 1000
                if i >= 0:
                    found[way].append(took)
    return found


def collect_spans(port: Any) -> None:
    from tests.unit.serve_graph.engines.telemetry.collector import collecting

    with collecting() as collector:
        port.send(collector.url)
        port.recv()


def alone(root: Path, blocks: int, requests: int) -> float:
    """The median of a process of its own, off, by the code of a checkout."""
    code = f"import asyncio, json, statistics; from runpy import run_path; m = run_path({str(Path(__file__))!r}); "
    code += f"f = asyncio.run(m['measure'](('off',), {blocks}, {requests}, '')); print(statistics.median(f['off']))"
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def told(values: list[float], base: list[float]) -> str:
    ratios = sorted(value / other for value, other in zip(values, base, strict=True))
    tenth = len(ratios) // 10
    shown = [round(x, 3) for x in (statistics.median(ratios), ratios[tenth], ratios[-1 - tenth])]
    return json.dumps({"ms": round(statistics.median(values), 3), "of_off": shown})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--without", type=Path)
    args = parser.parse_args()
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=collect_spans, args=(theirs,), daemon=True)
    process.start()
    found = asyncio.run(measure(WAYS, args.blocks, args.requests, ours.recv()))
    ours.send(None)
    for way, values in found.items():
        print(way, told(values, found["off"]))
    if args.without:
        pairs = [
            (alone(args.without, args.blocks // 4, args.requests), alone(HERE, args.blocks // 4, args.requests))
            for _ in range(PROCESSES)
        ]
        print("absent", told([a for a, _ in pairs], [b for _, b in pairs]))


if __name__ == "__main__":
    main()
