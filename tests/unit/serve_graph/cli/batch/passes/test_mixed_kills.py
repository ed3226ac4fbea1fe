"""Drivers of passes with a provider's batches that are killed: no row is lost, and no line is sent twice."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.config.graph import load_config
from tests.unit.serve_graph.cli.batch.passes.conftest import echo_config, questions
from tests.unit.serve_graph.cli.batch.passes.mixed_run import mixed_tiers, run_mixed
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer

ROWS = 12
CHILD = (sys.executable, "-m", "tests.unit.serve_graph.cli.batch.passes.mixed_run")


def graph(folder: Path, provider: ProviderServer, hosted: tuple[str, ...]) -> None:
    """A graph whose last tier answers every row after the cheap one, and a dataset."""
    config = echo_config(folder, 2.0, tiers=mixed_tiers(provider.url, hosted))
    (folder / "graph.yaml").write_text(config.model_dump_json(exclude_unset=True))
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions(ROWS)))


def killed_at(provider: ProviderServer, folder: Path, event: int) -> None:
    """Run until something happens at the provider for the n-th time, of which the run then hears nothing."""
    happened: list[str] = []

    def kill(what: str) -> None:
        happened.append(what)
        if len(happened) == event + 1:
            os.kill(child.pid, signal.SIGKILL)

    provider.on = kill
    child = subprocess.Popen((*CHILD, str(folder)))
    assert child.wait(120) == -signal.SIGKILL
    provider.on = lambda what: None


def answered(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


EVENTS = [(("frontier",), n) for n in range(3)] + [(("cheap", "frontier"), n) for n in (1, 2, 4, 5)]


@pytest.mark.parametrize(("hosted", "event"), EVENTS)
def test_killed_before_it_hears_of_what_it_sent_a_run_goes_on_with_that(
    provider: ProviderServer, tmp_path: Path, hosted: tuple[str, ...], event: int
) -> None:
    graph(tmp_path, provider, hosted)
    killed_at(provider, tmp_path, event)
    summary, rows = run_mixed(tmp_path), answered(tmp_path)
    assert (summary["answered"], summary["failed"], summary["left"]) == (ROWS, 0, 0)
    assert provider.sizes == ([9, 12] if "cheap" in hosted else [12]), "no batch was created twice"
    assert set(provider.paid.values()) == {1}
    assert sum(Decimal(row["serve_graph_cost_usd"]) for row in rows) == Decimal(summary["total_usd"])
    assert not provider.files


def test_what_a_killed_run_has_under_way_counts_in_the_budget_of_the_next(
    provider: ProviderServer, tmp_path: Path
) -> None:
    graph(tmp_path, provider, ("frontier",))
    killed_at(provider, tmp_path, 1)
    journal = Journal(tmp_path / "out.jsonl.journal")
    held = ProviderLedger(journal.connection).sent_usd()
    spent = sum(Decimal(row[0]) for row in journal.reading("SELECT cost_usd FROM under_way"))
    journal.close()
    assert held > 0
    more = "".join(json.dumps({"prompt": f"more {n}"}) + "\n" for n in range(20))
    (tmp_path / "in.jsonl").write_text((tmp_path / "in.jsonl").read_text() + more)
    summary = run_mixed(tmp_path, budget_usd=float(spent + held) * 0.999)
    assert "has no room for another row" in summary["stopped"]
    assert (summary["answered"], provider.sizes) == (0, [12]), "the cheap tier was asked nothing that had no room"
    summary = run_mixed(tmp_path, budget_usd=100.0)
    assert (summary["answered"], provider.sizes) == (ROWS + 20, [12, 20])
    assert set(provider.paid.values()) == {1}


def test_a_run_that_does_not_read_what_was_sent_says_so(provider: ProviderServer, tmp_path: Path) -> None:
    graph(tmp_path, provider, ("frontier",))
    killed_at(provider, tmp_path, 1)
    told: list[str] = []
    config, options = load_config(tmp_path / "graph.yaml"), BatchOptions("", tmp_path / "out.jsonl")
    own = OwnPasses(config, options.settings, tmp_path, 8, make=LocalPasses)
    summary = run_batch(Dataset.found([str(tmp_path / "in.jsonl")], out=options.out), options, told.append, own)
    assert (summary["answered"], provider.chats) == (ROWS, ROWS)
    assert told[0].startswith(
        "12 lines of frontier were sent to its provider in batches, which this run does not read"
    )


def interrupting(what: str) -> Callable[[str], None]:
    def interrupt(event: str) -> None:
        if event == what:
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


def test_interrupted_while_a_batch_is_waited_for_the_next_run_waits_for_the_same(
    provider: ProviderServer, tmp_path: Path
) -> None:
    graph(tmp_path, provider, ("frontier",))
    provider.on, provider.looks = interrupting("batch"), 3
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            run_mixed(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    provider.on = lambda what: None
    assert run_mixed(tmp_path)["answered"] == ROWS
    assert (provider.sizes, set(provider.paid.values())) == ([12], {1})
