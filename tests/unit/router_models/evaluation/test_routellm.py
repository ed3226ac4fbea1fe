"""Reading RouteLLM's published responses, on fixtures of our own in the shape of its checkout."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.errors import DataError
from router_models.evaluation.benchmarks.routellm import STRONG, WEAK, read_benchmarks
from router_models.evaluation.benchmarks.routellm_paper import PAPERS_LABELS, PUBLISHED
from router_models.evaluation.cross_validation import Protocol
from router_models.evaluation.run import Destination, run_benchmark

VENDOR = f"mistralai/{'Mixtral-8x7B-Instruct-v0.1'}"


def json_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def responses(path: Path, prompts: list[str], weak: list[bool], strong: list[bool], weak_name: str = VENDOR) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"prompt": prompts, weak_name: weak, "gpt-4-1106-preview": strong})
    frame.assign(**{f"{weak_name}_response": "text"}).to_csv(path, index=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    evals = tmp_path / "routellm" / "evals"
    responses(
        evals / "mmlu/responses/mmlu_anatomy.csv", ["What is a,\nbone?", "Seen before"], [True, False], [True, True]
    )
    responses(
        evals / "mmlu/responses/mmlu_virology.csv", ["What is a virus?"], [False], [True], "mixtral-8x7b-instruct-v0.1"
    )
    json_lines(evals / "mmlu/contaminated_prompts.jsonl", [{"train_prompt": "x", "eval_prompt": "Seen before"}])
    responses(evals / "gsm8k/gsm8k_responses.csv", ["1 + 1?", "2 + 2?", "3 + 3?"], [True, False, True], [True] * 3)
    json_lines(evals / "gsm8k/contaminated_prompts.jsonl", [{"eval_prompt": "2 + 2?"}])
    mt = evals / "mt_bench"
    json_lines(
        mt / "question.jsonl",
        [
            {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
            {"question_id": 82, "category": "math", "turns": ["Count.", "Seen turn."]},
            {"question_id": 83, "category": "math", "turns": ["Add.", "More."]},
        ],
    )
    json_lines(mt / "contaminated_prompts.jsonl", [{"eval_prompt": "Seen turn."}])
    judged = [
        {"question_id": q, "model": m, "turn": t, "score": s, "judge": ["gpt-4", "single-v1"]}
        for q, m, t, s in [
            (81, VENDOR, 1, 4), (81, VENDOR, 2, 7), (81, STRONG, 1, 10), (81, STRONG, 2, 10),
            (82, VENDOR, 1, 5), (82, VENDOR, 2, 5), (82, STRONG, 1, 9), (82, STRONG, 2, 9),
            (83, VENDOR, 1, 1), (83, VENDOR, 2, -1), (83, STRONG, 1, 9), (83, STRONG, 2, 9),
        ]
    ]  # fmt: skip
    json_lines(mt / "judgements.jsonl", [*judged, {**judged[0], "model": "some-other-model"}])
    return tmp_path


def test_every_benchmark_is_read_without_its_contaminated_prompts(checkout: Path) -> None:
    mmlu, gsm8k, _ = read_benchmarks(checkout)
    assert (mmlu.name, mmlu.raw, mmlu.dropped, len(mmlu.table)) == ("mmlu", 3, 1, 2)
    assert mmlu.table.column("domain") == ("anatomy", "virology")
    assert mmlu.table.grade(WEAK).tolist() == [1.0, 0.0]
    assert mmlu.table.prompts.texts[0] == "What is a,\nbone?"
    assert (gsm8k.raw, gsm8k.dropped) == (3, 1)
    assert gsm8k.table.grade(STRONG).tolist() == [1.0, 1.0]


def test_mt_bench_turns_are_averaged_and_unrated_questions_left_out(checkout: Path) -> None:
    mt = read_benchmarks(checkout)[2]
    assert (mt.raw, mt.dropped, mt.table.prompts.texts) == (2, 1, ("Write.",))
    assert mt.table.grade(WEAK) == pytest.approx([(5.5 - 1) / 9])
    assert mt.table.grade(STRONG) == pytest.approx([1.0])
    assert mt.table.column("category") == ("writing",)


def test_a_part_of_a_checkout_is_enough(checkout: Path) -> None:
    (checkout / "routellm/evals/mt_bench/judgements.jsonl").unlink()
    assert [one.name for one in read_benchmarks(checkout)] == ["mmlu", "gsm8k"]


def test_an_empty_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no RouteLLM responses under"):
        read_benchmarks(tmp_path)


def test_without_the_list_of_contaminated_prompts_nothing_is_read(checkout: Path) -> None:
    (checkout / "routellm/evals/gsm8k/contaminated_prompts.jsonl").unlink()
    with pytest.raises(DataError, match="cannot be dropped"):
        read_benchmarks(checkout)


def test_a_grade_that_is_neither_true_nor_false_is_named(checkout: Path) -> None:
    path = checkout / "routellm/evals/gsm8k/gsm8k_responses.csv"
    path.write_text(path.read_text().replace("2 + 2?,False", "2 + 2?,maybe"))
    with pytest.raises(DataError, match="row 1: 'maybe' is neither True nor False"):
        read_benchmarks(checkout)


def test_a_missing_model_column_is_named(checkout: Path) -> None:
    path = checkout / "routellm/evals/mmlu/responses/mmlu_anatomy.csv"
    path.write_text(path.read_text().replace("gpt-4-1106-preview", "gpt-5"))
    with pytest.raises(DataError, match="no column\\(s\\) gpt-4-1106-preview"):
        read_benchmarks(checkout)


def test_the_papers_tables_hold_its_best_figures() -> None:
    best = {name: max(rows, key=lambda row: row.apgr) for name, rows in PUBLISHED.items()}
    figures = {name: (row.cpt_50, row.cpt_80, row.apgr) for name, row in best.items()}
    assert figures == {
        "mmlu": (35.40, 71.55, 0.603),
        "gsm8k": (33.64, 63.26, 0.622),
        "mt_bench": (13.40, 31.31, 0.802),
    }
    assert all(np.isfinite(row.apgr) and len(rows) == 9 for rows in PUBLISHED.values() for row in rows)


@pytest.mark.parametrize("line", ["5", "{}", '{"eval_prompt"', "[" * 10_000])
def test_a_file_that_routellm_did_not_publish_is_refused_by_name(checkout: Path, line: str) -> None:
    (checkout / "routellm/evals/gsm8k/contaminated_prompts.jsonl").write_text(line)
    with pytest.raises(DataError, match="gsm8k"):
        read_benchmarks(checkout)


def large_checkout(folder: Path, rows: int) -> Path:
    """One benchmark, of questions whose words say which of them the weak model gets right."""
    chance = np.random.default_rng(0)
    hard = chance.random(rows) < 0.5
    prompts = [f"{'prove the lemma' if h else 'name the colour'} of {i}" for i, h in enumerate(hard)]
    weak = chance.random(rows) < np.where(hard, 0.3, 0.9)
    responses(folder / "routellm/evals/gsm8k/gsm8k_responses.csv", prompts, weak.tolist(), [True] * rows)
    json_lines(folder / "routellm/evals/gsm8k/contaminated_prompts.jsonl", [])
    return folder


def rows_of(page: str, method: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith(f"| ours | {method} |")]


def test_every_row_says_how_many_labels_it_learned_from_and_one_has_as_few_as_the_papers(tmp_path: Path) -> None:
    rows = 2000
    to = Destination("made today", None, lambda _: None)
    checkout = large_checkout(tmp_path, rows)
    page, figures = run_benchmark(checkout, Protocol(("tfidf",)), tmp_path / "cache", 0.1, 0.1, to)
    found = rows_of(page, "tfidf")
    assert len(found) == 2
    assert "5 grouped folds, 1,600 labels" in found[0]
    assert f"5 grouped folds, {PAPERS_LABELS:,} labels" in found[1]
    assert figures["gsm8k"]["few"][0]["method"] == "tfidf"
    few, _ = run_benchmark(checkout, Protocol(("tfidf",), labels=300), tmp_path / "cache", 0.1, 0.1, to)
    assert ["5 grouped folds, 300 labels" in line for line in rows_of(few, "tfidf")] == [True]
