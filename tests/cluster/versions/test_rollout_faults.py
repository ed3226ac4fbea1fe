"""A canary on a graph of three ingress and two router replicas, of which something is taken away at every step."""

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.versions.tried_versions import (
    CANDIDATE,
    REACHES_WITHIN_S,
    STABLE,
    Conversations,
    Graph,
    invoked,
    rollout,
    two_versions,
)

pytestmark = pytest.mark.timeout(900)
STEPS = (5, 15, 25, 35, 45, 60)
PAUSE, AWAY_S = "4s", 5.0


@pytest.fixture(scope="module")
def served(new_graph: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    graph = two_versions(new_graph, tmp_path_factory)
    yield graph
    graph.stop(signal.SIGTERM)


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
