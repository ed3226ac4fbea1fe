"""Status says how many of a running graph's requests its certificate does not cover, where it is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from router_models.versions.registry import register, set_tags
from router_models.versions.sealed.builtin import builtin_version
from serve_graph.cli import app

STATE = {
    "tiers_ready": {"cheap": True},
    "tiers": ["cheap"],
    "version": "router/1",
    "promise": "P <= 0.1",
}


@pytest.fixture
def graph(ready_server: Any) -> Any:
    """What answers `/readyz` with one word, and with STATE and its `coverage` where it is shown a key."""

    def reply(authorization: str | None) -> tuple[int, Any]:
        told = STATE | {"coverage": ready_server.coverage} if authorization == "Bearer k" else {}
        return 200, {"status": "ready", "ready": True} | told

    ready_server.reply = reply
    return ready_server


@pytest.fixture
def status(graph: Any, tmp_path: Path) -> Callable[..., Result]:
    """Run `status` on the graph; keywords are environment variables."""
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"engine": "echo", "name": "cheap", "price": price}]
    config = {"tiers": tiers, "policy": {"safe_tier": "cheap"}, "http": {"port": graph.server_port}}
    config |= {"state_folder": str(tmp_path / "state")}
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(config))
    return lambda **environment: CliRunner().invoke(
        app, ["status", "--config", str(path)], env={"SERVE_GRAPH_KEY": "", **environment}
    )


def test_without_a_key_it_says_that_keys_are_told_more_and_with_the_file_of_one_it_is(
    graph: Any, tmp_path: Path, status: Callable[..., Result]
) -> None:
    graph.coverage = {}
    assert "set $SERVE_GRAPH_KEY, or" in status().output
    assert "router/1" not in status().output
    (tmp_path / "key").write_text("k\n")
    assert "router/1" in status(SERVE_GRAPH_KEY_FILE=str(tmp_path / "key")).output
    assert "cannot be read" in str(status(SERVE_GRAPH_KEY_FILE=str(tmp_path / "none")).exception)


def test_an_approval_that_was_withdrawn_while_the_graph_runs_is_said(
    graph: Any, tmp_path: Path, status: Callable[..., Result], new_registry: Callable[[Path], str]
) -> None:
    graph.coverage = {}
    uri, folder = new_registry(tmp_path / "state" / "mlflow.db"), builtin_version(("cheap", "b"), tmp_path / "made")
    kept = tmp_path / "artifacts"
    register(uri, "router", folder, params={}, metrics={}, tags={"review": "approved"}, artifacts_folder=kept)
    assert "in the registry by now" not in status(SERVE_GRAPH_KEY="k").output
    set_tags(uri, "router", "1", {"review": "rejected"})
    assert "version router/1: rejected in the registry by now" in status(SERVE_GRAPH_KEY="k").output


@pytest.mark.parametrize(
    ("key", "coverage", "told"),
    [
        ("", {}, None),
        ("k", {"requests": 0, "uncovered": 0, "share": None, "reasons": {}}, None),
        ("k", {"requests": 4, "uncovered": 0, "share": 0.0, "reasons": {}}, "0 of the last 4 requests\n"),
        (
            "k",
            {"requests": 4, "uncovered": 3, "share": 0.75, "reasons": {"decoding": 2, "novelty": 1}},
            "3 of the last 4 requests (decoding 2, novelty 1)\n",
        ),
    ],
)
def test_status_counts_what_is_not_covered(
    graph: Any, status: Callable[..., Result], key: str, coverage: dict[str, Any], told: str | None
) -> None:
    graph.coverage = coverage
    done = status(SERVE_GRAPH_KEY=key)
    assert done.exit_code == 0, done.output
    assert ("not covered by the certificate" in done.output) == (told is not None)
    assert told is None or f"not covered by the certificate: {told}" in done.output
