import json
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from tests.cluster.graphs.running_graph import RunningGraph, until
from tests.unit.serve_graph.engines.telemetry.collector import Collector, collecting

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)  # of those that the sample leaves
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that share a graph first, and then those with graphs of their own, which no idle one slows down."""
    here = [item for item in items if HERE in item.path.parents]
    sharing = {item.path for item in here if "graph" in getattr(item, "fixturenames", ())}
    ordered = iter(sorted(here, key=lambda item: item.path not in sharing))
    items[:] = [next(ordered) if HERE in item.path.parents else item for item in items]


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., float]:
    return until


class Neighbour(BaseHTTPRequestHandler):
    """What another cluster's fallback proxy would be to ours: healthy, and wrong."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def neighbour() -> Iterator[type[Neighbour]]:
    """Another graph on this machine, on the port where Ray Serve's fallback proxy listens unless told otherwise."""
    with socket.socket() as listening, suppress(OSError):  # taken for good: then something of that kind is there
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("127.0.0.1", 8500))
        server = ThreadingHTTPServer(("127.0.0.1", 8500), Neighbour, bind_and_activate=False)
        server.socket.close()
        server.socket = listening
        server.server_activate()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Neighbour
        server.shutdown()
        return
    yield Neighbour


@pytest.fixture(scope="session")
def new_graph(neighbour: type[Neighbour]) -> Iterator[Callable[..., RunningGraph]]:
    """Start a graph with changes to configs/echo.yaml; whatever a test leaves running is stopped at the end."""
    graphs: list[RunningGraph] = []
    with tempfile.TemporaryDirectory(prefix="sg-test-", dir="/tmp") as folder:  # Ray's socket paths must be short

        def start(
            tier_timeout_s: float = 3.0,
            *,
            replicas: dict[str, int] | None = None,
            headers: dict[str, str] | None = None,
            **changes: Any,
        ) -> RunningGraph:
            state = Path(folder) / f"graph-{len(graphs)}"
            graphs.append(RunningGraph(state, changes, tier_timeout_s, replicas or {}, headers or {}))
            begun = graphs[-1].start()
            assert not neighbour.asked, "a graph asked another one on this machine"
            return begun

        yield start
        for graph in graphs:
            if graph.process is not None:
                graph.stop(signal.SIGTERM)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the shared graph sends its spans."""
    with collecting() as found:
        yield found


@pytest.fixture(scope="session")
def graph(new_graph: Callable[..., RunningGraph], collector: Collector) -> RunningGraph:
    """The graph most tests share: echo engines, HAProxy, SQLite, logs as JSON, spans."""
    return new_graph(
        records={"retry_s": 0.3},
        http={"cors": {"origins": ["http://localhost:*"]}},
        batches={"beside": 4},
        logging={"format": "json", "level": "DEBUG"},
        tracing={"otlp_endpoint": collector.url},
    )


@pytest.fixture(autouse=True)
def _healthy_before_and_after(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves the shared graph hurt: routing works again before the next begins."""
    yield
    if "graph" in request.fixturenames:
        graph: RunningGraph = request.getfixturevalue("graph")
        if graph.process is not None and graph.process.poll() is None:
            until(lambda: graph.chat("are you well?").headers.get("x-serve-graph-outcome") == "accepted", 60)


def sse(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a streamed reply, without [DONE] and comments."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line and line[0] != ":"]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.fixture(scope="session")
def events() -> Callable[[httpx.Response], list[dict[str, Any]]]:
    return sse
