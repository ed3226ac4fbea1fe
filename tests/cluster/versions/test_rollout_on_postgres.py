"""A canary of a graph whose decision store is PostgreSQL, which crashes while its steps are passed."""

import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.errors import StoreUnavailableError
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
STEPS = (5, 20, 40, 60)
PAUSE, AWAY_S = "4s", 12.0


@pytest.fixture(scope="module")
def served(
    new_graph: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory, postgres: Any
) -> Iterator[Graph]:
    graph = two_versions(new_graph, tmp_path_factory, url=postgres.emptied())
    yield graph
    graph.stop(signal.SIGTERM)


def refused(graph: Graph, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(graph.state / "graph.yaml")])
    assert done.exit_code == 1, (done.output, done.exception)
    assert isinstance(done.exception, StoreUnavailableError), "what the command line says in words"
    return str(done.exception)


def moves(graph: Graph) -> list[dict[str, Any]]:
    """What the audit log says was done to the candidate, the oldest first."""
    audit = json.loads(invoked(graph, "audit", "--json"))
    return [one for one in reversed(audit) if one["target"] == CANDIDATE and one["action"].startswith("versions.")]


def test_a_rollout_stands_still_while_postgres_is_down_and_goes_on_where_it_was(
    served: Graph, postgres: Any, wait_until: Callable[..., float]
) -> None:
    wait_until(lambda: served.chat("who?").headers.get("x-serve-graph-version") == STABLE, 60)
    steps = ",".join(map(str, STEPS))
    with Conversations(served.url) as asked:
        invoked(
            served, "versions", "canary", "2", "--steps", steps, "--pause", PAUSE, "--rate", "0.2", "--minimum", "0"
        )
        wait_until(lambda: rollout(served)["step"] >= 1, 120)
        before, moved = rollout(served), moves(served)
        went = time.monotonic()
        postgres.stop("immediate")  # a crash: no connection is said good-bye to
        try:
            while time.monotonic() < went + AWAY_S:  # three pauses of a step
                assert "store" in refused(served, "versions", "rollout")
            assert "store" in refused(served, "versions", "abort", "--reason", "while nobody can write it down")
        finally:
            postgres.start()
        back = time.monotonic()
        now = rollout(served)
        assert (now["id"], now["state"]) == (before["id"], "Progressing")
        assert now["step"] - before["step"] <= 1, "one step may have been passed before, or now; none meanwhile"
        assert moves(served)[: len(moved)] == moved, "what was written is still there"
        took = wait_until(lambda: rollout(served)["step"] > now["step"], 60)
        wait_until(lambda: rollout(served)["weight"] == 0.6, 60)
        time.sleep(3)
        invoked(served, "versions", "promote", "2", "--reason", "seen enough")
        promoted = time.monotonic()
        wait_until(lambda: rollout(served)["state"] == "Healthy", 60)
        time.sleep(max(0.0, promoted + REACHES_WITHIN_S + 3 - time.monotonic()))
    away = [(status, version) for at, _, status, version, _ in asked.replies if went <= at <= back]
    print(
        f"\n{len(away)} of {len(asked.replies)} requests answered while the store was away; "
        f"next step {took:.1f} s after"
    )
    assert asked.unanswered == []
    assert len(away) >= AWAY_S, "one a second at the least, however busy the machine is"
    assert {status for status, _ in away} == {200}, "whoever asks notices nothing"
    assert sum(status != 200 for _, _, status, *_ in asked.replies) <= len(asked.replies) / 50
    assert {version for _, version in away} >= {STABLE, CANDIDATE}, "the candidate goes on at its share"
    assert asked.taken_back() == []
    found = moves(served)
    ends = ["versions.promoting", "versions.promote"]
    assert [one["action"] for one in found] == ["versions.canary", *["versions.step"] * (len(STEPS) - 1), *ends]
    assert [one["detail"]["weight"] for one in found[1 : len(STEPS)]] == [
        [low / 100, high / 100] for low, high in itertools.pairwise(STEPS)
    ]
    answered = {decision for _, _, status, _, decision in asked.replies if status == 200}
    wait_until(lambda: answered <= served.names_so_far(), 60)
    assert all(len(kept) == 1 for kept in served.records().values()), "no record is doubled"
    last_old = max(at for at, _, _, version, _ in asked.replies if version == STABLE)
    assert last_old - promoted < REACHES_WITHIN_S
