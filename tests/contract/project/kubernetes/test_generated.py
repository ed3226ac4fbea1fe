"""The checked-in manifests are what `serve-graph manifests` makes of `configs/`."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_graph.cli import app

ROOT = Path(__file__).parents[4]
MADE = sorted(path for path in (ROOT / "k8s").rglob("*.yaml") if path.read_text().startswith("# Made by: "))


def words(path: Path) -> list[str]:
    """The command that the file's first line names, without the program."""
    found = re.match(r"# Made by: serve-graph (.+)\n", path.read_text())
    assert found is not None, path
    return shlex.split(found[1])


def test_there_is_a_graph_for_every_kind_of_configuration() -> None:
    configs = {word for path in MADE for word in words(path) if word.startswith("configs/")}
    assert configs == {"configs/cluster.yaml", "configs/hosted.yaml", "configs/local.yaml"}


@pytest.mark.parametrize("path", MADE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_is_what_its_command_makes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert words(path)[-2:] == ["--out", str(path.relative_to(ROOT))]
    done = CliRunner().invoke(app, [*words(path), "--check"], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, f"{path.relative_to(ROOT)}: up to date\n")


def test_a_file_that_was_changed_by_hand_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_graph.errors import ConfigError

    monkeypatch.chdir(ROOT)
    changed = tmp_path / "graph.yaml"
    made = CliRunner().invoke(app, ["manifests", "--config", "configs/hosted.yaml", "--out", str(changed)])
    assert made.output == f"{changed}: ConfigMap, Job, RayService, PodDisruptionBudget, Deployment\n"
    changed.write_text(changed.read_text().replace("maxReplicas: 2", "maxReplicas: 9"))
    done = CliRunner().invoke(app, ["manifests", "--config", "configs/hosted.yaml", "--out", str(changed), "--check"])
    assert isinstance(done.exception, ConfigError)
    assert "run `serve-graph manifests --config configs/hosted.yaml" in str(done.exception)


@pytest.mark.parametrize("wrong", [["--check"], ["--machine", "cheap"], ["--machine", "=l4"]])
def test_wrong_use_is_said_so(wrong: list[str]) -> None:
    assert CliRunner().invoke(app, ["manifests", *wrong]).exit_code == 2


def test_a_configuration_that_names_what_one_node_alone_has_is_refused(tmp_path: Path) -> None:
    from serve_graph.errors import ConfigError

    price = "{input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
    tier = f"{{name: frontier, engine: vllm, weights: {{folder: mine}}, price: {price}}}"
    (tmp_path / "graph.yaml").write_text(f"tiers: [{tier}]")
    done = CliRunner().invoke(app, ["manifests", "--config", str(tmp_path / "graph.yaml")])
    assert isinstance(done.exception, ConfigError)
    assert "tiers.frontier.weights.folder" in str(done.exception)
