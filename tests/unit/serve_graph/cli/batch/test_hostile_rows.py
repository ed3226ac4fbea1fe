"""Rows, files and replies that a run over a dataset must not trip over: one of them stops or loses nothing else."""

import csv
import json
import math
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from router_models.types import Query
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.cli.batch import asking, dataset
from serve_graph.cli.batch.dataset import Dataset, write_results
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.errors import BudgetSpentError, EngineRequestError, NotFoundError, SaturatedError, ServeGraphError
from tests.unit.serve_graph.cli.batch.test_batch_run import jsonl, rows_of


def run(at: Any, given: str | Path, out: Path, **options: Any) -> dict[str, Any]:
    prompt = options.pop("prompt", "prompt")
    return run_batch(Dataset.found([str(given)], prompt, out), BatchOptions(at.url, out, **options), print)


@pytest.mark.parametrize(
    "poison",
    [{"prompt": "half \ud800 a character"}, {"messages": [{"role": "user", "content": "x", "weight": math.nan}]}],
)
def test_a_row_that_cannot_be_sent_fails_alone(
    served: Callable[..., Any], tmp_path: Path, poison: dict[str, Any]
) -> None:
    at = served()
    source = jsonl(tmp_path / "in.jsonl", {"prompt": "one"}, poison, {"prompt": "three"})
    out = tmp_path / "out.jsonl"
    summary = run(at, source, out)
    assert (summary["answered"], summary["failed"], summary["left"]) == (2, 1, 0)
    assert [row["serve_graph_status"] for row in rows_of(out)] in (["200", "400", "200"], ["200", "0", "200"])
    [listed] = rows_of(tmp_path / "out.jsonl.failed.jsonl")
    assert json.dumps(listed["row"]) == json.dumps(poison)


def test_no_reader_finds_more_lines_than_rows(served: Callable[..., Any], tmp_path: Path) -> None:
    at = served(cheap=FakeEngine("one\u2028two\x85three"))
    source, out = jsonl(tmp_path / "in.jsonl", {"prompt": "a\u2029b"}), tmp_path / "out.jsonl"
    run(at, source, out, audit=1)
    [row], [_, drawn] = rows_of(out), rows_of(tmp_path / "out.jsonl.audit.jsonl")
    assert (
        (row["prompt"], row["answer"]) == (drawn["prompt"], drawn["answer"]) == ("a\u2029b", "one\u2028two\x85three")
    )


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        ({"secrets": ("ann",)}, {}, "401"),
        ({}, {"model": "gpt-17"}, "404"),
    ],
)
def test_what_is_refused_to_every_row_ends_the_run_and_fails_none(
    served: Callable[..., Any], tmp_path: Path, settings: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    at = served(**settings)
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"question {n}"} for n in range(30)))
    summary = run(at, source, tmp_path / "out.jsonl", concurrency=2, **options)
    assert (summary["asked"], summary["failed"], summary["left"]) == (0, 0, 30)
    assert said in summary["stopped"]


def test_a_budget_ends_the_run_where_no_cost_is_told(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = asking.read_answer
    monkeypatch.setattr(asking, "read_answer", lambda reply: {**read(reply), "cost_usd": None})
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"question {n}"} for n in range(30)))
    summary = run(served(), source, tmp_path / "out.jsonl", budget_usd=1.0)
    assert (summary["asked"], summary["left"]) == (1, 29)
    assert "without its cost" in summary["stopped"]


def test_a_glob_that_matches_the_result_reads_the_rows_alone(served: Callable[..., Any], tmp_path: Path) -> None:
    class Picky(FakeEngine):
        async def generate(self, query: Query, left_s: float = 9.0) -> Any:
            if "bad" in query.text:
                raise EngineRequestError("not that", param="messages")
            return await super().generate(query, left_s)

    at = served(cheap=Picky("x"), frontier=Picky("x"))
    jsonl(tmp_path / "in.jsonl", {"prompt": "good"}, {"prompt": "bad"})
    for _ in range(2):
        summary = run(at, f"{tmp_path}/*.jsonl", tmp_path / "out.jsonl", audit=5)
        assert (summary["rows"], summary["failed"]) == (2, 1)


def test_fields_of_csv_may_be_long(served: Callable[..., Any], tmp_path: Path) -> None:
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt"], ["x" * 200_000], ["y"]])
    assert run(served(max_body_bytes=1 << 20), tmp_path / "in.csv", tmp_path / "out.jsonl")["answered"] == 2


