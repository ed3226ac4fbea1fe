"""Tables say under which conditions their rows were asked, in either shape and every format."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import outcomes_to_frame, parse_columns, write_outcomes
from router_models.data.formats.condition_columns import conditions_of_table
from router_models.data.outcomes import OutcomeTable, read_outcomes, table_of
from router_models.errors import DataError
from router_models.types import Outcome
from router_models.types.conditions import PLAIN, Conditions

WARM = Conditions(decoding='{"temperature":0.7}', max_tokens=64, turns=2)
TOLD = Conditions(system_prompt="ab" * 32, tools=True, response_format="json_object")


@pytest.fixture
def asked(outcome: Callable[..., Outcome]) -> list[Outcome]:
    """Two tiers' answers to three prompts, each asked under other conditions."""
    every = (PLAIN, WARM, TOLD)
    outcomes = [(outcome(i, tier), one) for i, one in enumerate(every) for tier in ("cheap", "frontier")]
    return [replace(row, metadata={**row.metadata, **one.columns()}) for row, one in outcomes]


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.jsonl"])
def test_conditions_survive_every_format(asked: list[Outcome], tmp_path: Path, name: str) -> None:
    path, frame = tmp_path / name, outcomes_to_frame(asked)
    if name.endswith("csv"):
        frame.to_csv(path, index=False)
    elif name.endswith("jsonl"):
        frame.to_json(path, orient="records", lines=True)
    else:
        write_outcomes(path, asked)
    table = read_outcomes(path)
    assert conditions_of_table(table) == (PLAIN, WARM, TOLD)
    assert not {"turns", "max_tokens"} & {signal for name in table.confidences for signal in name.split("|")}


def test_numbers_of_turns_are_no_grades_of_a_wide_table() -> None:
    frame = pd.DataFrame(
        {"prompt": ["a", "b"], "turns": [1, 3], "max_tokens": [np.nan, 9.0], "small": [0, 1], "large": [1, 1]}
    )
    table = table_of(parse_columns(frame))
    assert table.tiers == ("small", "large")
    assert conditions_of_table(table) == (PLAIN, Conditions(turns=3, max_tokens=9))


def test_a_table_without_such_columns_was_asked_plainly() -> None:
    table = table_of(parse_columns(pd.DataFrame({"prompt": ["a", "b"], "small": [0, 1], "large": [1, 1]})))
    assert conditions_of_table(table) == (PLAIN, PLAIN)


def test_one_prompt_under_two_decodings_is_two_rows_of_one_group(outcome: Callable[..., Outcome]) -> None:
    twice = [
        replace(outcome(0, tier), metadata=one.columns()) for one in (PLAIN, WARM) for tier in ("cheap", "frontier")
    ]
    table = table_of(parse_columns(outcomes_to_frame(twice)))
    assert conditions_of_table(table) == (PLAIN, WARM)
    assert len(set(table.groups.tolist())) == 1
    assert len(table.only("cheap", "frontier")) == 2


@pytest.mark.parametrize(
    ("column", "cell"), [("turns", "two"), ("max_tokens", -1), ("decoding", "warm"), ("tools", "perhaps")]
)
def test_what_cannot_be_read_is_named_with_its_row(asked: list[Outcome], column: str, cell: object) -> None:
    frame = outcomes_to_frame(asked)
    frame[column] = frame[column].astype(object)
    frame.loc[3, column] = cell
    with pytest.raises(DataError, match=rf"column '{column}', row 3: {column} must be"):
        parse_columns(frame)
    table = table_of(parse_columns(outcomes_to_frame(asked)))
    with pytest.raises(DataError, match=rf"column '{column}', row 1: {column} must be"):
        conditions_of_table(with_column(table, column, ("", str(cell), "")))


def with_column(table: OutcomeTable, name: str, cells: tuple[str, ...]) -> OutcomeTable:
    prompts = replace(table.prompts, metadata={**table.prompts.metadata, name: cells})
    return replace(table, prompts=prompts)
