from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from router_models.errors import DataError
from router_models.features import LOGPROB_NAMES
from router_models.outcome_formats import parse_columns
from router_models.outcomes import (
    OutcomeTable,
    assert_disjoint,
    frame_to_outcomes,
    group_duplicates,
    outcomes_to_frame,
    prompt_id,
    read_outcomes,
    split,
    write_outcomes,
)
from router_models.types import Outcome, Usage

DATA = Path(__file__).parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent: real outcomes are not tested")
SHARES = {"train": 0.5, "tune": 0.15, "cert": 0.35}


def wide(path: Path, n: int = 40) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "prompt": [f"question number {i} about {'law' if i % 2 else 'art'}" for i in range(n)],
            "small": rng.integers(0, 2, n),
            "large": np.where(np.arange(n) == 3, np.nan, 1.0),
            "small_pred": ["A"] * n,
            "small_outchars": rng.integers(1, 99, n),
            "small|max_token_confidence": rng.uniform(size=n),
            "domain": ["law" if i % 2 else "art" for i in range(n)],
            "contaminated": [False] * n,
        }
    )
    frame.to_parquet(path)
    return path


def outcome(i: int, tier: str, **changes: object) -> Outcome:
    prompt = f"What is {i} plus {i}?"
    values: dict[str, object] = {
        "prompt_id": prompt_id(prompt),
        "prompt": prompt,
        "tier": tier,
        "answer": str(2 * i),
        "grade": float(i % 2),
        "usage": Usage(10 + i, 3, 4),
        "latency_s": 0.25,
        "finish_reason": "stop",
        "logprobs": dict.fromkeys(LOGPROB_NAMES, -0.5),
        "metadata": {"family": "sums", "difficulty": "2", "language": "en"},
    }
    return Outcome(**(values | changes))  # type: ignore[arg-type]


