"""A registry that an earlier release left: its version is refused by name, and `certify` makes one that serves."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router_models.data.artifacts import MANIFEST, seal
from router_models.versions.registry import register
from router_models.versions.review import review_tags
from serve_graph.cli import app
from serve_graph.cli.local.doctor import examine
from serve_graph.config.graph import load_config
from serve_graph.policy.bindings import tier_binds, write_collected_binds
from serve_graph.policy.serving_version import serving_version
from tests.fixtures.outcomes import sure_outcomes
from tests.fixtures.registry import echo_graph_file, sealed_version

pytestmark = pytest.mark.timeout(300)
FORMER = {
    "1": ({"format": 1}, "certificate format 1: made when every copy of a prompt counted as evidence"),
    "2": ({"format": 2}, "certificate format 2: made when every copy of a prompt counted as evidence"),
    "3": ({"format": 3}, "certificate format 3: made without its coverage"),
    "4 without coverage": ({"format": 4, "coverage": None}, "certificate format 4: made without its coverage"),
}
AGAIN = "run `serve-graph certify` again"


def left_by(folder: Path, change: dict[str, Any]) -> Path:
    """The folder with a certificate as an earlier release sealed it."""
    path = folder / "certificate.json"
    data = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in data.items() if (name, value) != ("coverage", None)}))
    (folder / MANIFEST).unlink()
    seal(folder)
    return folder


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture
def config(tmp_path: Path, new_registry: Callable[[Path], str]) -> Path:
    path = echo_graph_file(tmp_path, {"cheap": (0.1, 0.1), "frontier": (2, 2)})
    new_registry(tmp_path / "state" / "mlflow.db")
    return path


def leave(config: Path, folder: Path, change: dict[str, Any]) -> None:
    """Register and approve, at `stable`, what an earlier release had certified."""
    graph, now = load_config(config), datetime.now(UTC)
    register(
        graph.registry_uri, graph.policy.model_name, left_by(sealed_version(graph, folder, now), change), params={},
        metrics={}, tags=review_tags("approved", "anna", now, "read its report"), alias="stable",
        artifacts_folder=graph.state_folder / "artifacts",
    )  # fmt: skip


@pytest.mark.parametrize("name", FORMER)
def test_a_version_of_an_earlier_release_is_refused_by_its_format_with_the_way_on(
    config: Path, tmp_path: Path, name: str
) -> None:
    change, said = FORMER[name]
    leave(config, tmp_path / "old", change)
    served = serving_version(load_config(config))
    assert served.version is None
    assert said in served.reason
    assert AGAIN in served.reason
    found = "\n".join(f"{finding}" for finding in examine(load_config(config)))
    assert said in found
    assert AGAIN in found


def test_certified_again_it_serves(config: Path, tmp_path: Path) -> None:
    leave(config, tmp_path / "old", FORMER["1"][0])
    table = tmp_path / "outcomes.parquet"
    sure_outcomes(table, 400)
    write_collected_binds(table, tier_binds(load_config(config)))
    given = ("--config", config, "--outcomes", table)
    call("train", *given, "--out", tmp_path / "candidate", "--router", "surface", "--verifier", "combined")
    call("certify", *given, "--candidate", tmp_path / "candidate", "--epsilon", "0.2")
    call("versions", "approve", "2", "--config", config, "--by", "anna", "--reason", "certified anew, format 4")
    call("versions", "promote", "2", "--config", config, "--allow-loss")
    served = serving_version(load_config(config))
    assert served.name == "serve-graph-router/2", served.reason
