"""A graph with a version that serves and one that may be tried beside it, and callers in conversations."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.config.graph import load_config
from tests.fixtures.registry import PRICE, registered_version

Graph = Any
TIERS = [{"name": name, "engine": "echo", "price": PRICE} for name in ("cheap", "frontier")]
STABLE, CANDIDATE = "serve-graph-router/1", "serve-graph-router/2"
REACHES_WITHIN_S = 10.0


@dataclass
class Conversations:
    """Callers who each go through conversations of their own; when each was answered, how, and by which version."""

    url: str
    callers: int = 3
    each: int = 16
    replies: list[tuple[float, str, int, str, str]] = field(default_factory=list)
    unanswered: list[tuple[float, str]] = field(default_factory=list)

    def __enter__(self) -> "Conversations":
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(self.callers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, caller: int) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            n = 0
            while not self._over.wait(0.05):
                session, n = f"c{caller}-s{n % self.each}", n + 1
                message = {"role": "user", "content": "what colour is the cat?"}
                body = {"model": "auto", "messages": [message], "serve_graph": {"session": session}}
                try:
                    reply = client.post("/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.unanswered.append((time.monotonic(), type(error).__name__))
                    continue
                told = [str(reply.headers.get(f"x-serve-graph-{name}", "-")) for name in ("version", "decision")]
                self.replies.append((time.monotonic(), session, reply.status_code, *told))

    def taken_back(self) -> list[tuple[str, float]]:
        """Conversations that the stable version answered long after the candidate had: by how many seconds."""
        first: dict[str, float] = {}
        for at, session, _, version, _ in self.replies:
            if version == CANDIDATE:
                first.setdefault(session, at)
        later = [(s, at - first[s]) for at, s, _, version, _ in self.replies if version == STABLE and s in first]
        return [(session, late) for session, late in later if late > REACHES_WITHIN_S]


def two_versions(new_graph: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory, **records: Any) -> Graph:
    """A graph of three ingress and two router replicas that serves version 1 and may try version 2."""
    registry = tmp_path_factory.mktemp("registry") / "mlflow.db"
    policy = {"version": "stable", "allow_loss": True, "follow_s": 0.5}
    kept = {"records": {"retry_s": 0.3, **records}}
    settings = {"tiers": TIERS, "policy": policy, "tracking_uri": f"sqlite:///{registry}", **kept}
    folder = tmp_path_factory.mktemp("versions")
    (folder / "graph.yaml").write_text(json.dumps(settings | {"state_folder": str(folder / "state")}))
    config = load_config(folder / "graph.yaml")
    for n, alias in ((1, "stable"), (2, None)):
        registered_version(config, folder / str(n), datetime.now(UTC), 0.6 + n / 10, alias)
    graph = new_graph(20.0, replicas={"ingress": 3, "router": 2}, **settings)
    graph.registry = registry
    return graph


def invoked(graph: Graph, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(graph.state / "graph.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def rollout(graph: Graph) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoked(graph, "versions", "rollout", "--json"))
    return found