class CountingEncoder:
    digest = "abc"

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_a_wide_table_gives_tiers_answers_signals_and_metadata(tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    assert table.tiers == ("small", "large")
    assert set(table.prompts.metadata) == {"domain", "contaminated"}
    assert table.answers["small"].texts[0] == "A"
    assert set(table.confidences) == {"small|max_token_confidence", "small|outchars"}
    assert set(table.answers_of("small").signals) == {"max_token_confidence", "outchars"}
    assert np.isnan(table.grade("large")[3])
    assert len(table.only("small", "large")) == 39


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.csv.gz", "o.jsonl", "o.jsonl.gz"])
def test_long_tables_read_the_same_from_every_format(tmp_path: Path, name: str) -> None:
    outcomes = [outcome(i, tier) for i in range(6) for tier in ("cheap", "frontier")]
    frame = outcomes_to_frame(outcomes)
    path = tmp_path / name
    if ".parquet" in name:
        write_outcomes(path, outcomes)
    elif ".csv" in name:
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    table = read_outcomes(path)
    assert table.tiers == ("cheap", "frontier")
    assert len(table) == 6
    assert table.column("family") == ("sums",) * 6
    assert table.prompt_tokens["cheap"].tolist() == [10, 11, 12, 13, 14, 15]
    assert table.latency_s["frontier"].tolist() == [0.25] * 6
    assert table.answers["cheap"].signals["lp_mean"].tolist() == [-0.5] * 6
    assert table.answers["cheap"].texts[4] == "8"


def test_outcomes_survive_the_way_through_a_frame() -> None:
    outcomes = [outcome(i, "cheap") for i in range(4)]
    assert frame_to_outcomes(outcomes_to_frame(outcomes)) == outcomes


def test_a_prompt_that_one_tier_was_not_asked_is_missing_there(tmp_path: Path) -> None:
    write_outcomes(tmp_path / "o.parquet", [outcome(1, "cheap"), outcome(2, "cheap"), outcome(2, "frontier")])
    table = read_outcomes(tmp_path / "o.parquet")
    assert np.isnan(table.grade("frontier")[0])
    assert len(table.only("cheap", "frontier")) == 1


def test_scores_are_rescaled_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    pd.DataFrame({"prompt": ["a", "b"], "m": [1.0, 10.0]}).to_csv(path, index=False)
    with pytest.raises(DataError, match="scale"):
        read_outcomes(path)
    assert read_outcomes(path, scale=(1, 10)).grade("m").tolist() == [0.0, 1.0]


def test_only_the_tiers_named_are_read(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    pd.DataFrame({"prompt": ["a", "b"], "m": [1.0, 0.0], "words": [300, 200]}).to_csv(path, index=False)
    assert read_outcomes(path, tiers=["m"]).tiers == ("m",)
    with pytest.raises(DataError, match="unknown tier"):
        read_outcomes(path, tiers=["n"])


@pytest.mark.parametrize(
    "grades",
    [
        pd.Series([True, None, False], dtype=object),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([1, None, 0], dtype="Int64"),
        pd.Series(["1", None, "0"]),
        pd.Series(["True", None, " false"]),
        pd.Series([1, None, 0], dtype="category"),
    ],
    ids=["objects", "boolean", "Int64", "digits", "words", "category"],
)
@pytest.mark.parametrize("shape", ["wide", "long"])
def test_grades_of_every_type_are_read_once_the_tier_is_named(tmp_path: Path, grades: pd.Series, shape: str) -> None:
    frame = pd.DataFrame({"prompt": ["a", "b", "c"], "m": grades})
    if shape == "long":
        frame = frame.rename(columns={"m": "grade"}).assign(tier="m")
    frame.to_parquet(tmp_path / "g.parquet")
    table = read_outcomes(tmp_path / "g.parquet", ["m"])
    assert table.grade("m")[[0, 2]].tolist() == [1.0, 0.0]
    assert np.isnan(table.grade("m")[1])
    assert table.prompts.metadata == {}


def test_the_words_that_stand_for_nothing_elsewhere_are_texts_here(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("prompt,m,m_answer,domain\nnull,1,None,\nWhat is NaN?,,NA,art\n")
    table = read_outcomes(tmp_path / "w.csv", ["m"])
    assert table.prompts.texts == ("null", "What is NaN?")
    assert table.answers["m"].texts == ("None", "NA")
    assert table.column("domain") == ("", "art")
    assert np.isnan(table.grade("m")[1])
    (tmp_path / "gap.csv").write_text("prompt,m\nnull,1\n,0\n")
    with pytest.raises(DataError, match="'prompt' is empty in row 1"):
        read_outcomes(tmp_path / "gap.csv")


def test_numbered_domains_are_metadata_and_so_is_a_column_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    frame = pd.DataFrame({"prompt": ["a", "b"], "m": [1, 0], "domain": [3, 4], "cluster": [7, 8], "empty": [None] * 2})
    frame.to_csv(path, index=False)
    table = read_outcomes(path, ["m"], metadata=["cluster"])
    assert table.column("domain") == ("3", "4")
    assert table.column("cluster") == ("7", "8")
    assert table.tiers == ("m",)


@pytest.mark.parametrize("scale", [(1, 1), (10, 1), (0, float("nan"))])
def test_a_scale_that_does_not_rise_is_refused(tmp_path: Path, scale: tuple[float, float]) -> None:
    path = tmp_path / "s.csv"
    pd.DataFrame({"prompt": ["a", "b"], "m": [1.0, 10.0]}).to_csv(path, index=False)
    with pytest.raises(DataError, match="from its lowest grade to its highest"):
        read_outcomes(path, scale=scale)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"question": ["a"], "m": [1.0]}), "no column 'prompt'"),
        (pd.DataFrame({"prompt": ["a", None], "m": [1.0, 0.0]}), "row 1"),
        (pd.DataFrame({"prompt": ["a"], "topic": ["x"]}), "no numeric column of grades"),
        (pd.DataFrame({"prompt": ["a", "b"], "m": [1.0, np.inf]}), "'m' is infinite in row 1"),
        (pd.DataFrame({"prompt": ["a", "b"], "m": [1.0, 0.0], "m|conf": [0.5, -np.inf]}), "m|conf"),
        (pd.DataFrame({"prompt": ["a"], "m": [np.nan]}), "no grade at all"),
        (pd.DataFrame({"prompt": ["a"], "tier": ["x"]}), "also needs 'grade'"),
        (pd.DataFrame({"prompt": ["a", "a"], "tier": ["x", "x"], "grade": [1.0, 0.0]}), "row 1: a second outcome"),
        (pd.DataFrame({"prompt": ["a"], "tier": [None], "grade": [1.0]}), "'tier' is empty"),
        (
            pd.DataFrame({"prompt": ["a"] * 2, "tier": ["x", "y"], "grade": [1.0] * 2, "latency_s": [1.0, np.inf]}),
            "'latency_s' is infinite in row 1",
        ),
        (
            pd.DataFrame({"prompt_id": ["1", "1"], "prompt": ["a", "b"], "tier": ["x", "y"], "grade": [1.0, 0.0]}),
            "different prompts",
        ),
        (pd.DataFrame({"prompt": [], "m": []}), "no rows"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, frame: pd.DataFrame, message: str) -> None:
    path = tmp_path / "bad.parquet"
    frame.to_parquet(path)
    with pytest.raises(DataError, match=message.replace("|", r"\|")) as caught:
        read_outcomes(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["missing.parquet", "notes.txt", "broken.parquet", "broken.jsonl"])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    if name != "missing.parquet":
        (tmp_path / name).write_text("{no table")
    with pytest.raises(DataError, match=name):
        read_outcomes(tmp_path / name)


