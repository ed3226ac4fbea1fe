"""One graph that logs JSON and sends its spans to a collector, for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster.conftest import RunningGraph
from tests.unit.serve_graph.engines.telemetry.collector import Collector, collecting


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="session")
def observed(new_graph: Callable[..., RunningGraph], collector: Collector) -> RunningGraph:
    return new_graph(
        logging={"format": "json", "level": "DEBUG"},
        tracing={"otlp_endpoint": collector.url},
        records={"retry_s": 0.3},
    )
