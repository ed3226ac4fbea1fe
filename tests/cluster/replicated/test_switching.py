"""Versions that are promoted, rolled back and rejected while a graph of several replicas answers requests."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest

from tests.cluster.replicated.tried_versions import (
    CANDIDATE,
    REACHES_WITHIN_S,
    STABLE,
    UNSEEN_S,
    Callers,
    Graph,
    invoked,
)

pytestmark = [pytest.mark.timeout(900), pytest.mark.in_turn("replicated")]


@dataclass
class Traffic(Callers):
    """Callers who ask one question after the other; what each was told, and by which version."""

    replies: list[tuple[float, float, int, str]] = field(default_factory=list)

    def _ask(self, caller: int) -> None:
        body = {"model": "auto", "messages": [{"role": "user", "content": "what colour is the cat?"}]}
        with httpx.Client(base_url=self.graph.url, timeout=30, headers=self.graph.headers) as client:
            while not self._over.wait(0.02):
                began = time.monotonic()
                reply = client.post("/v1/chat/completions", json=body)
                version = reply.headers.get("x-serve-graph-version", "-")
                self.replies.append((began, time.monotonic() - began, reply.status_code, version))

    def last_of(self, version: str) -> float:
        """When the last request that it answered began."""
        return max(began for began, _, _, name in self.replies if name == version)

    def p99(self, since: float, until: float) -> float:
        return float(np.quantile([took for began, took, *_ in self.replies if since <= began < until], 0.99))


def test_a_promoted_version_reaches_every_replica_and_no_request_is_lost(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    before = served.names_so_far()
    with Traffic(served) as traffic:
        wait_until(lambda: len(traffic.replies) >= 200)
        promoted = time.monotonic()
        invoked(served, "versions", "promote", "2", "--allow-loss")
        done = time.monotonic()
        wait_until(lambda: time.monotonic() - traffic.last_of(STABLE) > UNSEEN_S, REACHES_WITHIN_S + UNSEEN_S + 2)
    assert {status for _, _, status, _ in traffic.replies} == {200}
    last_old = traffic.last_of(STABLE)
    assert {version for began, *_, version in traffic.replies if began > last_old} == {CANDIDATE}
    steady, during = traffic.p99(0, promoted), traffic.p99(promoted, done + REACHES_WITHIN_S)
    print(
        f"\n{len(traffic.replies)} requests; old version until {last_old - done:.1f} s after `promote` ended; "
        f"p99 {1000 * steady:.0f} ms before, {1000 * during:.0f} ms while it switched"
    )
    assert last_old - done < REACHES_WITHIN_S
    assert f"{CANDIDATE}, epoch " in invoked(served, "versions", "status")
    served.names_so_far()
    records = {name: found for name, found in served.records().items() if name not in before}
    assert {r.version for found in records.values() for r in found} == {STABLE, CANDIDATE}
    assert all(len(found) == 1 for found in records.values())


def test_what_is_rejected_is_served_no_more_and_a_killed_controller_forgets_nothing(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    def version() -> str:
        return str(served.chat("which?").headers["x-serve-graph-version"])

    invoked(served, "versions", "promote", "2", "--allow-loss")
    wait_until(lambda: {version() for _ in range(9)} == {CANDIDATE}, 30)
    served.kill("controller")
    assert version() == CANDIDATE
    invoked(served, "versions", "rollback", "--allow-loss")
    wait_until(lambda: {version() for _ in range(9)} == {STABLE}, 60)
    invoked(served, "versions", "reject", "1")
    wait_until(lambda: {version() for _ in range(9)} == {"none"}, 60)
    assert "rejected" in served.client.get("/readyz").json()["promise"]
    assert served.chat("who answers?").json()["serve_graph"]["tier"] == "frontier"
    invoked(served, "versions", "approve", "1", "--allow-loss")
    wait_until(lambda: {version() for _ in range(9)} == {STABLE}, 60)
