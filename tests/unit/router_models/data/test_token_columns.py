"""The tokens of answers, beside the table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from router_models.data.formats import parse_columns
from router_models.data.outcomes import (
    frame_to_outcomes,
    outcomes_to_frame,
    read_outcomes,
    write_outcomes,
)
from router_models.errors import DataError
from router_models.types import Outcome

TOKENS = {"token_texts": ("4", "2", "☃"), "token_logprobs": (-0.5, -0.25, -1e-6)}


def test_tokens_survive_the_file_and_follow_their_rows(outcome: Callable[..., Outcome], tmp_path: Path) -> None:
    write_outcomes(tmp_path / "o.parquet", [outcome(1, "cheap"), outcome(2, "cheap", **TOKENS)])
    table = read_outcomes(tmp_path / "o.parquet")
    kept = table.tokens["cheap"]
    assert kept.texts == ((), TOKENS["token_texts"])
    assert kept.logprobs[1] == pytest.approx(TOKENS["token_logprobs"], rel=1 / 4096)
    assert table.take([1]).tokens["cheap"].texts == (TOKENS["token_texts"],)
    again = frame_to_outcomes(pd.read_parquet(tmp_path / "o.parquet"))
    assert [o.token_texts for o in again] == [(), TOKENS["token_texts"]]
    assert again[1].token_logprobs == kept.logprobs[1]


def test_a_table_without_tokens_has_no_columns_for_them_and_the_same_hash_as_one_with(
    outcome: Callable[..., Outcome], tmp_path: Path
) -> None:
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
def test_tokens_that_cannot_be_used_are_refused_by_column_and_row(
    outcome: Callable[..., Outcome], columns: dict[str, Any], message: str
) -> None:
    frame = outcomes_to_frame([outcome(1, "cheap")]).assign(**columns)
    with pytest.raises(DataError, match=message):
        parse_columns(frame)
