"""What several ingress replicas count and limit together, one of which is killed."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.graphs.running_graph import RunningGraph

pytestmark = [pytest.mark.timeout(900), pytest.mark.in_turn("replicated")]
ASKED = 400


def pages(graph: RunningGraph, times: int = 6) -> set[tuple[float, float]]:
    """Requests, and calls of engines, as several new connections are told."""
    found = set()
    for _ in range(times):
        text = httpx.get(f"{graph.url}/metrics", timeout=30, headers=graph.headers).text
        sums = {
            family.name: sum(sample.value for sample in family.samples)
            for family in text_string_to_metric_families(text)
        }
        found.add((sums["serve_graph_requests"], sums["serve_graph_engine_calls"]))
    return found


def ask(graph: RunningGraph, requests: int, key: str = "boss") -> Counter[int]:
    """The statuses of requests over many connections, each of which is one replica's."""
    body = {"model": "cheap", "messages": [{"role": "user", "content": "hello"}]}

    def some(n: int) -> list[int]:
        told = []
        for _ in range(n // 10):
            with httpx.Client(base_url=graph.url, timeout=60, headers={"x-api-key": key}) as client:
                told += [client.post("/v1/chat/completions", json=body).status_code for _ in range(10)]
        return told

    with ThreadPoolExecutor(4) as pool:
        return Counter(status for told in pool.map(some, [requests // 4] * 4) for status in told)


def test_three_ingress_replicas_count_every_request_and_keep_one_limit(
    served: RunningGraph, wait_until: Callable[..., float]
) -> None:
    [(requests, calls)] = pages(served)
    assert ask(served, ASKED) == {200: ASKED}
    counted = (requests + ASKED, calls + ASKED)
    assert pages(served) == {counted}
    assert len(served.replicas("ingress")) == 3

    served.replicas("ingress")[0].kill()
    wait_until(lambda: len(served.replicas("ingress")) == 3, 120)
    wait_until(served.answers, 120)
    assert pages(served) == {counted}, "what a killed replica counted stays"

    begun = time.monotonic()
    held = ask(served, 160, "held")
    assert 50 <= held[200] <= 60 + (time.monotonic() - begun) + 1, "60 a minute are 60, not 180"
    assert held[200] + held[429] == 160
    wait_until(lambda: pages(served, 3) == {(counted[0] + held[200], counted[1] + held[200])}, 60)
