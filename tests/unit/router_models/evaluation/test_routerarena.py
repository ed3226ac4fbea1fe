"""RouterArena's formulas by hand, and its command on a small checkout in its published format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from router_models.errors import DataError
from router_models.evaluation.benchmarks.routerarena import published_rows
from router_models.evaluation.benchmarks.routerarena_files import ArenaEntry, read_arena, table_of_pair
from router_models.evaluation.benchmarks.routerarena_scores import arena_score, optimality_of, same_choice, scored
from serve_graph.cli import app

SMALL, LARGE = "small-model", "large-model"


def entry(i: int, model: str, accuracy: float | None, cost: float | None, *, other: bool = False) -> dict[str, Any]:
    result = {"generated_answer": "…", "success": True, "token_usage": {"input_tokens": 9, "output_tokens": 9}}
    return {
        "global index": f"GSM8K_{i}", "prompt": f"question {i}", "prediction": model, "generated_result": result,
        "cost": cost, "accuracy": accuracy, "for_optimality": other,
    }  # fmt: skip


def checkout(folder: Path, n: int = 60) -> Path:
    """Long questions are hard: the small model fails on them. One router alternates, and has both models' answers."""
    texts = [f"Q{i}: {'explain it step by step ' * (20 if i % 3 == 0 else 1)}" for i in range(n)]
    (folder / "dataset").mkdir(parents=True)
    prompts = [{"prompt_formatted": text, "global index": f"GSM8K_{i}"} for i, text in enumerate(texts)]
    (folder / "dataset" / "router_data.json").write_text(json.dumps(prompts))
    (folder / "dataset" / "router_data_10.json").write_text(json.dumps(prompts[: n // 2]))
    perturbed = [{**row, "prompt_formatted": row["prompt_formatted"].upper()} for row in prompts[:20]]
    (folder / "dataset" / "router_robustness.json").write_text(json.dumps(perturbed))
    entries = []
    for i in range(n):
        small, large = entry(i, SMALL, float(i % 3 != 0), 0.0001), entry(i, LARGE, 1.0, 0.002)
        chosen, other = (small, large) if i % 2 else (large, small)
        entries += [chosen, {**other, "for_optimality": True}]
    predictions = folder / "router_inference" / "predictions"
    predictions.mkdir(parents=True)
    (predictions / "alternating.json").write_text(json.dumps(entries))
    robust = [entry(i, SMALL if i % 2 or i < 4 else LARGE, None, None) for i in range(20)]
    (predictions / "alternating-robustness.json").write_text(json.dumps(robust))
    (predictions / "unanswered.json").write_text(json.dumps([entry(0, SMALL, None, None)]))
    return folder


def test_the_arena_score_is_the_published_formula() -> None:
    cheap = (math.log2(200) - math.log2(0.15)) / (math.log2(200) - math.log2(0.0044))
    assert float(arena_score(0.15, 0.6688)) == pytest.approx(1.1 * 0.6688 * cheap / (0.1 * 0.6688 + cheap))
    # rows of the published leaderboard, by their accuracy and their dollars per 1,000 queries
    for accuracy, cost, published in ((0.6688, 0.15, 66.89), (0.6809, 0.54, 66.66), (0.7396, 10.02, 64.32)):
        assert 100 * float(arena_score(cost, accuracy)) == pytest.approx(published, abs=0.05)
    assert arena_score([1e-6, 1e6], [0.5, 0.5]).tolist() == arena_score([0.0044, 200], [0.5, 0.5]).tolist()
    assert float(arena_score(200, 0.0)) == 0
    for cost, accuracy in ((0.0, 0.5), (-1.0, 0.5), (1.0, 1.1), (math.nan, 0.5)):
        with pytest.raises(DataError):
            arena_score(cost, accuracy)


def test_a_row_counts_as_the_published_evaluation_does() -> None:
    row = scored("r", np.array([1.0, 0.0, np.nan, 1.0]), np.array([0.001, 0.003, 0.004, np.nan]))
    assert (row.queries, row.accuracy.value) == (4, pytest.approx(2 / 3))
    assert row.cost_per_1000 == pytest.approx(2.0), "what was not graded costs all the same"
    assert row.arena.value == pytest.approx(float(arena_score(2.0, 2 / 3)))
    assert row.arena.low <= row.arena.value <= row.arena.high
    for accuracy, cost in (([np.nan], [1.0]), ([1.0], [0.0])):
        with pytest.raises(DataError, match="r: no entry"):
            scored("r", np.array(accuracy), np.array(cost))


def test_optimality_looks_at_what_the_router_had_right() -> None:
    chosen = [ArenaEntry("a", LARGE, 1, 4.0), ArenaEntry("b", SMALL, 1, 1.0), ArenaEntry("c", SMALL, 0, 1.0)]
    others = [ArenaEntry("a", SMALL, 1, 1.0), ArenaEntry("b", LARGE, 1, 4.0), ArenaEntry("c", LARGE, 1, 4.0)]
    found = optimality_of(chosen, others, {"a", "b", "c"})
    assert (found.queries, found.selected, found.cost, found.accuracy) == (2, 0.5, pytest.approx(2 / 5), 1.0)
    assert optimality_of(chosen, others, {"b"}).selected == 1
    assert optimality_of(chosen, others, set()).queries == 0
    same = same_choice(chosen, [ArenaEntry("a", LARGE, None, None), ArenaEntry("b", LARGE, None, None)])
    assert same is not None
    assert same.value == 0.5
    assert same_choice(chosen, [ArenaEntry("z", LARGE, None, None)]) is None


def test_published_rows_of_a_checkout(tmp_path: Path) -> None:
    data = read_arena(checkout(tmp_path))
    (row,) = published_rows(data)
    assert (row.name, row.queries) == ("alternating", 60)
    right = np.mean([1.0 if i % 2 == 0 else float(i % 3 != 0) for i in range(60)])
    assert row.accuracy.value == pytest.approx(right)
    assert row.cost_per_1000 == pytest.approx(1000 * (0.002 + 0.0001) / 2)
    assert row.robustness is not None
    assert row.robustness.value == 0.9, "two of twenty perturbed prompts went elsewhere"
    assert row.optimality is not None
    assert row.optimality.queries == sum(1 for i in range(30) if i % 2 == 0 or i % 3)
    table = table_of_pair(data, SMALL, LARGE)
    assert len(table) == 60
    assert set(table.prompts.metadata["dataset"]) == {"GSM8K"}
    with pytest.raises(DataError, match=r"no graded answers of gpt; .*\(60\)|gpt in router_inference"):
        table_of_pair(data, "gpt", LARGE)


def test_the_command_has_our_routers_beside_the_published_ones(tmp_path: Path) -> None:
    data, out = checkout(tmp_path / "arena"), tmp_path / "out"
    words = ["evaluate", "--benchmark", "routerarena", "--data", str(data), "--router", "surface", "--folds", "3"]
    done = CliRunner().invoke(app, [*words, "--weak", SMALL, "--strong", LARGE, "--out", str(out)])
    assert done.exit_code == 0, done.output
    figures = json.loads((out / "routerarena.json").read_text())
    ours = {row["name"]: row for row in figures["ours"]}
    assert ours[f"always {LARGE}"]["accuracy"]["value"] == 1
    assert ours["oracle"]["accuracy"]["value"] == 1
    assert ours["oracle"]["arena"]["value"] > ours[f"always {LARGE}"]["arena"]["value"]
    assert ours["length 25%"]["robustness"]["value"] == 1, "capitals are as long"
    assert ours["random 50%"]["robustness"]["value"] < 1
    assert ours["surface 50%"]["accuracy"]["value"] > ours["random 50%"]["accuracy"]["value"]
    assert 0.4 <= ours["surface 50%"]["strong_share"] <= 0.5
    made = json.loads((out / "serve-graph-surface-50.json").read_text())
    assert len(made) == 60
    (data / "router_inference" / "predictions" / "ours.json").write_text(json.dumps(made))
    again = {row.name: row for row in published_rows(read_arena(data))}
    assert again["ours"].arena.value == pytest.approx(ours["surface 50%"]["arena"]["value"])
    assert "RouterArena" in done.output


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("dataset/router_data.json", "[", "cannot be read as JSON"),
        ("dataset/router_data.json", "{}", "a list of objects"),
        ("dataset/router_data.json", '[{"prompt_formatted": "x"}]', "entry 0 has no 'global index'"),
        ("router_inference/predictions/a.json", '[{"global index": "a"}]', "no 'prediction'"),
        (
            "router_inference/predictions/a.json",
            '[{"global index": "a", "prediction": "m", "accuracy": 2, "cost": 1}]',
            "accuracy of 2 is above 1",
        ),
        (
            "router_inference/predictions/a.json",
            '[{"global index": "a", "prediction": "m", "accuracy": 1, "cost": "1"}]',
            "'cost' is '1', not a number",
        ),
    ],
)
def test_what_is_not_in_the_published_format_is_named(file: str, content: str, said: str, tmp_path: Path) -> None:
    checkout(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=said) as raised:
        read_arena(tmp_path)
    assert file.rpartition("/")[2] in str(raised.value)


def test_a_folder_without_prompts_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prep_datasets\.py"):
        read_arena(tmp_path)
    done = CliRunner().invoke(app, ["evaluate", "--benchmark", "routerarena", "--data", str(tmp_path)])
    assert done.exit_code == 1
    done = CliRunner().invoke(app, ["evaluate", "--benchmark", "routerarena", "--data", str(tmp_path), "--weak", "a"])
    assert done.exit_code == 2
