"""A canary on a graph of several replicas: sticky, driven on by a controller that was killed, aborted, promoted."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.replicated.tried_versions import (
    CANDIDATE,
    SESSIONS,
    STABLE,
    Graph,
    answered_by,
    invoked,
    moves,
    rollout,
)

pytestmark = [pytest.mark.timeout(900), pytest.mark.in_turn("replicated")]


def candidates(graph: Graph) -> set[int]:
    """The conversations that the candidate answers."""
    return {n for n, version in answered_by(graph).items() if version == CANDIDATE}


def begun(graph: Graph, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoked(graph, "versions", "canary", "2", *words, "--rate", "0", "--json"))
    return found


def test_a_canary_is_sticky_outlives_its_controller_and_ends_when_it_is_aborted(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    before, moved = served.names_so_far(), len(moves(served))
    canary = begun(served, "--steps", "30,70", "--pause", "20s")
    wait_until(lambda: bool(candidates(served)), 60)
    wait_until(lambda: len({frozenset(candidates(served)) for _ in range(2)}) == 1, 60)
    first = candidates(served)
    assert 0 < len(first) < SESSIONS
    served.kill("controller")
    assert candidates(served) == first, "replicas go on without a controller"
    wait_until(lambda: rollout(served)["weight"] == 0.7, 150)
    wait_until(lambda: len(candidates(served)) > len(first), 60)
    assert first < candidates(served), "who was the candidate's is so at a greater share"
    invoked(served, "versions", "abort", "--reason", "enough seen")
    wait_until(lambda: not candidates(served), 60)
    actions = [entry["action"] for entry in moves(served, moved)]
    assert actions == ["versions.canary", "versions.step", "versions.abort"], "no step was passed twice"
    served.names_so_far()
    found = [record for name, records in served.records().items() if name not in before for record in records]
    arms = {(r.evidence["rollout"]["arm"], r.version) for r in found if "rollout" in r.evidence}
    assert arms == {("stable", STABLE), ("candidate", CANDIDATE)}
    assert {r.evidence["rollout"]["id"] for r in found if "rollout" in r.evidence} == {canary["id"]}


def test_a_canary_that_a_person_promotes_is_what_the_graph_serves(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    begun(served, "--steps", "50", "--pause", "10m")
    wait_until(lambda: 0 < len(candidates(served)) < SESSIONS, 60)
    invoked(served, "versions", "promote", "2", "--reason", "seen enough")
    wait_until(lambda: len(candidates(served)) == SESSIONS, 30)
    wait_until(lambda: rollout(served)["state"] == "Healthy", 60)
    assert json.loads(invoked(served, "versions", "status", "--json"))["version"] == CANDIDATE
