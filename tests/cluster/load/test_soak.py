"""The soak: a quarter of an hour of load on a real cluster while parts of it fail and die (`make soak`).

What must hold: every reply has the right shape, every reply has its record, and memory stays flat.
"""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.cli.client.bench import Load, run_load

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

SECONDS = float(os.environ.get("SOAK_SECONDS", "900"))
PROMPTS = [
    "hello",
    "[cheap:unsure] please think",
    "a long question " * 60,
    "[cheap:fail] hello",
    "[cheap:fail=429] hello",
    "[frontier:break] a long question " * 60,
    "[cheap:slow=1] hello",
    "[echo:fail] hello",
    "[cheap:hang=60] hello",
    "日本語と émojis 🎲 " * 20,
]
VICTIMS = ("router", "cheap", "verifier", "frontier")


@pytest.fixture
def soaked(new_graph: Callable[..., Any]) -> Any:
    return new_graph(records={"retry_s": 0.5})


def test_a_quarter_of_an_hour_of_faults(
    soaked: Any, wait_until: Callable[..., float], capsys: pytest.CaptureFixture[str]
) -> None:
    before = soaked.names_so_far()
    load = Load(
        soaked.url,
        PROMPTS,
        requests=10_000_000,
        concurrency=24,
        stream_share=0.5,
        leave_share=0.02,
        duration_s=SECONDS,
        timeout_s=60,
    )
    over = threading.Event()
    memory: list[float] = []
    hurting = threading.Thread(target=_hurt, args=(soaked, over, memory))
    hurting.start()
    found = asyncio.run(run_load(load))
    over.set()
    hurting.join()
    wait_until(lambda: "serve_graph_records_spooled 0.0\n" in soaked.client.get("/metrics").text, 60)
    records = soaked.records()
    lost = set(found.decisions) - records.keys()
    twice = [name for name, rows in records.items() if len(rows) > 1]
    with capsys.disabled():
        print(f"\n{found.figures()}\nrecords {len(records) - len(before)}, lost {len(lost)}, twice {len(twice)}")
        print("ingress MiB by minute:", [round(mib) for mib in memory])
    assert not found.malformed, found.malformed[:5]
    assert not lost
    assert not twice
    assert found.statuses.total() >= 10_000 * SECONDS / 900
    settled = memory[len(memory) // 4 :]
    assert max(settled) < 1.25 * settled[0] + 20


def _hurt(graph: Any, over: threading.Event, memory: list[float]) -> None:
    """Kill one replica a minute, in turn, and lock the store for three seconds; note the ingress's memory."""
    for victim in itertools.cycle(VICTIMS):
        if over.wait(min(60.0, SECONDS / 5)):
            return
        [ingress] = graph.replicas("ingress")
        memory.append(ingress.memory_info().rss / 2**20)
        for process in graph.replicas(victim):
            process.kill()
        lock = graph.locked_store()
        time.sleep(3)
        lock.close()
