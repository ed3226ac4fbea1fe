"""`serve-graph robustness` as typed: a page, its figures as JSON, and wrong use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from router_models.versions.sealed.builtin import builtin_version
from serve_graph.cli import app


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance, n = np.random.default_rng(0), 400
    right = chance.random(n) < 0.6
    easy, hard = "What is the capital of country {}?", "Why does the mean of number {} not converge anywhere at all?"
    path = tmp_path_factory.mktemp("data") / "outcomes.parquet"
    prompts = [(easy if one else hard).format(i) for i, one in enumerate(right)]
    pd.DataFrame({"prompt": prompts, "cheap": right.astype(float), "top": np.ones(n)}).to_parquet(path)
    return path


def call(*words: object) -> Any:
    return CliRunner().invoke(app, ["robustness", *map(str, words)])


def test_a_page_and_its_figures_say_what_moves(outcomes: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.md"
    pair = ("-o", outcomes, "--weak", "cheap", "--strong", "top", "--router", "tfidf", "--prompts", 10)
    found = call(*pair, "--out", page, "--json")
    assert found.exit_code == 0, found.output
    (one,) = json.loads(found.stdout)
    assert (one["name"], one["prompts"], one["accepted"]) == ("outcomes", 10, None)
    assert "| five easy questions before | padding |" in page.read_text()


def test_several_routers_are_attacked_alike_and_stand_beside_each_other(outcomes: Path) -> None:
    found = call("-o", outcomes, "--weak", "cheap", "--strong", "top", "--router", "length,tfidf", "--prompts", 5)
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines if line.startswith(("| length", "| tfidf"))] == [
        "length",
        "tfidf",
    ]
    assert call("-o", outcomes, "--weak", "cheap", "--strong", "top", "--router", "oracle").exit_code == 1


def test_a_version_or_two_tiers_are_attacked_and_never_both(outcomes: Path, tmp_path: Path) -> None:
    assert call("-o", outcomes).exit_code == 2
    assert call("-o", outcomes, "--candidate", tmp_path, "--weak", "cheap", "--strong", "top").exit_code == 2
    folder = builtin_version(("cheap", "top"), tmp_path)
    found = call("-o", outcomes, "--candidate", folder, "--prompts", 5)
    assert found.exit_code == 0, found.output
    assert "## builtin-uncertified" in found.stdout
