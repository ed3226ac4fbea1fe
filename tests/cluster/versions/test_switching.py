"""Versions that are promoted, rolled back and rejected while a graph of several replicas answers requests."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.config.graph import load_config
from tests.fixtures.registry import PRICE, registered_version

pytestmark = pytest.mark.timeout(900)
Graph = Any
TIERS = [{"name": name, "engine": "echo", "price": PRICE} for name in ("cheap", "frontier")]
REACHES_WITHIN_S = 10.0


@dataclass
class Traffic:
    """Callers who ask one question after the other; what each was told, and by which version."""

    url: str
    callers: int = 4
    replies: list[tuple[float, float, int, str]] = field(default_factory=list)

    def __enter__(self) -> "Traffic":
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(self.callers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        body = {"model": "auto", "messages": [{"role": "user", "content": "what colour is the cat?"}]}
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self._over.wait(0.02):
                began = time.monotonic()
                reply = client.post("/v1/chat/completions", json=body)
                version = reply.headers.get("x-serve-graph-version", "-")
                self.replies.append((began, time.monotonic() - began, reply.status_code, version))

    def p99(self, since: float, until: float) -> float:
        return float(np.quantile([took for began, took, *_ in self.replies if since <= began < until], 0.99))


@pytest.fixture(scope="module")
def served(new_graph: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A graph of 3 ingress and 2 router replicas with two approved versions, the first of them `stable`."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"
    settings = {"tiers": TIERS, "policy": {"version": "stable"}, "tracking_uri": uri}
    folder = tmp_path_factory.mktemp("versions")
    (folder / "graph.yaml").write_text(json.dumps(settings | {"state_folder": str(folder / "state")}))
    config = load_config(folder / "graph.yaml")
    for n, alias in ((1, "stable"), (2, None)):
        registered_version(config, folder / str(n), datetime.now(UTC), 0.6 + n / 10, alias)
    graph = new_graph(20.0, replicas={"ingress": 3, "router": 2}, **settings)
    yield graph
    graph.stop(signal.SIGTERM)


def versions(graph: Graph, *words: str) -> str:
    done = CliRunner().invoke(app, ["versions", *words, "--config", str(graph.state / "graph.yaml")])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_promoted_version_reaches_every_replica_and_no_request_is_lost(served: Graph) -> None:
    first, second = "serve-graph-router/1", "serve-graph-router/2"
    with Traffic(served.url) as traffic:
        time.sleep(6)
        promoted = time.monotonic()
        versions(served, "promote", "2", "--allow-loss")
        done = time.monotonic()
        time.sleep(REACHES_WITHIN_S + 4)
    assert {status for _, _, status, _ in traffic.replies} == {200}
    last_old = max(began for began, _, _, version in traffic.replies if version == first)
    assert {version for began, *_, version in traffic.replies if began > last_old} == {second}
    before, during = traffic.p99(0, promoted), traffic.p99(promoted, done + REACHES_WITHIN_S)
    print(
        f"\n{len(traffic.replies)} requests; old version until {last_old - done:.1f} s after `promote` ended; "
        f"p99 {1000 * before:.0f} ms before, {1000 * during:.0f} ms while it switched"
    )
    assert last_old - done < REACHES_WITHIN_S
    assert "serve-graph-router/2, epoch 2" in versions(served, "status")
    records = served.records()
    assert {r.version for found in records.values() for r in found} == {first, second}
    assert all(len(found) == 1 for found in records.values())


def test_what_is_rejected_is_served_no_more_and_a_killed_controller_forgets_nothing(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    def version() -> str:
        return str(served.chat("which?").headers["x-serve-graph-version"])

    wait_until(lambda: version() == "serve-graph-router/2", 30)
    served.kill("controller")
    assert version() == "serve-graph-router/2"
    versions(served, "rollback", "--allow-loss")
    wait_until(lambda: {version() for _ in range(9)} == {"serve-graph-router/1"}, 60)
    versions(served, "reject", "1")
    wait_until(lambda: {version() for _ in range(9)} == {"none"}, 60)
    assert "rejected" in served.client.get("/readyz").json()["promise"]
    assert served.chat("who answers?").json()["serve_graph"]["tier"] == "frontier"
    versions(served, "approve", "1", "--allow-loss")
    wait_until(lambda: {version() for _ in range(9)} == {"serve-graph-router/1"}, 60)
