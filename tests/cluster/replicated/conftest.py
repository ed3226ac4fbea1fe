"""One graph of several replicas for all tests here, which of two versions serves the first and may try the second."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serve_graph.access.keys import key_hash
from serve_graph.config.graph import load_config
from tests.cluster.graphs.running_graph import RunningGraph, until
from tests.cluster.replicated.tried_versions import STABLE, answered_by, invoked
from tests.fixtures.registry import PRICE, registered_version

HERE = Path(__file__).parent
TIERS = [{"name": name, "engine": "echo", "price": PRICE} for name in ("cheap", "frontier")]
SCOPES = ["use", "force", "admin"]
KEYS = [
    {"name": "boss", "sha256": key_hash("boss"), "scopes": SCOPES},
    {"name": "held", "sha256": key_hash("held"), "scopes": SCOPES, "requests_per_min": 60},
]
_RUNNING: list[RunningGraph] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None]:
    """Stop the graph after the last test here: an idle graph is not free, nobody else's tests should wait for it."""
    yield
    if nextitem is None or HERE not in nextitem.path.parents:
        while _RUNNING:
            _RUNNING.pop().stop(signal.SIGTERM)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def replicated(
    request: pytest.FixtureRequest,
    new_graph: Callable[..., RunningGraph],
    new_registry: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> RunningGraph:
    """Three ingress and two router replicas; its decision store is SQLite, or PostgreSQL where that is installed."""
    while _RUNNING:
        _RUNNING.pop().stop(signal.SIGTERM)
    postgres = None
    if request.param == "postgres":
        try:
            postgres = request.getfixturevalue("postgres")
        except pytest.skip.Exception as reason:  # said of the tests that are of nothing else
            print(f"\non SQLite: {reason}")
    folder = tmp_path_factory.mktemp("versions")
    policy = {"version": "stable", "allow_loss": True, "follow_s": 0.5}
    settings: dict[str, Any] = {"tiers": TIERS, "policy": policy, "tracking_uri": new_registry(folder / "mlflow.db")}
    settings["records"] = {"retry_s": 0.3} | ({} if postgres is None else {"url": postgres.emptied()})
    (folder / "graph.yaml").write_text(json.dumps(settings | {"state_folder": str(folder / "state")}))
    config = load_config(folder / "graph.yaml")
    for n, alias in ((1, "stable"), (2, None)):
        registered_version(config, folder / str(n), datetime.now(UTC), 0.6 + n / 10, alias)
    settings |= {"access": {"keys": KEYS}}
    graph = new_graph(20.0, replicas={"ingress": 3, "router": 2}, headers={"x-api-key": "boss"}, **settings)
    graph.registry, graph.postgres = folder / "mlflow.db", postgres
    _RUNNING.append(graph)
    return graph


@pytest.fixture
def served(replicated: RunningGraph) -> RunningGraph:
    """The graph as it was at first: version 1 answers everybody, and version 2 is not tried."""
    if set(answered_by(replicated).values()) != {STABLE}:
        invoked(replicated, "versions", "promote", "1", "--reason", "the next test begins with it")
    until(lambda: set(answered_by(replicated).values()) == {STABLE})
    return replicated
