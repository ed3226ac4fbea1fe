"""`serve-graph init`: a starter configuration that loads, is never overwritten unasked, and says what comes next."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.cli.setup.init import Kind
from serve_graph.config.graph import load_config
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.errors import ConfigError

RUN = CliRunner()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVE_GRAPH_STORE_URL", "postgresql://graph@store/decisions")
    monkeypatch.setenv("SERVE_GRAPH_REGISTRY_URI", "https://registry")


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_written_loads_and_the_next_command_names_it(kind: Kind) -> None:
    done = RUN.invoke(app, ["init", kind.value])
    assert done.exit_code == 0, done.output
    assert f"serve-graph up --config configs/{kind}.yaml" in done.output
    assert load_config(Path(f"configs/{kind}.yaml")).policy.safe_tier == "frontier"


def test_without_a_kind_it_is_what_up_reads_by_default() -> None:
    from serve_graph.cli.output import DEFAULT_CONFIG

    assert RUN.invoke(app, ["init"]).exit_code == 0
    assert DEFAULT_CONFIG.is_file()


def test_hosted_is_two_models_by_key() -> None:
    RUN.invoke(app, ["init", "hosted", "--out", "my.yaml"])
    tiers = load_config(Path("my.yaml")).tiers
    assert [type(tier) for tier in tiers] == [HostedTierConfig, HostedTierConfig]


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    done = RUN.invoke(app, ["init", "echo", "--out", str(path)])
    assert isinstance(done.exception, ConfigError)
    assert "--force" in str(done.exception)
    assert path.read_text() == "mine"
    assert RUN.invoke(app, ["init", "echo", "--out", str(path), "--force"]).exit_code == 0
    assert load_config(path).tier_names == ("cheap", "frontier")


def test_an_unknown_kind_is_wrong_use_and_the_known_ones_are_named() -> None:
    done = RUN.invoke(app, ["init", "laptop"])
    assert done.exit_code == 2
    assert all(kind in done.output for kind in Kind)


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["init", "echo", "--out", str(tmp_path), "--force"])
    assert "is a folder" in str(done.exception)
