"""The column that says who graded: read in either shape, kept with its rows, refused where it says two things."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import frame_to_outcomes, outcomes_to_frame, parse_columns
from router_models.data.groups import in_hash_order
from router_models.data.outcomes import read_outcomes, table_of, write_outcomes
from router_models.errors import DataError
from router_models.types import Outcome
from router_models.types.label_sources import by_judge, combined_source, judge_of, parsed_source

LONG = {"prompt": ["a", "a", "b", "b"], "tier": ["s", "l"] * 2, "grade": [1, 0, 0, 1]}
WIDE = {"prompt": ["a", "b"], "s": [1, 0], "l": [0, 1]}


def table(columns: dict[str, Any], **more: list[Any]):
    return table_of(parse_columns(pd.DataFrame(columns | more)))


@pytest.mark.parametrize(
    ("columns", "more", "small", "large"),
    [
        (LONG, {"label_source": ["Human", "judge: gpt-4o", None, "judge"]}, ("human", ""), ("judge:gpt-4o", "judge")),
        (WIDE, {"label_source": ["human", " JUDGE "]}, ("human", "judge"), ("human", "judge")),
        (WIDE, {"s_label_source": ["human", ""], "label_source": ["", "judge"]}, ("human", "judge"), ("", "judge")),
        (WIDE, {"l_label_source": [np.nan, np.nan]}, ("", ""), ("", "")),
        (WIDE, {}, ("", ""), ("", "")),
    ],
)  # fmt: skip
def test_the_column_is_read_per_row_and_tier_in_either_shape(columns, more, small, large):
    read = table(columns, **more)
    assert (read.label_source("s"), read.label_source("l")) == (small, large)
    assert read.tiers == ("s", "l")
    assert not read.prompts.metadata, "it is neither a tier nor metadata"
    assert read.take([1]).only("l").label_source("l") == large[1:]


@pytest.mark.parametrize(
    ("columns", "more", "said"),
    [
        (LONG, {"label_source": ["human", "me", "", ""]}, r"column 'label_source', row 1: 'me' does not say whose"),
        (WIDE, {"label_source": ["judge:", ""]}, "write human, programmatic, judge or judge:NAME"),
        (WIDE, {"s_label_source": ["", "human:ann"]}, "column 's_label_source', row 1"),
        (WIDE, {"s_label_source": ["human", ""], "label_source": ["judge", ""]}, "row 0: .* says 'human', .* 'judge'"),
        (WIDE, {"x_label_source": ["human", ""]}, "no column 'x' with the grades of that model"),
        (WIDE, {"label_source": [1, 0]}, "'1' does not say whose label"),
    ],
)
def test_what_says_nothing_or_two_things_is_refused_by_column_and_row(columns, more, said):
    with pytest.raises(DataError, match=said):
        table(columns, **more)


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.jsonl"])
def test_sources_survive_every_file(outcome: Callable[..., Outcome], tmp_path: Path, name: str):
    said = ("human", "judge:a b", "")
    outcomes = [outcome(i, "cheap", label_source=source) for i, source in enumerate(said)]
    path = tmp_path / name
    if name.endswith("parquet"):
        write_outcomes(path, outcomes)
    else:
        frame = outcomes_to_frame(outcomes)
        frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_json(path, orient="records", lines=True)
    read = read_outcomes(path)
    assert read.label_source("cheap") == said
    assert frame_to_outcomes(outcomes_to_frame(outcomes)) == outcomes
    assert "label_source" not in outcomes_to_frame([outcome(1, "cheap")]).columns, "not where nobody said"


def test_who_graded_changes_no_digest_and_copies_of_two_graders_stay_whatever_their_order():
    plain, stated = table(WIDE), table(WIDE, label_source=["human", "judge"])
    assert stated.content_hash == plain.content_hash
    twice = table({"prompt": ["a", "a"], "s": [1, 1]}, label_source=["judge", "human"])
    for rows in ([0, 1], [1, 0], [1, 0, 1]):
        assert in_hash_order(twice.take(rows), 0).label_source("s") == ("human", "judge")


def test_what_labels_rest_on_together():
    assert combined_source(["human", "human"]) == "human"
    assert combined_source(["programmatic", "human"]) == "human and programmatic"
    assert combined_source(["", "human"]) == "human and unstated"
    assert combined_source(["judge:a"]) == "judge:a"
    for mixed in (["judge:a", "human"], ["judge:a", "judge:b"], ["judge", "judge:a"], ["judge", ""]):
        with pytest.raises(ValueError, match="are mixed"):
            combined_source(mixed)
    assert parsed_source("unstated") == ""
    assert [by_judge(source) for source in ("judge:x", "judge", "human", "")] == [True, True, False, False]
    assert (judge_of("judge:x"), judge_of("judge")) == ("judge x", "the judge")
