"""A dataset through a running graph of fakes, over a real socket: each row once, whatever happens in between."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router_models.types import Query
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.cli import main
from serve_graph.cli.batch import answering, asking
from serve_graph.cli.batch.answering import RunProgress
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.journal import Journal, JournalTotals
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger, ProviderLine
from serve_graph.cli.batch.running import BatchOptions, batch_summary_lines, run_batch
from serve_graph.errors import EngineRequestError, ServeGraphError

CHEAP_USD = Decimal("0.00002")
"""What an answer of the fake cheap tier costs."""


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(at: Any, files: list[Path], out: Path, **options: Any) -> dict[str, Any]:
    shown: list[str] = []
    dataset = Dataset.found([str(path) for path in files], options.pop("prompt", "prompt"))
    return run_batch(dataset, BatchOptions(at.url, out, **options), shown.append)


def test_every_row_has_its_answer_beside_it_in_the_rows_order(served: Callable[..., Any], tmp_path: Path) -> None:
    at = served()
    source = jsonl(tmp_path / "in.jsonl", *({"n": n, "prompt": f"question {n}"} for n in range(40)))
    summary = run(at, [source], tmp_path / "out.jsonl", system="be brief")
    found = rows_of(tmp_path / "out.jsonl")
    assert [row["n"] for row in found] == list(range(40))
    assert {row["answer"] for row in found} == {"cheap says"}
    assert {(row["serve_graph_tier"], row["serve_graph_outcome"]) for row in found} == {("cheap", "accepted")}
    decisions = {record.id: record for record in at.sink.records}
    assert {row["serve_graph_decision"] for row in found} == set(decisions)
    assert (
        sum(Decimal(row["serve_graph_cost_usd"]) for row in found) == Decimal(summary["total_usd"]) == 40 * CHEAP_USD
    )
    assert (summary["answered"], summary["failed"], summary["left"], summary["asked"]) == (40, 0, 0, 40)
    assert "40 rows: 40 answered" in "\n".join(batch_summary_lines(summary))
    assert not (tmp_path / "out.jsonl.failed.jsonl").exists()


def test_a_second_run_asks_only_what_is_new_and_equal_rows_once(served: Callable[..., Any], tmp_path: Path) -> None:
    at = served()
    rows = [{"prompt": f"question {n % 5}"} for n in range(10)]
    source, out = jsonl(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    assert run(at, [source], out)["asked"] == 5
    jsonl(source, {"prompt": "new"}, *rows)
    assert run(at, [source], out)["asked"] == 1
    assert [row["prompt"] for row in rows_of(out)] == ["new", *(row["prompt"] for row in rows)]
    assert all(row["answer"] for row in rows_of(out))
    assert run(at, [source], out, max_tokens=5)["asked"] == 6  # another question to all of them
    assert len(at.sink.records) == 12


@pytest.mark.parametrize("kind", ["csv", "parquet", "messages"])
def test_csv_parquet_and_conversations_are_read(served: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    at = served(keep_prompt=str)
    texts = ["one", "two, with ☃", "three\nlines"]
    if kind == "csv":
        with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
            file.write("\ufeff")
            csv.writer(file).writerows([["text"], *([text] for text in texts)])
    elif kind == "parquet":
        pq.write_table(pa.table({"text": texts, "n": [1, 2, 3]}), tmp_path / "in.parquet")
    else:
        rows = [{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": t}]} for t in texts]
        jsonl(tmp_path / "in.jsonl", *rows)
    out = tmp_path / "out.parquet"
    summary = run(at, [tmp_path / "in.*"], out, prompt="text")
    assert summary["answered"] == 3
    system = "s\n" if kind == "messages" else ""
    assert sorted(record.prompt for record in at.sink.records) == sorted(system + text for text in texts)
    found = pq.read_table(out)
    assert found.column("answer").to_pylist() == ["cheap says"] * 3
    if kind == "parquet":
        assert found.column("n").to_pylist() == [1, 2, 3]
    assert found.column("serve_graph_completion_tokens").to_pylist() == [5, 5, 5]


def test_a_uri_is_read_as_its_path_is(served: Callable[..., Any], tmp_path: Path) -> None:
    source = jsonl(tmp_path / "in.jsonl", {"prompt": "x"})
    assert run_batch(
        Dataset.found([f"file://{source}"]), BatchOptions(served().url, tmp_path / "o.jsonl"), print
    )["answered"] == 1  # fmt: skip


def test_while_it_runs_it_says_rows_tokens_money_and_what_all_rows_will_cost(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    shown = RunProgress(JournalTotals(10, 2, 400, Decimal("0.001"), 0), 1000, said.append)
    shown.show(40, 1600, Decimal("0.005"))
    assert said == [], "every five seconds"
    shown.shown_at -= answering.SHOWN_EVERY_S
    shown.show(40, 1600, Decimal("0.005"))
    assert said == ["52 of 1,000 rows, 2,000 tokens, $0.0050 spent, $0.1000 forecast"]
    monkeypatch.setattr(answering, "SHOWN_EVERY_S", 0.0)
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"question {n}"} for n in range(20)))
    said.clear()
    run_batch(Dataset.found([str(source)]), BatchOptions(served().url, tmp_path / "out.jsonl"), said.append)
    assert any(
        text.startswith("20 of 20 rows, ") and text.endswith("$0.0004 spent, $0.0004 forecast") for text in said
    )


def test_a_budget_is_kept_and_the_next_run_goes_on(served: Callable[..., Any], tmp_path: Path) -> None:
    at = served()
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"question {n}"} for n in range(50)))
    out = tmp_path / "out.jsonl"
    first = run(at, [source], out, budget_usd=0.00021)
    assert first["asked"] == 10
    assert Decimal(first["total_usd"]) == 10 * CHEAP_USD
    assert "no room" in first["stopped"]
    assert (first["left"], len(rows_of(out))) == (40, 50)
    again = run(at, [source], out, budget_usd=0.00021)
    assert again["asked"] == 0
    rest = run(at, [source], out)
    assert (rest["asked"], rest["left"]) == (40, 0)
    assert len(at.sink.records) == 50


def test_a_budget_leaves_room_for_lines_at_a_provider_that_nobody_has_read(
    served: Callable[..., Any], tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"question {n}"} for n in range(50)))
    journal = Journal(tmp_path / "out.jsonl.journal")
    ProviderLedger(journal.connection).begin("a", [ProviderLine("line", "a row", "a", "{}", 5 * CHEAP_USD)])
    journal.close()
    first = run(served(), [source], tmp_path / "out.jsonl", budget_usd=0.00021)
    assert (first["asked"], Decimal(first["total_usd"])) == (5, 5 * CHEAP_USD)
    assert "no room for another row ($0.000100 spent, up to $0.000100 due for what was sent)" in first["stopped"]
    again = run(served(), [source], tmp_path / "out.jsonl", budget_usd=0.0002)
    assert (again["asked"], "no room" in again["stopped"]) == (0, True)


def test_failed_rows_are_listed_and_asked_again_alone(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Picky(FakeEngine):
        mended = False

        async def generate(self, query: Query, left_s: float = 9.0) -> Any:
            if "bad" in query.text and not self.mended:
                raise EngineRequestError("not that", param="messages")
            return await super().generate(query, left_s)

    picky = Picky("well")
    at = served(cheap=picky, frontier=picky)
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"{'bad' if n % 4 == 0 else 'good'} {n}"} for n in range(12)))
    out = tmp_path / "out.jsonl"
    first = run(at, [source], out)
    assert (first["answered"], first["failed"]) == (9, 3)
    listed = rows_of(Path(first["failures"]))
    assert [one["row"]["prompt"] for one in listed] == ["bad 0", "bad 4", "bad 8"]
    assert {one["status"] for one in listed} == {400}
    assert run(at, [source], out)["asked"] == 0
    picky.mended = True
    again = run(at, [source], out, retry_failed=True)
    assert (again["asked"], again["failed"], again["failures"]) == (3, 0, None)
    assert not out.with_name("out.jsonl.failed.jsonl").exists()
    assert all(row["answer"] == "well" and row["serve_graph_error"] is None for row in rows_of(out))


def test_a_graph_that_is_away_for_a_moment_is_asked_again(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LONGEST_PAUSE_S", 0.01)
    at = served()
    refusals, open_ = [0], at.service.open

    def refusing(*args: Any, **kwargs: Any) -> Any:
        from serve_graph.errors import SaturatedError

        refusals[0] += 1
        if refusals[0] <= 3:
            raise SaturatedError("full", retry_after_s=1)
        return open_(*args, **kwargs)

    monkeypatch.setattr(at.service, "open", refusing)
    source = jsonl(tmp_path / "in.jsonl", {"prompt": "x"})
    assert run(at, [source], tmp_path / "out.jsonl")["answered"] == 1
    assert refusals == [4]


def test_a_dry_run_says_what_all_rows_will_cost_and_keeps_its_answers(
    served: Callable[..., Any], tmp_path: Path
) -> None:
    at = served(judge=FakeJudge(), decider=FakeDecider("cheap"))
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"question {n}"} for n in range(200)))
    config = tmp_path / "graph.yaml"
    config.write_text(
        "tiers:\n"
        "  - {name: cheap, engine: echo, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}\n"
        "  - {name: frontier, engine: echo, price: {input_usd_per_mtok: 10, output_usd_per_mtok: 20}}\n"
    )
    out = tmp_path / "out.jsonl"
    told = run(at, [source], out, dry_run=20, config=config)
    assert (told["asked"], told["left"], told["written"], out.exists()) == (20, 180, 0, False)
    assert told["forecast_left"]["usd"] == pytest.approx(180 * float(CHEAP_USD))
    assert told["always"]["cheap"]["usd"] == pytest.approx(200 * float(CHEAP_USD))
    assert told["always"]["frontier"]["usd"] == pytest.approx(200 * float(CHEAP_USD) * 10)
    assert told["tiers"]["cheap"]["share"] == 1.0
    assert 0.8 < told["tiers"]["cheap"]["low"] < 1.0
    text = "\n".join(batch_summary_lines(told))
    assert "all rows at frontier" in text
    assert run(at, [source], out)["asked"] == 180


def test_rows_that_another_version_answered_are_asked_again_where_that_is_wanted(
    served: Callable[..., Any], tmp_path: Path
) -> None:
    at = served()
    source, out = jsonl(tmp_path / "in.jsonl", {"prompt": "x"}, {"prompt": "y"}), tmp_path / "out.jsonl"
    run(at, [source], out)
    at.service.context = replace(at.service.context, version="router/1")
    assert run(at, [source], out)["asked"] == 0
    again = run(at, [source], out, other_versions=True)
    assert (again["asked"], list(again["versions"])) == (2, ["router/1"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("in.jsonl", '{"prompt": "x"}\n{nonsense', "in.jsonl, line 2"),
        ("in.jsonl", "[1]", "line 1 is no JSON object"),
        ("in.jsonl", '{"text": "x"}', "neither `messages` nor text in the column 'prompt'"),
        ("in.jsonl", '{"prompt": "x", "answer": "y"}', "rename it"),
        ("in.jsonl", "\n", "there are no rows"),
        ("in.parquet", "no parquet", "cannot be read"),
        ("in.txt", "x", "is none of"),
    ],
)
def test_what_is_no_dataset_is_said_before_anything_is_asked(
    served: Callable[..., Any], tmp_path: Path, name: str, content: str, said: str
) -> None:
    at = served()
    (tmp_path / name).write_text(content)
    with pytest.raises(ServeGraphError, match=said):
        run(at, [tmp_path / name], tmp_path / "out.jsonl")
    assert at.sink.records == []
    assert not (tmp_path / "out.jsonl").exists()


def test_one_run_at_a_time_has_the_journal(served: Callable[..., Any], tmp_path: Path) -> None:
    from serve_graph.cli.batch.journal import Journal

    source = jsonl(tmp_path / "in.jsonl", {"prompt": "x"})
    journal = Journal(tmp_path / "out.jsonl.journal")
    with pytest.raises(ServeGraphError, match="another run has it"):
        run(served(), [source], tmp_path / "out.jsonl")
    journal.close()


def test_the_command_prints_its_summary_and_exits_1_where_rows_are_left(
    served: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = served()
    source = jsonl(tmp_path / "in.jsonl", *({"prompt": f"question {n}"} for n in range(5)))
    words = ["serve-graph", "batch", "run", str(source), "--out", str(tmp_path / "o.jsonl"), "--url", f"{at.url}/v1"]
    monkeypatch.setattr(sys, "argv", [*words, "--budget-usd", "0.00003", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert json.loads(capsys.readouterr().out)["left"] == 4
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert "5 answered, 0 failed, 0 left; 4 asked now" in capsys.readouterr().out
