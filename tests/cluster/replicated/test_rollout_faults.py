"""A canary on a graph of three ingress and two router replicas, of which something is taken away at every step."""

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.errors import StoreUnavailableError
from tests.cluster.replicated.tried_versions import (
    CANDIDATE,
    REACHES_WITHIN_S,
    STABLE,
    Conversations,
    Graph,
    invoked,
    moves,
    rollout,
)

pytestmark = [pytest.mark.timeout(900), pytest.mark.in_turn("replicated")]
STEPS = (5, 15, 25, 35, 45, 60)
PAUSE, AWAY_S, PAUSES_S = "4s", 5.0, 12.0
"""What each step takes at least, how long something is away, and three pauses, for which PostgreSQL is."""


def refused(graph: Graph, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(graph.state / "graph.yaml")])
    assert done.exit_code == 1, (done.output, done.exception)
    assert isinstance(done.exception, StoreUnavailableError), "what the command line says in words"
    return str(done.exception)


def take_store_away(asked: Conversations) -> None:
    """Lock SQLite, or crash PostgreSQL: the rollout stands still, its versions go on at their shares."""
    graph, went, moved = asked.graph, time.monotonic(), moves(asked.graph)
    if graph.postgres is None:
        connection = graph.locked_store()
        time.sleep(AWAY_S)
        return connection.close()
    before = rollout(graph)
    graph.postgres.stop("immediate")  # no connection is said good-bye to
    try:
        while time.monotonic() < went + PAUSES_S:
            assert "store" in refused(graph, "versions", "rollout")
        assert "store" in refused(graph, "versions", "abort", "--reason", "while nobody can write it down")
    finally:
        graph.postgres.start()
    back, now = time.monotonic(), rollout(graph)
    assert (now["id"], now["state"]) == (before["id"], "Progressing")
    assert now["step"] - before["step"] <= 1, "one step may have been passed before, or now; none meanwhile"
    assert moves(graph)[: len(moved)] == moved, "what was written is still there"
    away = [(status, version) for at, _, status, version, _ in asked.replies if went <= at <= back]
    print(f"\n{len(away)} of {len(asked.replies)} requests answered while the store was away")
    assert len(away) >= PAUSES_S, "one a second at the least, however busy the machine is"
    assert {status for status, _ in away} == {200}, "whoever asks notices nothing"
    assert {version for _, version in away} >= {STABLE, CANDIDATE}, "the candidate goes on at its share"
    assert not [at for at, _ in asked.unanswered if went <= at <= back]
    return None


def hide_registry(asked: Conversations) -> None:
    graph = asked.graph
    away, step = Path(f"{graph.registry}.away"), rollout(graph)["step"]
    graph.registry.rename(away)
    time.sleep(AWAY_S)
    assert rollout(graph)["step"] == step, "its pause was over, and nobody could ask whether it may go on"
    os.replace(away, graph.registry)  # what opened a new one meanwhile leaves it empty


FAULTS: dict[str, Callable[[Conversations], Any]] = {
    "the controller": lambda asked: asked.graph.kill("controller"),
    "an ingress replica": lambda asked: asked.graph.replicas("ingress")[0].kill(),
    "a router replica": lambda asked: asked.graph.replicas("router")[0].kill(),
    "the store": take_store_away,
    "the registry": hide_registry,
}


def test_a_canary_goes_on_whatever_is_taken_away_at_its_steps_and_loses_no_request(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    killed, before, moved = 0.0, served.names_so_far(), len(moves(served))
    with Conversations(served) as asked:
        steps = ",".join(map(str, STEPS))
        invoked(
            served, "versions", "canary", "2", "--steps", steps, "--pause", PAUSE, "--rate", "0.2", "--minimum", "0"
        )
        for n, (name, take_away) in enumerate(FAULTS.items()):
            since = wait_until(lambda n=n: rollout(served)["step"] >= n, 120)
            if name == "an ingress replica":
                killed = time.monotonic()
            take_away(asked)
            took = wait_until(lambda n=n: rollout(served)["step"] > n, 180)
            print(f"\n{name}: step {n + 1} after {since:.1f} s, the next one {took:.1f} s after it was back")
        wait_until(lambda: rollout(served)["weight"] == 0.6, 60)
        wait_until(lambda: asked.last_of(CANDIDATE) > time.monotonic() - 1, 60)
        invoked(served, "versions", "promote", "2", "--reason", "seen enough")
        promoted = time.monotonic()
        wait_until(lambda: rollout(served)["state"] == "Healthy", 60)
        asked.until_gone(STABLE)
    last_old = asked.last_of(STABLE)
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
    found = moves(served, moved)
    ends = ["versions.promoting", "versions.promote"]
    assert [one["action"] for one in found] == ["versions.canary", *["versions.step"] * (len(STEPS) - 1), *ends]
    assert [one["detail"]["weight"] for one in found[1 : len(STEPS)]] == [
        [low / 100, high / 100] for low, high in itertools.pairwise(STEPS)
    ]
    answered = {decision for _, _, status, _, decision in asked.replies if status == 200}
    wait_until(lambda: answered <= served.names_so_far() - before, 60)
    assert all(len(kept) == 1 for kept in served.records().values()), "no record is doubled"
