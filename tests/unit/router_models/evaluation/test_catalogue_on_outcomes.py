"""`evaluate --catalogue`: what a catalogue takes of recorded outcomes, gains and costs, beside the router alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router_models.estimators.catalogue.intents import read_catalogue
from serve_graph.cli import app

ROOT = Path(__file__).parents[4]
N = 60


def outcomes(folder: Path) -> Path:
    """Refunds, which the cheap tier gets wrong, and sums, which it gets right; the embeddings tell them apart."""
    rows = []
    for i in range(N):
        refund = i % 2 == 0
        text = f"I want my money back for order {i}" if refund else f"What is {i} plus {i}?"
        for tier, right in (("cheap", float(not refund)), ("frontier", 1.0)):
            rows.append({"prompt": text, "tier": tier, "answer": "so", "grade": right})
    path = folder / "outcomes.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def told(tmp_path: Path) -> Path:
    path = tmp_path / "intents.yaml"
    intents = [
        {"name": "refunds", "tier": "frontier", "floor": 0.5, "examples": ["I want my money back"]},
        {"name": "weather", "tier": "cheap", "examples": ["Will it rain tomorrow?"]},
    ]
    path.write_text(yaml.safe_dump({"intents": intents}))
    return path


def test_it_says_what_each_intent_takes_and_what_it_brings(tmp_path: Path, told: Path) -> None:
    words = ["evaluate", "--outcomes", str(outcomes(tmp_path)), "--weak", "cheap", "--strong", "frontier"]
    words += ["--router", "surface", "--folds", "3", "--cache", str(tmp_path / "cache"), "--catalogue", str(told)]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    refunds, weather = figures["intents"]
    assert (refunds["name"], refunds["prompts"], refunds["weak_right"], refunds["strong_right"]) == (
        "refunds",
        30,
        0,
        1,
    )
    assert refunds["cosine"] > 0.5
    assert (weather["prompts"], weather["cosine"]) == (0, None)
    for row in figures["rows"]:
        assert row["right_beside"] >= row["right"]
        assert row["gain"]["value"] == pytest.approx(row["right_beside"] - row["right"])
        assert row["gain"]["low"] <= row["gain"]["value"] <= row["gain"]["high"]
        assert row["cost_more"]["value"] == pytest.approx(row["share_beside"] - row["share"]), "costs are strong calls"
    quarter = figures["rows"][0]
    assert quarter["share_beside"] >= 0.5
    assert quarter["right_beside"] == 1

    page = CliRunner().invoke(app, words)
    assert "# A catalogue of intents on outcomes" in page.output
    assert "| refunds | frontier | 30 |" in page.output


def test_a_catalogue_of_other_tiers_is_refused(tmp_path: Path, told: Path) -> None:
    words = ["evaluate", "--outcomes", str(outcomes(tmp_path)), "--catalogue", str(told), "--strong", "frontier"]
    done = CliRunner().invoke(app, [*words, "--weak", "small", "--cache", str(tmp_path / "cache")])
    assert done.exit_code == 1
    done = CliRunner().invoke(app, ["evaluate", "--all", str(tmp_path), "--catalogue", str(told)])
    assert done.exit_code == 2


def test_the_shipped_example_is_a_catalogue() -> None:
    found = read_catalogue(ROOT / "examples" / "intents.yaml", ("cheap", "frontier"))
    assert found.every[0].name == "known_hard"
    assert np.unique([len(one.examples) for one in found.every]).min() >= 2
    assert pd.Series([one.name for one in found.every]).is_unique
