"""Estimates, promises and savings from decision records, and answers drawn for a person to look at."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeJudge
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.running import BatchOptions, batch_summary_lines, run_batch
from serve_graph.errors import ServeGraphError
from tests.fixtures.local_graph import listening


def source(folder: Path) -> Dataset:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(6)))
    return Dataset.found([str(path)])


def test_each_row_says_what_its_record_does(endpoint: Callable[..., Any], tmp_path: Path) -> None:
    at, out = endpoint(judge=FakeJudge()), tmp_path / "out.jsonl"
    with listening(at.app) as url:
        summary = run_batch(source(tmp_path), BatchOptions(url, out, records=True, audit=4), print)
    found = [json.loads(row) for row in out.read_text().splitlines()]
    records = {record.id: record for record in at.sink.records}
    for row in found:
        record = records[row["serve_graph_decision"]]
        assert row["serve_graph_p_answer_ok"] == str(record.p_answer_ok)
        assert row["serve_graph_promised"] == str(
            "not_promised" not in record.evidence and bool(record.evidence["promised"])
        )
        assert row["serve_graph_not_promised"] == record.evidence.get("not_promised")
    assert summary["records"]["read"] == summary["records"]["covered"] == 6
    assert float(summary["records"]["saved_usd"]) == pytest.approx(6 * (0.0002 - 0.00002))  # ten times as dear
    assert "$0.001080 saved beside the last tier alone" in "\n".join(batch_summary_lines(summary))
    _, *audited = [json.loads(row) for row in (tmp_path / "out.jsonl.audit.jsonl").read_text().splitlines()]
    assert len(audited) == summary["audited"] == 4
    assert {(one["kind"], one["value"], one["answer"]) for one in audited} == {("label", None, "cheap says")}
    assert {one["decision"] for one in audited} <= set(records)


def test_a_key_that_may_not_read_records_is_told_so(
    endpoint: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVE_GRAPH_KEY", "ann")
    with (
        listening(endpoint(secrets=("ann",)).app) as url,
        pytest.raises(ServeGraphError, match="needs a key with the scope admin"),
    ):
        run_batch(source(tmp_path), BatchOptions(url, tmp_path / "out.jsonl", records=True), print)
