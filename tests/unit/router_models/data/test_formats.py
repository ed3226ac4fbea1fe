"""Tables of every format and shape, and what is said of those that cannot be read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.outcomes import (
    frame_to_outcomes,
    outcomes_to_frame,
    read_outcomes,
    write_outcomes,
)
from router_models.errors import DataError
from router_models.types import Outcome


def test_a_wide_table_gives_tiers_answers_signals_and_metadata(wide: Callable[..., Path], tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    assert table.tiers == ("small", "large")
    assert set(table.prompts.metadata) == {"domain", "contaminated"}
    assert table.answers["small"].texts[0] == "A"
    assert set(table.confidences) == {"small|max_token_confidence", "small|outchars"}
    assert set(table.answers_of("small").signals) == {"max_token_confidence", "outchars"}
    assert np.isnan(table.grade("large")[3])
    assert len(table.only("small", "large")) == 39


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.csv.gz", "o.jsonl", "o.jsonl.gz"])
def test_long_tables_read_the_same_from_every_format(
    outcome: Callable[..., Outcome], tmp_path: Path, name: str
) -> None:
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


def test_outcomes_survive_the_way_through_a_frame(outcome: Callable[..., Outcome]) -> None:
    outcomes = [outcome(i, "cheap") for i in range(4)]
    assert frame_to_outcomes(outcomes_to_frame(outcomes)) == outcomes


def test_a_prompt_that_one_tier_did_not_answer_is_missing_there(
    outcome: Callable[..., Outcome], tmp_path: Path
) -> None:
    write_outcomes(tmp_path / "o.parquet", [outcome(1, "cheap"), outcome(2, "cheap"), outcome(2, "frontier")])
    table = read_outcomes(tmp_path / "o.parquet")
    assert np.isnan(table.grade("frontier")[0])
    assert len(table.only("cheap", "frontier")) == 1


def test_scores_are_rescaled_only_with_a_scale(tmp_path: Path) -> None:
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
    with pytest.raises(DataError, match="'prompt', line 3: no text"):
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


def test_unknown_tiers_and_columns_name_what_there_is(wide: Callable[..., Path], tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    with pytest.raises(DataError, match="small, large"):
        table.grade("medium")
    with pytest.raises(DataError, match="domain"):
        table.column("topic")
