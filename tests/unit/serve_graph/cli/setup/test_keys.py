import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from serve_graph.access.keys import key_hash, read_keys
from serve_graph.cli import app
from serve_graph.errors import ConfigError

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `serve-graph keys …` on a configuration of its own."""
    tier = {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}
    config = tmp_path / "graph.yaml"
    config.write_text(yaml.safe_dump({"tiers": [tier], "state_folder": str(tmp_path / "state")}))

    def go(*words: str) -> Result:
        return CliRunner().invoke(app, ["keys", *words, "--config", str(config)])

    return go


def test_a_new_key_is_printed_once_and_kept_as_its_hash(run: Run, tmp_path: Path) -> None:
    limits = ["--scope", "use", "--scope", "admin", "--requests-per-min", "60", "--usd-per-day", "1.50"]
    made = run("new", "team-a", *limits, "--quality-floor", "0.9")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    path = tmp_path / "state" / "keys.yaml"
    [key] = read_keys(path)
    assert key.sha256 == key_hash(secret)
    assert (key.scopes, key.requests_per_min, str(key.usd_per_day), key.quality_floor) == (
        ("use", "admin"),
        60,
        "1.50",
        0.9,
    )
    listed = run("list")
    assert "team-a" in listed.stdout
    assert "1.50" in listed.stdout
    for shown in (path.read_text(), listed.stdout, run("list", "--json").stdout):
        assert secret not in shown
    assert key.sha256 not in listed.stdout + run("list", "--json").stdout


def test_keys_are_made_and_revoked_by_name(run: Run, tmp_path: Path) -> None:
    secret = json.loads(run("new", "a", "--json").stdout)["key"]
    run("new", "b")
    assert run("revoke", "b").exit_code == 0
    [key] = read_keys(tmp_path / "state" / "keys.yaml")
    assert (key.name, key.sha256, key.scopes) == ("a", key_hash(secret), ("use",))
    assert isinstance(run("revoke", "b").exception, ConfigError)


@pytest.mark.parametrize(
    "words", [("a",), ("Not A Name",), ("b", "--scope", "everything"), ("b", "--usd-per-day", "-1")]
)
def test_what_cannot_be_a_key_is_refused_and_changes_nothing(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    run("new", "a")
    before = (tmp_path / "state" / "keys.yaml").read_text()
    assert isinstance(run("new", *words).exception, ConfigError)
    assert (tmp_path / "state" / "keys.yaml").read_text() == before


def test_an_amount_or_a_label_that_is_none_is_wrong_use(run: Run) -> None:
    assert run("new", "a", "--usd-per-day", "much").exit_code == 2
    assert run("new", "a", "--label", "gold").exit_code == 2
    assert run("new", "a", "--label", "=gold").exit_code == 2


def test_a_key_sets_labels_of_its_requests(run: Run, tmp_path: Path) -> None:
    run("new", "a", "--label", "user_tier=gold", "--label", "domain=law=eu")
    [key] = read_keys(tmp_path / "state" / "keys.yaml")
    assert key.labels == {"user_tier": "gold", "domain": "law=eu"}


def test_no_keys_says_what_that_means(run: Run) -> None:
    assert "this machine only" in run("list").stdout
