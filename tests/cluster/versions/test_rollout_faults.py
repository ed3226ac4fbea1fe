"""A canary on a graph of three ingress and two router replicas, of which something is taken away at every step."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.config.graph import load_config
from tests.fixtures.registry import PRICE, registered_version

pytestmark = pytest.mark.timeout(900)
Graph = Any
TIERS = [{"name": name, "engine": "echo", "price": PRICE} for name in ("cheap", "frontier")]
STABLE, CANDIDATE = "serve-graph-router/1", "serve-graph-router/2"
STEPS = (5, 15, 25, 35, 45, 60)
PAUSE, AWAY_S, REACHES_WITHIN_S = "4s", 5.0, 10.0


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


@pytest.fixture(scope="module")
def served(new_graph: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    registry = tmp_path_factory.mktemp("registry") / "mlflow.db"
    policy = {"version": "stable", "allow_loss": True, "follow_s": 0.5}
    settings = {"tiers": TIERS, "policy": policy, "tracking_uri": f"sqlite:///{registry}", "records": {"retry_s": 0.3}}
    folder = tmp_path_factory.mktemp("versions")
    (folder / "graph.yaml").write_text(json.dumps(settings | {"state_folder": str(folder / "state")}))
    config = load_config(folder / "graph.yaml")
    for n, alias in ((1, "stable"), (2, None)):
        registered_version(config, folder / str(n), datetime.now(UTC), 0.6 + n / 10, alias)
    graph = new_graph(20.0, replicas={"ingress": 3, "router": 2}, **settings)
    graph.registry = registry
    yield graph
    graph.stop(signal.SIGTERM)


def invoked(graph: Graph, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(graph.state / "graph.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def rollout(graph: Graph) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoked(graph, "versions", "rollout", "--json"))
    return found


def lock_store(graph: Graph) -> None:
    connection = graph.locked_store()
    time.sleep(AWAY_S)
    connection.close()


def hide_registry(graph: Graph) -> None:
    away, step = Path(f"{graph.registry}.away"), rollout(graph)["step"]
    graph.registry.rename(away)
    time.sleep(AWAY_S)
    assert rollout(graph)["step"] == step, "its pause was over, and nobody could ask whether it may go on"
    os.replace(away, graph.registry)  # what opened a new one meanwhile leaves it empty


FAULTS: dict[str, Callable[[Graph], Any]] = {
    "the controller": lambda graph: graph.kill("controller"),
    "an ingress replica": lambda graph: graph.replicas("ingress")[0].kill(),
    "a router replica": lambda graph: graph.replicas("router")[0].kill(),
    "the store": lock_store,
    "the registry": hide_registry,
}


def test_a_canary_goes_on_whatever_is_taken_away_at_its_steps_and_loses_no_request(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    wait_until(lambda: served.chat("who?").headers.get("x-serve-graph-version") == STABLE, 60)
    killed = 0.0
    with Conversations(served.url) as asked:
        steps = ",".join(map(str, STEPS))
        invoked(
            served, "versions", "canary", "2", "--steps", steps, "--pause", PAUSE, "--rate", "0.2", "--minimum", "0"
        )
        for n, (name, take_away) in enumerate(FAULTS.items()):
            before = wait_until(lambda n=n: rollout(served)["step"] >= n, 120)
            if name == "an ingress replica":
                killed = time.monotonic()
            take_away(served)
            took = wait_until(lambda n=n: rollout(served)["step"] > n, 180)
            print(f"\n{name}: step {n + 1} after {before:.1f} s, the next one {took:.1f} s after it was back")
        wait_until(lambda: rollout(served)["weight"] == 0.6, 60)
        time.sleep(3)
        invoked(served, "versions", "promote", "2", "--reason", "seen enough")
        promoted = time.monotonic()
        wait_until(lambda: rollout(served)["state"] == "Healthy", 60)
        time.sleep(max(0.0, promoted + REACHES_WITHIN_S + 3 - time.monotonic()))
    last_old = max(at for at, _, _, version, _ in asked.replies if version == STABLE)
    print(f"{len(asked.replies)} requests; the old version's last answer {last_old - promoted:.1f} s after `promote`")
    assert last_old - promoted < REACHES_WITHIN_S
    in_its_hands = [1 for at, _ in asked.unanswered if killed <= at < killed + AWAY_S]
    assert len(asked.unanswered) == len(in_its_hands) <= asked.callers, "what a killed ingress held, and nothing else"
    assert {version for *_, version, _ in asked.replies} <= {STABLE, CANDIDATE, "-"}
    assert sum(status != 200 for _, _, status, *_ in asked.replies) <= len(asked.replies) / 50
    assert asked.taken_back() == []
    told = rollout(served)["evidence"]["comparing"]
    print(f"compared: {told}")
    assert told["offered"] == told["compared"] + told["waiting"] + sum(told["shed"].values()) > 0
    assert len(told["replicas"]) >= 3, "each ingress replica says what it did"
    audit = json.loads(invoked(served, "audit", "--json"))
    moves = [one for one in reversed(audit) if one["target"] == CANDIDATE and one["action"].startswith("versions.")]
    ends = ["versions.promoting", "versions.promote"]
    assert [one["action"] for one in moves] == ["versions.canary", *["versions.step"] * (len(STEPS) - 1), *ends]
    assert [one["detail"]["weight"] for one in moves[1 : len(STEPS)]] == [
        [low / 100, high / 100] for low, high in itertools.pairwise(STEPS)
    ]
    answered = {decision for _, _, status, _, decision in asked.replies if status == 200}
    wait_until(lambda: answered <= served.names_so_far(), 60)
    assert all(len(found) == 1 for found in served.records().values()), "no record is doubled"
