"""Calls for signals in what a sample of passes foretells: dollars, time, and what is said while a run lasts."""

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from serve_graph.cli.batch.answering import RunProgress
from serve_graph.cli.batch.journal import JournalTotals
from serve_graph.cli.batch.running import batch_summary_lines
from serve_graph.cluster.batches.passes.pass_rows import RowPieces
from serve_graph.cluster.batches.passes.passes import LocalPasses
from tests.unit.serve_graph.cli.batch.passes.conftest import echo_config
from tests.unit.serve_graph.cli.batch.passes.test_asked_signals import config_of

Run = Callable[..., Any]
ROWS = [{"prompt": f"[{n}] What is the name of the river?"} for n in range(30)]
START_S = 0.3


class SlowStarts(LocalPasses):
    """Passes whose engines take a while to start."""

    def answer(self, tier: str, chunks: RowPieces) -> Any:
        time.sleep(START_S)
        yield from super().answer(tier, chunks)


def test_a_sample_foretells_what_calls_for_signals_cost_and_that_their_engines_start(
    in_passes: Run, tmp_path: Path
) -> None:
    config = config_of(tmp_path, "asked-first")
    sampled, _, _ = in_passes(ROWS, config, dry_run=28, make=SlowStarts)
    signals = sampled["records"]["signals"]
    assert signals["calls"] >= 28 * 2, "two of each row before it is routed"
    each = Decimal(sampled["total_usd"]) / 28
    assert sampled["forecast_left"]["usd"] == pytest.approx(float(each) * 2)
    assert sampled["time_left"]["low"] >= 6 * START_S, "before routing, the cheap tier, and four passes after it"
    answers = Decimal(sampled["total_usd"]) - Decimal(signals["usd"])
    assert 0 < answers < Decimal(signals["usd"]), "these questions cost more than the answers"
    said = [line for line in batch_summary_lines(sampled) if "calls for signals" in line]
    counted = f"{signals['calls']:,} calls for signals ({signals['tokens']:,} tokens)"
    assert said == [f"{counted} took ${Decimal(signals['usd']):.6f} of what these answers cost"]


def test_a_version_that_asks_for_none_has_none_in_its_sums(in_passes: Run, tmp_path: Path) -> None:
    summary, _, _ = in_passes(ROWS[:4], echo_config(tmp_path))
    assert summary["records"]["signals"] == {"calls": 0, "tokens": 0, "usd": "0"}
    assert not any("calls for signals" in line for line in batch_summary_lines(summary))


def test_while_rows_were_asked_about_and_none_has_ended_nothing_is_forecast() -> None:
    said: list[str] = []
    shown = RunProgress(JournalTotals(0, 0, 0, Decimal(0), 0), 1000, said.append, shown_at=-1e9)
    shown.show(0, 0, Decimal("0.5"))
    shown.shown_at = -1e9
    shown.show(100, 2000, Decimal("0.5"))
    assert said == [
        "0 of 1,000 rows, 0 tokens, $0.5000 spent, no forecast before rows have ended",
        "100 of 1,000 rows, 2,000 tokens, $0.5000 spent, $5.0000 forecast",
    ]
