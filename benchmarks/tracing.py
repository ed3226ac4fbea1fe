"""What tracing costs a request: processor time in one process, over fakes, by turns.

    python -m benchmarks.tracing [--blocks 20] [--requests 400] [--without PATH]

Three ways: `off` (no `tracing`), `unsampled` (`sample: 0`) and `on` (`sample: 1`, sent to a collector of this machine,
in another process). `--without` is a checkout from before there was any tracing: `absent`. The order changes with
every block; a block is a process of its own, whose processor time is counted, threads that send included.
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
from pathlib import Path

WAYS = ("off", "unsampled", "on")
HERE = Path(__file__).parents[1]


async def measure(way: str, requests: int, collector: str) -> float:
    """Processor milliseconds a request, routed, tried and judged by fakes over the real HTTP application."""
    from serve_graph.cascade.fakes import ListSink, fake_context
    from tests.fixtures.serving import Endpoint

    endpoint = Endpoint(fake_context(), ListSink())
    tracer = None
    if way in ("on", "unsampled"):
        from serve_graph.config.records import TracingConfig
        from serve_graph.engines.telemetry.otel import OtelTracer

        tracer = OtelTracer(TracingConfig(otlp_endpoint=collector, sample=float(way == "on")), {}, {})
        endpoint.service.tracer = tracer
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    async with endpoint.client() as client:
        for _ in range(50):
            await client.post("/v1/chat/completions", json=body)
        begun = time.process_time()
        for _ in range(requests):
            await client.post("/v1/chat/completions", json=body)
        if tracer is not None:
            await asyncio.to_thread(tracer.close)
        return (time.process_time() - begun) / requests * 1000


def block(way: str, root: Path, requests: int, collector: str) -> float:
    code = f"import asyncio; from runpy import run_path; m = run_path({str(Path(__file__))!r}); "
    code += f"print(asyncio.run(m['measure']({way!r}, {requests}, {collector!r})))"
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--without", type=Path)
    args = parser.parse_args()
    from tests.unit.serve_graph.engines.telemetry.collector import collecting

    ways = dict.fromkeys(WAYS, HERE) | ({"absent": args.without} if args.without else {})
    found: dict[str, list[float]] = {way: [] for way in ways}
    with collecting() as collector:
        for i in range(args.blocks):
            order = list(ways)[i % len(ways) :] + list(ways)[: i % len(ways)]
            for way in order:
                found[way].append(block(way, ways[way], args.requests, collector.url))
    base = found["off"]
    for way, values in found.items():
        ratios = sorted(value / other for value, other in zip(values, base, strict=True))
        middle, low, high = statistics.median(ratios), ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        told = {"ms": round(statistics.median(values), 3), "of_off": [round(x, 3) for x in (middle, low, high)]}
        print(way, json.dumps(told))


if __name__ == "__main__":
    main()
