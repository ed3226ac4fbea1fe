"""Tables say under which conditions their rows were asked, in either shape, every format and every spelling."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router_models.data.formats import outcomes_to_frame, parse_columns, write_outcomes
from router_models.data.formats.condition_columns import conditions_of_table
from router_models.data.outcomes import OutcomeTable, read_outcomes, table_of
from router_models.data.slices import asked_columns, slice_columns
from router_models.errors import DataError
from router_models.types import Message, Outcome, Prompts
from router_models.types.conditions import PLAIN, Conditions, system_prompt_of
from router_models.types.declared import format_digest, tools_digest
from router_models.versions.covering.covered_conditions import covered_conditions

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


SYSTEM = "You are the assistant of a company that sells pencils to schools."
HASH = system_prompt_of((Message("system", SYSTEM),))
CHAT = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": "Which colour?"},
    {"role": "assistant", "content": "Brown."},
    {"role": "user", "content": "Why?"},
]


def lines_of(folder: Path, rows: list[dict[str, Any]], name: str = "o.jsonl") -> OutcomeTable:
    path = folder / name
    path.write_text("\n".join(json.dumps({"tier": "cheap", "grade": 1, "answer": "x"} | row) for row in rows))
    return read_outcomes(path)


def test_a_conversation_says_what_it_was_asked_under(tmp_path: Path) -> None:
    table = lines_of(tmp_path, [{"prompt": CHAT}, {"prompt": json.dumps(CHAT[:2])}, {"prompt": "Which colour?"}])
    assert table.column("system_prompt") == (HASH, HASH, "")
    assert table.column("turns") == ("2", "1", "1")
    assert "tool_loop" not in table.prompts.metadata
    rows = [{name: column[i] for name, column in table.prompts.metadata.items()} for i in range(3)]
    assert [Conditions.from_columns(row) for row in rows] == [
        Conditions(system_prompt=HASH, turns=2), Conditions(system_prompt=HASH), Conditions()]  # fmt: skip


def test_tool_loops_and_begun_answers_are_seen(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    loop = [
        CHAT[1],
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "9"},
    ]
    table = lines_of(tmp_path, [{"prompt": loop}, {"prompt": CHAT[1:3]}, {"prompt": "Which?"}])
    assert table.column("tool_loop") == ("yes", "", "")
    assert table.column("prefilled") == ("", "yes", "")


def test_rows_of_a_chat_with_what_no_router_reads_are_no_evidence(tmp_path: Path) -> None:
    """Reasoning of an earlier turn, a speaker's name, a field beside a text: a request with them is not covered."""
    said = {"role": "assistant", "content": "4"}
    for unread, message in (
        ("reasoning_content", said | {"reasoning_content": "2 and 2"}),
        ("name", said | {"name": "Ann"}),
        ("hint", {"role": "assistant", "content": [{"type": "text", "text": "4", "hint": "5"}]}),
    ):
        chat = [{"role": "user", "content": "2 + 2?"}, message, {"role": "user", "content": "Sure?"}]
        rows = [{"prompt": chat, "a": 1, "b": 1}, {"prompt": [{"role": "user", "content": "Hi"}], "a": 0, "b": 1}]
        pd.DataFrame(rows).to_json(tmp_path / "chats.jsonl", orient="records", lines=True)
        marked, plain = conditions_of_table(read_outcomes(tmp_path / "chats.jsonl"))
        assert (marked.unread, plain.unread) == (unread, "")
        covered = covered_conditions([replace(marked, unread="")] * 30 + [marked] * 30 + [plain] * 30)
        assert (covered.n, covered.left_out) == (60, (("unread", 30),))


def test_plain_tables_get_no_column(tmp_path: Path) -> None:
    assert lines_of(tmp_path, [{"prompt": [CHAT[1]]}, {"prompt": "Which?"}]).prompts.metadata == {}


def test_a_column_that_is_there_stands(tmp_path: Path) -> None:
    table = lines_of(tmp_path, [{"prompt": CHAT, "turns": 7}, {"prompt": "Which?", "turns": None}])
    assert table.column("turns") == ("7", "1")


SPELLINGS = [
    ("decoding", {"top_p": 1, "temperature": 0.7}, '{"temperature":0.7,"top_p":1.0}'),
    ("decoding", '{"temperature": 0}', '{"temperature":0.0}'),
    ("decoding", "", ""),
    ("max_tokens", 64, "64"),
    ("max_tokens", "64.0", "64"),
    ("system_prompt", HASH, HASH),
    ("system_prompt", SYSTEM, HASH),
    ("tools", True, "yes"),
    ("tools", [{"type": "function", "function": {"name": "f"}}], "yes"),
    ("tools", [], ""),
    ("tools", "No", ""),
    ("tool_loop", 1, "yes"),
    ("response_format", {"type": "json_object"}, "json_object"),
    ("response_format", "json_schema", "json_schema"),
    ("response_format", {"type": "text"}, ""),
]


