"""What interactive requests notice of a batch: both measured by turns, in one process and one event loop."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from serve_graph.cascade.fakes import FakeEngine
from tests.unit.serve_graph.cluster.batches.batch_graph import CHAT, BatchGraph, jsonl, line

ROUNDS, REQUESTS, SLOW_S = 6, 50, 0.05


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_interactive_requests_beside_a_batch_are_as_quick_as_alone(graph: Callable[..., BatchGraph]) -> None:
    at = graph(fakes={"cheap": FakeEngine("x", slow_s=SLOW_S)})
    took: dict[bool, list[float]] = {False: [], True: []}
    lines = 0
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    async with at.working(), at.client() as client:
        for n in range(2 * ROUNDS):
            beside = bool(n % 2)
            batch = await at.create(jsonl(*(line(k) for k in range(4000)))) if beside else None
            if batch is not None:
                await at.until(batch, lambda one: one["request_counts"]["completed"] >= 60)
            for _ in range(REQUESTS):
                started = time.perf_counter()
                assert (await client.post(CHAT, json=body)).status_code == 200
                took[beside].append(time.perf_counter() - started)
            if batch is not None:
                await client.post(f"/v1/batches/{batch['id']}/cancel")
                lines += (await at.ended(batch))["request_counts"]["completed"]
    shown = {
        beside: " / ".join(f"{1000 * q:.1f}" for q in np.quantile(seconds, [0.5, 0.95, 0.99]))
        for beside, seconds in took.items()
    }
    late = sorted((round(1000 * s), n % REQUESTS) for n, s in enumerate(took[True]))[-6:]
    print(f"the slowest beside a batch, in ms, and which of {REQUESTS} in a row: {late}")
    rise = np.quantile(took[True], 0.5) - np.quantile(took[False], 0.5)
    print(
        f"p50 / p95 / p99 in ms, {ROUNDS * REQUESTS} requests each: alone {shown[False]}, beside a batch {shown[True]}"
    )
    print(f"median rise {1000 * rise:.1f} ms; lines answered meanwhile and before: {lines}")
    assert rise < SLOW_S  # no request waits for a line
