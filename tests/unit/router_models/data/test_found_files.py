"""Every file that people have is used as it is meant, or refused in one sentence that names file, row and column."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.formats.cells import to_grades
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.errors import AdjustedWarning, DataError
from router_models.types import Message, Query
from tests.fixtures.found_files import CHAT, GRADES, METADATA, PROMPTS, REFUSED, USED, lines, parquet

TIERS = ("cheap", "frontier")


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("name", "content"), USED.values(), ids=USED)
def test_a_file_is_used_as_it_is_meant(tmp_path: Path, name: str, content: bytes) -> None:
    table = read_outcomes(written(tmp_path, name, content), TIERS)
    assert table.prompts.texts == tuple(PROMPTS)
    assert table.grade("cheap").tolist() == [1.0, 0.0]
    assert table.grade("frontier").tolist() == [1.0, 1.0]
    assert not table.prompts.metadata


@pytest.mark.parametrize(("name", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read_outcomes(path, TIERS)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(("column", "texts"), METADATA.values(), ids=METADATA)
def test_a_column_of_any_type_is_metadata(tmp_path: Path, column: object, texts: tuple[str, str]) -> None:
    table = read_outcomes(written(tmp_path, "o.parquet", parquet(extra=column)), TIERS)
    assert table.column("extra") == texts


@pytest.mark.parametrize("prompt", [CHAT, str(CHAT).replace("'", '"')], ids=["list", "text"])
def test_a_conversation_is_the_text_that_a_request_with_it_is_routed_on(tmp_path: Path, prompt: object) -> None:
    table = read_outcomes(written(tmp_path, "o.jsonl", lines({"prompt": prompt, **GRADES})))
    assert table.prompts.texts == (Query((Message("system", "Be brief."), Message("user", "What?"))).text,)


@pytest.mark.parametrize("prompt", ['["a", "b"]', "[]", "[1, 2", '[{"x": 1}]'])
def test_a_text_that_only_looks_like_a_conversation_is_a_text(tmp_path: Path, prompt: str) -> None:
    assert read_outcomes(written(tmp_path, "o.jsonl", lines({"prompt": prompt, **GRADES}))).prompts.texts == (prompt,)


def test_a_grade_off_its_scale_by_rounding_is_clipped_with_a_notice(tmp_path: Path) -> None:
    path = written(tmp_path, "o.csv", b"prompt,cheap,frontier\na,1.0000001,-1e-9\nb,0.5,1\n")
    with pytest.warns(AdjustedWarning) as caught:
        table = read_outcomes(path, TIERS)
    assert table.grade("cheap").tolist() == [1.0, 0.5]
    assert table.grade("frontier").tolist() == [0.0, 1.0]
    assert [str(one.message)[:43] for one in caught] == [
        "column 'cheap': 1 grade(s) lie outside [0, ",
        "column 'frontier': 1 grade(s) lie outside [",
    ]


@given(st.lists(st.floats(allow_nan=False, min_value=0, max_value=1), min_size=1))
def test_a_grade_is_the_same_number_however_it_is_written(values: list[float]) -> None:
    for written_as in (float, str, repr, np.float64, lambda value: f" {value!r} "):
        column = pd.Series([written_as(value) for value in values], dtype=object, name="cheap")
        assert to_grades(column, None).tolist() == values


def read_or_refusal(path: Path) -> OutcomeTable | str:
    try:
        return read_outcomes(path)
    except DataError as error:
        return str(error)


CELLS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["prompt", "tier", "grade", "cheap", "frontier", "cheap_prompt_tokens", "extra", "id"])
            | st.text(max_size=3),
            CELLS | st.dictionaries(st.text(max_size=3), CELLS, max_size=2),
        ),
        max_size=4,
    )
)
def test_any_json_lines_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, rows: list[object]) -> None:
    path = written(tmp_path_factory.getbasetemp(), "any.jsonl", lines(*rows))  # type: ignore[arg-type]
    found = read_or_refusal(path)
    if isinstance(found, OutcomeTable):
        assert len(found) > 0
        assert all(np.nanmin(column) >= 0 and np.nanmax(column) <= 1 for column in found.grades.values())
    else:
        assert "\n" not in found


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(["csv", "jsonl", "parquet"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), f"any.{suffix}", content)
    with pytest.raises(DataError):
        read_outcomes(path, ["no such tier"])


@given(st.lists(st.lists(st.text(alphabet='ab,"01.\n\r;', max_size=5), min_size=1, max_size=4), max_size=4))
def test_any_csv_rows_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    text = "\n".join(["prompt,m,n", *(",".join(row) for row in rows)])
    path = written(tmp_path_factory.getbasetemp(), "rows.csv", text.encode())
    found = read_or_refusal(path)
    assert len(found) > 0
    assert isinstance(found, OutcomeTable) or "\n" not in found