@pytest.mark.parametrize(("name", "cell", "read"), SPELLINGS, ids=str)
def test_a_condition_is_read_however_it_is_written(tmp_path: Path, name: str, cell: Any, read: str) -> None:
    found = lines_of(tmp_path, [{"prompt": "Which?", name: cell}, {"prompt": "Why?", name: None}])
    assert found.column(name) == (read, "")


@pytest.mark.parametrize(
    ("name", "cell", "message"),
    [
        ("decoding", "hot", "column 'decoding', line 2: decoding must be a JSON object"),
        ("turns", "two", "column 'turns', line 2: turns must be a whole number from 1, found 'two'"),
        ("max_tokens", 0.5, "column 'max_tokens', line 2: max_tokens must be a whole number"),
        ("tools", "perhaps", "column 'tools', line 2: tools must be yes or no, found 'perhaps'"),
        ("response_format", "{json", "column 'response_format', line 2: "),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, name: str, cell: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        lines_of(tmp_path, [{"prompt": "Which?"}, {"prompt": "Why?", name: cell}])


def test_csv_columns_are_conditions_and_no_tiers(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    path.write_text("prompt,cheap,turns,max_tokens,tools\nWhich?,1,2,64,yes\nWhy?,0,1,,\n")
    table = read_outcomes(path)
    assert table.tiers == ("cheap",)
    assert (table.column("turns"), table.column("max_tokens")) == (("2", "1"), ("64", ""))


def test_one_question_under_two_decodings_has_no_second_row_of_either(tmp_path: Path) -> None:
    rows = [{"prompt": "Which?", "decoding": decoding} for decoding in ("", '{"temperature":0.7}')]
    assert len(lines_of(tmp_path, rows)) == 2
    with pytest.raises(DataError, match="line 3: a second outcome of tier 'cheap' for prompt 'Which\\?'"):
        lines_of(tmp_path, [*rows, rows[1]])


def test_reports_show_conditions_in_words() -> None:
    texts = tuple(f"{SYSTEM}\nWhich {i}?" for i in range(10)) + tuple(f"Why {i}?" for i in range(20))
    unknown = "ab" * 32
    metadata = {
        "system_prompt": (HASH,) * 10 + ("",) * 10 + (unknown,) * 10,
        "decoding": ("",) * 15 + ('{"temperature":0.7}',) * 15,
        "turns": ("",) * 10 + ("1",) * 10 + ("2",) * 10,
        "tools": ("yes",) * 10 + ("",) * 20,
    }
    shown = slice_columns(Prompts(texts, None, metadata))
    assert set(shown["system_prompt"]) == {
        f"You are the assistant of a company that… ({HASH[:8]})", "none", unknown[:12]}  # fmt: skip
    assert set(shown["decoding"]) == {"the tiers' own", '{"temperature":0.7}'}
    assert set(shown["turns"]) == {"1", "2"}
    assert set(shown["tools"]) == {"yes", "no"}
    assert asked_columns(Prompts(texts, None, metadata | {"max_tokens": metadata["turns"], "language": texts})) == {
        name: shown[name] for name in metadata
    }


TOOLS = [{"type": "function", "function": {"name": "now", "description": "The time."}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


def test_tools_and_schemas_that_a_table_has_whole_are_named_by_their_digests() -> None:
    said: dict[str, list[Any]] = {"tools": [TOOLS, json.dumps(TOOLS), "yes", ""]}
    said |= {"response_format": [SCHEMA, json.dumps(SCHEMA), "json_schema", "json_object"]}
    frame = pd.DataFrame({"prompt": list("abcd"), "small": [0, 1, 0, 1], "large": 1, **said})
    found = conditions_of_table(table_of(parse_columns(frame)))
    tools, schema = tools_digest(TOOLS), format_digest(SCHEMA)
    assert [one.declared for one in found] == [tools, tools, "", ""]
    assert [one.schema for one in found] == [schema, schema, "", ""]
    assert [one.tools for one in found] == [True, True, True, False]
    again = pd.DataFrame([one.columns() for one in found]).assign(prompt=list("abcd"), small=0, large=1)
    assert conditions_of_table(table_of(parse_columns(again))) == found


def test_what_is_no_digest_is_refused_with_its_row() -> None:
    frame = pd.DataFrame({"prompt": ["a", "b"], "declared_tools": ["", "now"], "small": [0, 1], "large": [1, 1]})
    with pytest.raises(DataError, match=r"column 'declared_tools', row 1: .* sha256"):
        parse_columns(frame)
