"""Doctor says what a running graph has seen of its hosted tiers' keys, accounts and models."""

from typing import Any

import pytest

from serve_graph.cli.local.doctor import Finding, examine
from serve_graph.config.graph import GraphConfig

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


@pytest.fixture
def graph(ready_server: Any) -> Any:
    """What answers `/readyz` with its `state`, and 503."""
    ready_server.reply = lambda _: (503, ready_server.state)
    return ready_server


def accounts(port: int, engine: str = "openai") -> Finding:
    hosted = {"engine": "openai", "name": "frontier", "model": "m", "price": PRICE}
    last = hosted if engine == "openai" else {"engine": "echo", "name": "frontier", "price": PRICE}
    tiers = [{"engine": "echo", "name": "cheap", "price": PRICE}, last]
    config = GraphConfig.model_validate({"tiers": tiers, "http": {"port": port}})
    [found] = [finding for finding in examine(config) if finding.check == "accounts"]
    return found


def test_a_refused_key_in_the_running_graph_is_a_finding(graph: Any) -> None:
    graph.state = {"tier_faults": {"frontier": "1 deployment(s) refuse it"}}
    found = accounts(graph.server_port)
    assert (found.ok, found.detail) == (False, "tier frontier: 1 deployment(s) refuse it")


@pytest.mark.parametrize("state", [{}, {"tier_faults": {}}, [], {"tier_faults": 5}], ids=str)
def test_nothing_is_found_where_nothing_is_refused(graph: Any, state: Any) -> None:
    graph.state = state
    assert accounts(graph.server_port).ok


def test_a_graph_that_tells_admin_keys_only_is_not_taken_for_a_healthy_one(graph: Any) -> None:
    graph.state = {"status": "ready", "ready": True}
    assert "tells what it has seen to admin keys only" in accounts(graph.server_port).detail


def test_without_a_running_graph_it_says_so() -> None:
    assert "no graph is running" in accounts(1).detail
    assert accounts(1, "echo").detail == "no hosted tier"
