"""`versions approve` and `reject`: who, when and why are noted in the registry, and shown again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.errors import RegistryError
from router_models.versions.registry import register, set_tags
from router_models.versions.sealed.builtin import builtin_version
from serve_graph.cli import app
from serve_graph.errors import ServeGraphError

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


@pytest.fixture
def config(tmp_path: Path, new_registry: Callable[[Path], str]) -> Path:
    """A configuration whose registry holds one version, at no alias, without a review or a certificate."""
    uri = new_registry(tmp_path / "state" / "mlflow.db")
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump({"tiers": tiers, "state_folder": str(tmp_path / "state")}))
    folder = builtin_version(("cheap", "frontier"), tmp_path / "made")
    register(
        uri, "serve-graph-router", folder, params={}, metrics={}, tags={}, artifacts_folder=tmp_path / "artifacts"
    )
    return path


def versions(config: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["versions", *words, "--config", str(config)])


def review(config: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(versions(config, "list", "--json").stdout)[0]["review"]
    return found


def test_a_review_is_noted_with_who_when_and_why_and_may_be_changed(config: Path) -> None:
    assert review(config)["state"] == "none"
    done = versions(config, "approve", "1", "--by", "Ängeline M.", "--reason", "read it: ≤ 6 of 188\nfine")
    assert done.exit_code == 0, done.output
    seen = review(config)
    assert [seen[key] for key in ("state", "by", "reason")] == ["approved", "Ängeline M.", "read it: ≤ 6 of 188\nfine"]
    assert seen["at"].endswith("+00:00")
    assert "approved by: Ängeline M." in versions(config, "list").stdout
    versions(config, "reject", "1", "--by", "bert", "--reason", "no")
    assert [review(config)[key] for key in ("state", "by", "reason")] == ["rejected", "bert", "no"]
    told = json.loads(CliRunner().invoke(app, ["audit", "--config", str(config), "--json"]).stdout)
    entries = [(entry["action"], entry["target"], entry["detail"]["by"], entry["reason"][:4]) for entry in told]
    name = "serve-graph-router/1"
    assert entries == [
        ("versions.reject", name, "bert", "no"),
        ("versions.approve", name, "Ängeline M.", "read"),
    ]


def test_tags_that_were_left_by_hand_do_not_outlive_a_review(config: Path) -> None:
    uri = f"sqlite:///{config.parent / 'state' / 'mlflow.db'}"
    set_tags(uri, "serve-graph-router", "1", {"Review": "rejected", "status": "rejected"})
    versions(config, "approve", "1", "--by", "anna", "--reason", "read it")
    assert review(config)["state"] == "approved"


def test_a_review_without_name_and_reason_has_the_login_name_and_warns(config: Path) -> None:
    done = versions(config, "approve", "1")
    assert done.exit_code == 0, done.output
    assert "a review without --reason will be refused from the next release on" in done.stderr
    assert review(config)["reason"] == "no reason given"
    assert review(config)["by"]


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["approve", "1", "--by", "First start"], ServeGraphError, "is what `up` calls itself"),
        (["reject", "1", "--by", "anna", "--reason", " "], RegistryError, "a review needs a --reason"),
        (["approve", "7", "--by", "anna", "--reason", "x"], ServeGraphError, "no version '7'"),
        (["promote", "1"], ServeGraphError, "serve-graph-router/1 is not reviewed"),
    ],
)
def test_what_is_no_review_is_refused(config: Path, words: list[str], error: type[Exception], said: str) -> None:
    found = versions(config, *words).exception
    assert isinstance(found, error)
    assert said in str(found)
    assert review(config)["state"] == "none"


def test_approval_does_not_stand_for_a_certificate(config: Path) -> None:
    versions(config, "approve", "1", "--by", "anna", "--reason", "read it")
    refused = str(versions(config, "promote", "1").exception)
    assert "serve-graph-router/1 can take no traffic: it carries no certificate; `serve-graph certify`" in refused
