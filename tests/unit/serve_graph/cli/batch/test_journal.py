"""What was paid for a row stays in the sums, whatever becomes of the row later."""

import sqlite3
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest

from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.passes.under_way import RowsUnderWay
from serve_graph.cluster.batches.passes.pass_rows import RowProgress
from serve_graph.errors import ServeGraphError


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "out.jsonl.journal")


def test_what_a_row_cost_before_it_was_asked_again_is_in_the_sum(journal: Journal) -> None:
    journal.note("failed", False, {"cost_usd": "0.25", "tokens": 5})
    journal.note("again", True, {"cost_usd": "1", "version": "router/1"})
    journal.note("unmetered", True, {"cost_usd": None})
    assert journal.totals().usd == Decimal("1.25")
    journal.note("failed", False, {"cost_usd": "0.5"})  # --retry-failed, in vain
    journal.note("failed", True, {"cost_usd": "2"})
    journal.note("again", True, {"cost_usd": "3", "version": "router/2"})  # --again
    journal.note("unmetered", True, {"cost_usd": "4"})
    found = journal.totals()
    assert found.usd == Decimal("0.25") + Decimal("0.5") + 2 + 1 + 3 + 4
    assert (found.answered, found.failed, found.unmetered) == (3, 0, 0)
    assert sorted(journal.costs()) == [2.0, 3.0, 4.0], "a row's cost is that of its answer"


def test_what_is_written_down_of_a_row_later_is_paid_once(journal: Journal) -> None:
    journal.note("row", True, {"cost_usd": "1"})
    journal.amend("row", True, {"cost_usd": "1", "promised": True})
    assert journal.totals().usd == 1
    assert (journal.find("row") or {})["promised"] is True


def test_what_is_rolled_back_was_not_paid_twice(journal: Journal) -> None:
    journal.note("row", False, {"cost_usd": "1"})
    with suppress(KeyError), journal.at_once():
        journal.note("row", True, {"cost_usd": "2"})
        raise KeyError
    assert journal.totals().usd == 1
    with journal.at_once():
        journal.note("row", True, {"cost_usd": "2"})
    assert journal.totals().usd == 3


def test_what_rows_under_way_had_cost_under_another_version_stays_in_the_sum(journal: Journal) -> None:
    RowsUnderWay(journal, "router/1").keep([RowProgress("row", "0.25", tier="frontier", body="{}")])
    now = RowsUnderWay(journal, "router/2")
    now.keep([RowProgress("other", "0.5", tier="frontier", body="{}")])
    assert now.spent() == Decimal("0.75")
    assert now.forget_others() == 1
    assert (journal.totals().usd, now.spent()) == (Decimal("0.25"), Decimal("0.5"))
    assert now.forget_others() == 0
    assert journal.totals().usd == Decimal("0.25")


def test_a_journal_of_before_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "old.journal"
    with sqlite3.connect(path) as old:
        old.execute(
            "CREATE TABLE answers (key TEXT PRIMARY KEY, ok INTEGER NOT NULL, version TEXT, tier TEXT, outcome TEXT, "
            "cost_usd TEXT, tokens INTEGER NOT NULL, result TEXT NOT NULL)"
        )
        old.execute("INSERT INTO answers VALUES ('row', 0, NULL, NULL, NULL, '0.5', 0, '{}')")
    old.close()
    journal = Journal(path)
    journal.note("row", True, {"cost_usd": "1"})
    assert journal.totals().usd == Decimal("1.5")


def test_a_journal_that_cannot_be_written_is_said(journal: Journal) -> None:
    journal.close()
    with pytest.raises(ServeGraphError, match="cannot be written"):
        journal.note("row", True, {"cost_usd": "1"})
