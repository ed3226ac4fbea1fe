"""`capacity` as typed: what numbers of requests a day need, on a page and as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.errors import DataError
from serve_graph.cli import app

DOCUMENTED = Path(__file__).parents[4] / "docs/results/plans/capacity.yaml"


def call(*words: object) -> Any:
    return CliRunner().invoke(app, ["capacity", *map(str, words)])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The documented file, for a few requests a day."""
    data = yaml.safe_load(DOCUMENTED.read_text()) | {"requests_per_day": [500, 20_000_000]}
    path = tmp_path / "sizing.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_it_prints_the_same_as_json_and_writes_a_page(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.md"
    done = call(small, "--simulate", "400", "--json", "--out", out)
    assert done.exit_code == 0, done.output
    few, many = json.loads(done.stdout)
    assert (few["simulated"]["requests"], many["simulated"]["requests"]) == (400, 400)
    assert many["tiers"][1]["replicas"] > 10 > few["tiers"][1]["replicas"]
    assert set(few["simulated"]["tiers"]) == {"cheap", "frontier"}
    page = out.read_text()
    assert "# What 500, 20M requests a day need" in page
    assert "800 requests simulated" in page


def test_nothing_is_simulated_where_that_is_not_asked(small: Path) -> None:
    done = call(small, "--simulate", "0")
    assert done.exit_code == 0
    assert "## Needed" in done.stdout
    assert "Simulated" not in done.stdout
    assert json.loads(call(small, "--simulate", "0", "--json").stdout)[0]["simulated"] is None


def test_a_file_with_a_key_it_does_not_know_is_refused_by_name(small: Path) -> None:
    small.write_text(small.read_text() + "\nteirs: []\n")
    done = call(small)
    assert isinstance(done.exception, DataError)
    assert "teirs" in str(done.exception)
