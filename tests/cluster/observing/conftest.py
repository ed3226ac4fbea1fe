"""One graph that logs JSON and sends its spans to a collector, for all tests here."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import RunningGraph
from tests.unit.serve_graph.engines.telemetry.collector import Collector, collecting

HERE = Path(__file__).parent
_RUNNING: list[RunningGraph] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None]:
    """Stop the graph after the last test here: an idle graph is not free, nobody else's tests should wait for it."""
    yield
    if nextitem is None or HERE not in nextitem.path.parents:
        while _RUNNING:
            _RUNNING.pop().stop(signal.SIGTERM)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="session")
def observed(new_graph: Callable[..., RunningGraph], collector: Collector) -> RunningGraph:
    settings = {"logging": {"format": "json", "level": "DEBUG"}, "tracing": {"otlp_endpoint": collector.url}}
    _RUNNING.append(new_graph(records={"retry_s": 0.3}, **settings))
    return _RUNNING[-1]
