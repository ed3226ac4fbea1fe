"""A canary on a graph of several replicas: sticky, driven on by a controller that was killed, aborted, promoted."""

import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.config.graph import load_config
from tests.fixtures.registry import PRICE, registered_version

pytestmark = pytest.mark.timeout(900)
Graph = Any
TIERS = [{"name": name, "engine": "echo", "price": PRICE} for name in ("cheap", "frontier")]
STABLE, CANDIDATE = "serve-graph-router/1", "serve-graph-router/2"
SESSIONS = 24


@pytest.fixture(scope="module")
def served(new_graph: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A graph of 2 ingress replicas with two approved versions, the first of them `stable`."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"
    settings = {"tiers": TIERS, "policy": {"version": "stable", "allow_loss": True}, "tracking_uri": uri}
    folder = tmp_path_factory.mktemp("versions")
    (folder / "graph.yaml").write_text(json.dumps(settings | {"state_folder": str(folder / "state")}))
    config = load_config(folder / "graph.yaml")
    for n, alias in ((1, "stable"), (2, None)):
        registered_version(config, folder / str(n), datetime.now(UTC), 0.6 + n / 10, alias)
    graph = new_graph(20.0, replicas={"ingress": 2}, **settings)
    yield graph
    graph.stop(signal.SIGTERM)


def versions(graph: Graph, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["versions", *words, "--json", "--config", str(graph.state / "graph.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def by_session(graph: Graph) -> dict[int, str]:
    """Which version answers each of some conversations."""
    asked = {n: graph.chat("which?", serve_graph={"session": f"s{n}"}) for n in range(SESSIONS)}
    assert {reply.status_code for reply in asked.values()} == {200}
    return {n: str(reply.headers["x-serve-graph-version"]) for n, reply in asked.items()}


def candidates(answered: dict[int, str]) -> set[int]:
    return {n for n, version in answered.items() if version == CANDIDATE}


def test_a_canary_is_sticky_outlives_its_controller_and_ends_when_it_is_aborted(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    wait_until(lambda: set(by_session(served).values()) == {STABLE}, 60)
    begun = versions(served, "canary", "2", "--steps", "30,70", "--pause", "60s", "--rate", "0")
    wait_until(lambda: bool(candidates(by_session(served))), 60)
    wait_until(lambda: len({frozenset(candidates(by_session(served))) for _ in range(2)}) == 1, 60)
    first = candidates(by_session(served))
    assert 0 < len(first) < SESSIONS
    served.kill("controller")
    assert candidates(by_session(served)) == first, "replicas go on without a controller"
    wait_until(lambda: versions(served, "rollout")["weight"] == 0.7, 150)
    wait_until(lambda: len(candidates(by_session(served))) > len(first), 60)
    assert first < candidates(by_session(served)), "who was the candidate's is so at a greater share"
    versions(served, "abort", "--reason", "enough seen")
    wait_until(lambda: not candidates(by_session(served)), 60)
    audit = CliRunner().invoke(app, ["audit", "--json", "--config", str(served.state / "graph.yaml")])
    actions = [entry["action"] for entry in json.loads(audit.stdout) if entry["target"] == CANDIDATE]
    assert actions[::-1] == ["versions.canary", "versions.step", "versions.abort"], "no step was passed twice"
    found = [record for records in served.records().values() for record in records]
    arms = {(r.evidence["rollout"]["arm"], r.version) for r in found if "rollout" in r.evidence}
    assert arms == {("stable", STABLE), ("candidate", CANDIDATE)}
    assert {r.evidence["rollout"]["id"] for r in found if "rollout" in r.evidence} == {begun["id"]}


def test_a_canary_that_a_person_promotes_is_what_the_graph_serves(
    served: Graph, wait_until: Callable[..., float]
) -> None:
    versions(served, "canary", "2", "--steps", "50", "--rate", "0")
    wait_until(lambda: 0 < len(candidates(by_session(served))) < SESSIONS, 60)
    config = ["--config", str(served.state / "graph.yaml")]
    done = CliRunner().invoke(app, ["versions", "promote", "2", "--reason", "seen enough", *config])
    assert done.exit_code == 0, done.output
    wait_until(lambda: len(candidates(by_session(served))) == SESSIONS, 30)
    wait_until(lambda: versions(served, "rollout")["state"] == "Healthy", 60)
    assert versions(served, "status")["version"] == CANDIDATE
