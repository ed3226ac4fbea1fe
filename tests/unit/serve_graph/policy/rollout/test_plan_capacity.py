import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from serve_graph.cli import app
from tests.unit.serve_graph.cli.offline.test_offline_commands import MIX, NAMES

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def slow_mix() -> dict[str, Any]:
    tiers = {name: {**tier, "latency_s": {"p50": 1.0, "p95": 1.0001}} for name, tier in MIX["tiers"].items()}
    return {**MIX, "tiers": tiers}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(slow_mix()))
    scaling = {"min_replicas": 1, "max_replicas": 2, "max_ongoing_requests": 10}
    hosted = {"base_url": "https://example.com/v1"}
    tiers = [
        {"name": "cheap", "engine": "echo", "price": PRICE, "scaling": scaling},
        {"name": "frontier", "engine": "openai", "model": "m", "price": PRICE, **hosted},
    ]
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump({"tiers": tiers, "state_folder": str(tmp_path / "state")}))
    return tmp_path


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_plan_says_what_the_configured_tiers_carry(files: Path) -> None:
    words = ["plan", "--traffic", files / "mix.yaml", *NAMES, "--volume", "80000", "--capacity", "30"]
    found = call(*words, "--config", files / "graph.yaml", "--json")
    assert found.exit_code == 0, found.output
    loads = {load["name"]: load["tiers"] for load in json.loads(found.stdout)["loads"]}
    cheap, _ = loads["always cheap"]
    assert cheap["at_once"]["value"] == pytest.approx(30, rel=0.02)
    assert (cheap["replicas"], cheap["most"], cheap["fits"]) == (4, 20, False)
    assert loads["always frontier"][1]["replicas"] is None
    page = call(*words)
    assert "## What the tiers carry" in page.stdout
    assert "## What the tiers carry" not in call(*words[:-2]).stdout


def test_a_rate_that_is_none_and_tiers_that_are_not_configured_end_in_one_line(files: Path) -> None:
    words = ["plan", "--traffic", files / "mix.yaml", "--weak", "cheap", "--strong", "frontier", "--volume", "1"]
    assert call(*words, "--capacity", "0").exit_code != 0
    other = files / "other.yaml"
    other.write_text((files / "graph.yaml").read_text().replace("frontier", "dear") + "policy: {safe_tier: dear}\n")
    found = call(*words, "--capacity", "3", "--config", other)
    assert found.exit_code == 2
    assert "has no tier 'frontier'" in " ".join(found.output.split())
