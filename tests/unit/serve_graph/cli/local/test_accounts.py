"""Doctor says what a running graph has seen of its hosted tiers' keys, accounts and models."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from serve_graph.cli.local.doctor import Finding, examine
from serve_graph.config.graph import GraphConfig

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


@pytest.fixture
def graph() -> Iterator[HTTPServer]:
    """What answers `/readyz` with its `state`, and 503."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(json.dumps(self.server.state).encode())  # type: ignore[attr-defined]

        def log_message(self, *_: Any) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def accounts(port: int, engine: str = "openai") -> Finding:
    hosted = {"engine": "openai", "name": "frontier", "model": "m", "price": PRICE}
    last = hosted if engine == "openai" else {"engine": "echo", "name": "frontier", "price": PRICE}
    tiers = [{"engine": "echo", "name": "cheap", "price": PRICE}, last]
    config = GraphConfig.model_validate({"tiers": tiers, "http": {"port": port}})
    [found] = [finding for finding in examine(config) if finding.check == "accounts"]
    return found


def test_a_refused_key_in_the_running_graph_is_a_finding(graph: HTTPServer) -> None:
    graph.state = {"tier_faults": {"frontier": "1 deployment(s) refuse it"}}  # type: ignore[attr-defined]
    found = accounts(graph.server_port)
    assert (found.ok, found.detail) == (False, "tier frontier: 1 deployment(s) refuse it")


@pytest.mark.parametrize("state", [{}, {"tier_faults": {}}, [], {"tier_faults": 5}], ids=str)
def test_nothing_is_found_where_nothing_is_refused(graph: HTTPServer, state: Any) -> None:
    graph.state = state  # type: ignore[attr-defined]
    assert accounts(graph.server_port).ok


def test_a_graph_that_tells_admin_keys_only_is_not_taken_for_a_healthy_one(graph: HTTPServer) -> None:
    graph.state = {"status": "ready", "ready": True}  # type: ignore[attr-defined]
    assert "tells what it has seen to admin keys only" in accounts(graph.server_port).detail


def test_without_a_running_graph_it_says_so() -> None:
    assert "no graph is running" in accounts(1).detail
    assert accounts(1, "echo").detail == "no hosted tier"