def test_unknown_tiers_and_columns_name_what_there_is(tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    with pytest.raises(DataError, match="small, large"):
        table.grade("medium")
    with pytest.raises(DataError, match="domain"):
        table.column("topic")


def test_the_content_hash_ignores_order_and_sees_every_change(tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    assert table.take(np.arange(len(table))[::-1]).content_hash == table.content_hash
    assert table.take(np.arange(len(table) - 1)).content_hash != table.content_hash
    grades = table.grade("small").copy()
    grades[0] = 1 - grades[0]
    frame = pd.read_parquet(tmp_path / "w.parquet").assign(small=grades.astype(int))
    frame.to_parquet(tmp_path / "changed.parquet")
    assert read_outcomes(tmp_path / "changed.parquet").content_hash != table.content_hash


def test_duplicates_differ_only_in_case_spacing_and_punctuation() -> None:
    groups = group_duplicates(["What is 2+2?", "what  is 2 + 2", "What is 2+3?", "???", "!!!", ""])
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 5


def test_close_embeddings_join_groups_transitively() -> None:
    angles = np.array([0.0, 0.15, 0.30, 1.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    groups = group_duplicates(["a", "b", "c", "d"], vectors, cosine=0.98)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_splits_are_disjoint_and_about_as_large_as_asked(tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet", 2000))
    parts = split(table, SHARES, seed=1)
    assert_disjoint(parts)
    assert sum(map(len, parts.values())) == 2000
    for name, share in SHARES.items():
        assert abs(len(parts[name]) / 2000 - share) < 0.05
    assert split(table, SHARES, seed=2)["train"].prompt_ids != parts["train"].prompt_ids


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=40), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_prompt_keeps_its_split_when_rows_are_added(texts: list[str], seed: int) -> None:
    def placed(some: list[str]) -> dict[str, str]:
        n = len(some)
        table = OutcomeTable(
            _prompts(some), tuple(map(prompt_id, some)), ("m",), {"m": np.ones(n)}, group_duplicates(some)
        )
        parts = split(table, SHARES, seed)
        assert_disjoint(parts)
        return {text: name for name, part in parts.items() for text in part.prompts.texts}

    before, after = placed(texts[: len(texts) // 2 or 1]), placed(texts)
    assert all(after[text] == name for text, name in before.items())


def _prompts(texts: list[str]):  # type: ignore[no-untyped-def]
    from router_models.types import Prompts

    return Prompts(tuple(texts))


def test_duplicates_across_splits_are_refused(tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    with pytest.raises(DataError, match="share a prompt"):
        assert_disjoint({"train": table.take(np.arange(20)), "cert": table.take(np.arange(19, 30))})
    assert len(table.without_duplicates_of(table.take(np.arange(19, 30)))) == 29


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_shares_that_do_not_sum_to_one_are_refused(tmp_path: Path, shares: dict[str, float]) -> None:
    with pytest.raises(DataError, match="sum to 1"):
        split(read_outcomes(wide(tmp_path / "w.parquet")), shares)


def test_embeddings_are_computed_once_and_then_read_from_the_cache(tmp_path: Path) -> None:
    table, encoder = read_outcomes(wide(tmp_path / "w.parquet")), CountingEncoder()
    first = table.with_embeddings(encoder, tmp_path / "cache")
    again = table.with_embeddings(encoder, tmp_path / "cache")
    assert encoder.calls == 1
    assert first.prompts.embeddings is not None
    np.testing.assert_array_equal(first.prompts.embeddings, again.prompts.embeddings)
    np.testing.assert_allclose(np.linalg.norm(first.prompts.embeddings, axis=1), 1, atol=1e-6)
    assert first.answers["small"].prompts.embeddings is first.prompts.embeddings
    table.take(np.arange(5)).with_embeddings(encoder, tmp_path / "cache")
    assert encoder.calls == 2


def test_embeddings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    np.save(tmp_path / "e.npy", np.ones((3, 4), dtype=np.float32))
    with pytest.raises(DataError, match="one row per prompt"):
        table.with_embeddings(tmp_path / "e.npy")
    np.save(tmp_path / "e.npy", np.full((40, 4), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="row 0 is NaN"):
        table.with_embeddings(tmp_path / "e.npy")
    with pytest.raises(DataError, match="cannot be read"):
        table.with_embeddings(tmp_path / "absent.npy")


@real_data
@pytest.mark.parametrize(
    ("name", "rows", "tiers", "scale"),
    [
        ("routellm_mmlu", 7851, 2, None),
        ("mmlu_pro_10models", 9182, 10, None),
        ("qa_11models_confidence", 3031, 11, None),
        ("mixed_tasks_9models", 5785, 9, None),
        ("arena_hard_13models", 300, 13, (1.0, 10.0)),
    ],
)
def test_every_real_set_is_read(name: str, rows: int, tiers: int, scale: tuple[float, float] | None) -> None:
    table = read_outcomes(DATA / f"{name}.parquet", scale=scale)
    assert len(table) == rows
    assert len(table.tiers) == tiers
    assert_disjoint(split(table, SHARES))


@real_data
def test_the_confidence_set_keeps_its_signals() -> None:
    table = read_outcomes(DATA / "qa_11models_confidence.parquet").only("Meta-Llama-3.1-8B-Instruct", "gpt-4o")
    signals = table.answers_of("Meta-Llama-3.1-8B-Instruct").signals
    assert set(signals) == {"max_token_confidence", "stated_confidence"}
    assert np.isfinite(signals["max_token_confidence"]).all()


TOKENS = {"token_texts": ("4", "2", "☃"), "token_logprobs": (-0.5, -0.25, -1e-6)}


def test_tokens_survive_the_file_and_follow_their_rows(tmp_path: Path) -> None:
    write_outcomes(tmp_path / "o.parquet", [outcome(1, "cheap"), outcome(2, "cheap", **TOKENS)])
    table = read_outcomes(tmp_path / "o.parquet")
    kept = table.tokens["cheap"]
    assert kept.texts == ((), TOKENS["token_texts"])
    assert kept.logprobs[1] == pytest.approx(TOKENS["token_logprobs"], rel=1 / 4096)
    assert table.take([1]).tokens["cheap"].texts == (TOKENS["token_texts"],)
    again = frame_to_outcomes(pd.read_parquet(tmp_path / "o.parquet"))
    assert [o.token_texts for o in again] == [(), TOKENS["token_texts"]]
    assert again[1].token_logprobs == kept.logprobs[1]


def test_a_table_without_tokens_has_no_columns_for_them_and_the_same_hash_as_one_with(tmp_path: Path) -> None:
    assert "token_texts" not in outcomes_to_frame([outcome(1, "cheap")]).columns
    tables = []
    for name, changes in (("without", {}), ("with", TOKENS)):
        write_outcomes(tmp_path / f"{name}.parquet", [outcome(1, "cheap", **changes)])
        tables.append(read_outcomes(tmp_path / f"{name}.parquet"))
    assert tables[0].tokens == {}
    assert tables[0].content_hash == tables[1].content_hash


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"token_texts": [["a"]]}, "'token_texts' needs token_texts and token_logprobs"),
        ({"token_texts": [["a", "b"]], "token_logprobs": [[-0.1]]}, "row 0: 2 token_texts but 1 token_logprobs"),
        ({"token_texts": [["a"]], "token_logprobs": [["x"]]}, "column 'token_logprobs', row 0: not numbers"),
        ({"token_texts": ["a"], "token_logprobs": [[-0.1]]}, "column 'token_texts', row 0: a list is needed"),
    ],
)
def test_tokens_that_cannot_be_used_are_refused_by_column_and_row(columns: dict[str, Any], message: str) -> None:
    frame = outcomes_to_frame([outcome(1, "cheap")]).assign(**columns)
    with pytest.raises(DataError, match=message):
        parse_columns(frame)