def test_two_columns_of_one_name_are_said(served: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("prompt,prompt\none,two\n")
    with pytest.raises(ServeGraphError, match="two columns 'prompt'"):
        run(served(), tmp_path / "in.csv", tmp_path / "out.jsonl")


@pytest.mark.parametrize("messages", [5, {"role": "user"}, "[", True, []])
def test_messages_that_are_no_list_are_said(served: Callable[..., Any], tmp_path: Path, messages: Any) -> None:
    with pytest.raises(ServeGraphError, match="neither `messages` nor text"):
        run(served(), jsonl(tmp_path / "in.jsonl", {"messages": messages}), tmp_path / "out.jsonl")


def test_parquet_has_the_columns_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"a": 1}, {"a": 2, "b": "x"}, {"b": "y"}]
    assert write_results(tmp_path / "out.parquet", rows) == 3
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"a": 1, "b": None}, {"a": 2, "b": "x"}, {"a": None, "b": "y"},
    ]  # fmt: skip
    monkeypatch.setattr(dataset, "ROWS_AT_ONCE", 1)
    with pytest.raises(ServeGraphError, match=r"no column 'b'.*rename OUT.journal"):
        write_results(tmp_path / "late.parquet", rows)
    with pytest.raises(ServeGraphError, match="parquet cannot hold"):
        write_results(tmp_path / "half.parquet", [{"a": "\ud800"}])
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_journal_that_is_full_is_said(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(ServeGraphError, match="cannot be written: database or disk is full"):
        journal.note("1", True, {"answer": "x" * 99_999})
    journal.close()
    assert sqlite3.connect(tmp_path / "j").execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_keys_budget_without_room_ends_the_run_and_fails_no_row(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is refused whose worst case the budget has no room for, though not all of it is spent."""
    monkeypatch.setattr(asking, "LONGEST_PAUSE_S", 0.01)
    at = served()
    open_, opened = at.service.open, [0]

    def refusing(*args: Any, **kwargs: Any) -> Any:
        opened[0] += 1
        if opened[0] > 5:
            raise BudgetSpentError("the daily budget has no room", 50_000.0)
        return open_(*args, **kwargs)

    monkeypatch.setattr(at.service, "open", refusing)
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"question {n}"} for n in range(20)))
    summary = run(at, source, tmp_path / "out.jsonl", concurrency=2)
    assert (summary["answered"], summary["failed"], summary["left"]) == (5, 0, 15)
    assert "budget has no room" in summary["stopped"]


@pytest.mark.parametrize("background", [True, False])
def test_rows_give_way_where_that_is_wanted(served: Callable[..., Any], tmp_path: Path, background: bool) -> None:
    at, held = served(), [0]

    @asynccontextmanager
    async def place() -> AsyncIterator[None]:
        held[0] += 1
        yield

    at.accounts.background_place = place
    source = jsonl(tmp_path / "in.jsonl", {"prompt": "x"}, {"prompt": "y"})
    assert run(at, source, tmp_path / "out.jsonl", background=background)["answered"] == 2
    assert (held[0], at.accounts.traffic.is_here) == ((2, False) if background else (0, True))


def test_another_column_of_a_row_is_another_question(served: Callable[..., Any], tmp_path: Path) -> None:
    at = served(keep_prompt=str)
    source, out = jsonl(tmp_path / "in.jsonl", {"title": "short", "text": "long"}), tmp_path / "out.jsonl"
    assert run(at, source, out, prompt="title")["asked"] == 1
    assert run(at, source, out, prompt="text")["asked"] == 1
    assert run(at, source, out, prompt="title")["asked"] == 0
    assert [record.prompt for record in at.sink.records] == ["short", "long"]


def test_a_row_that_waits_to_be_asked_again_is_not_once_the_run_has_ended(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row finds the tier full, and while it waits the key is found to be refused."""
    monkeypatch.setattr(asking, "LONGEST_PAUSE_S", 0.5)
    at, asked = served(cheap=FakeEngine("x", slow_s=0.2)), list[str]()
    open_ = at.service.open

    def refusing(query: Query, *args: Any, **kwargs: Any) -> Any:
        asked.append(query.text)
        if query.text == "full":
            raise SaturatedError("full", retry_after_s=1)
        if query.text == "spent":
            raise NotFoundError("no such model", "model")
        return open_(query, *args, **kwargs)

    monkeypatch.setattr(at.service, "open", refusing)
    source = jsonl(tmp_path / "in.jsonl", {"prompt": "full"}, {"prompt": "x"}, {"prompt": "spent"})
    summary = run(at, source, tmp_path / "out.jsonl", concurrency=2)
    assert (asked.count("full"), summary["failed"], summary["left"]) == (1, 0, 2)
