"""`batch run --provider-batches`: what lines cost is in the sums and budgets once, whatever becomes of their rows."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_models.estimators.routers import LengthRouter
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from serve_graph.cli.batch import asking
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger, ProviderLine
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.config.graph import load_config
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer
from tests.unit.serve_graph.cli.batch.providers.test_provider_run import batch_run, fitted_verifier, saying


def escalating(folder: Path) -> None:
    """Have every row asked of both tiers, with a line between them for what is said of the first answer."""
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.99)})
    version = RouterVersion(policy, {"cheap": Stage(LengthRouter(), None, fitted_verifier("p-true"), None)})
    version.save(folder / "state" / "builtin" / "builtin-uncertified")
    graph = yaml.safe_load((folder / "graph.yaml").read_text())
    graph["tiers"][1]["default_max_tokens"] = 200  # one of its lines may cost more than a budget of $0.03
    (folder / "graph.yaml").write_text(yaml.safe_dump(graph | {"policy": {"version": "builtin"}}))


CHEAP_USD, LAST_USD = Decimal(6 * (14 + 41) * 100) / 10**6 / 2, Decimal(6 * 14 * 1000) / 10**6 / 2
"""What six rows cost at each tier of `escalating`."""


def money(summary: dict[str, Any]) -> tuple[Decimal, Decimal]:
    return Decimal(summary["spent_usd"]), Decimal(summary["total_usd"])


def test_lines_of_rows_that_a_budget_leaves_midway_are_in_the_sums_once(
    provider: ProviderServer, tmp_path: Path
) -> None:
    provider.answer = saying
    escalating(tmp_path)
    summary, _ = batch_run(tmp_path, "--budget-usd", 0.03)
    assert (summary["answered"], summary["left"]) == (0, 6)
    before, total = money(summary)
    assert Decimal(6 * 14 * 100) / 10**6 / 2 <= before == total <= CHEAP_USD, "some lines may be left at the provider"
    summary, rows = batch_run(tmp_path)
    assert (summary["answered"], len(provider.paid), set(provider.paid.values())) == (6, 18, {1})
    assert money(summary) == (CHEAP_USD + LAST_USD - before, CHEAP_USD + LAST_USD)
    assert sum(Decimal(row["serve_graph_cost_usd"]) for row in rows) == CHEAP_USD + LAST_USD


def test_rows_whose_batch_is_gone_are_sent_again_by_who_says_so_alone(
    provider: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking.RowAsker, "pause_s", 0.01)
    provider.loses = [""]
    summary, rows = batch_run(tmp_path)
    assert (summary["answered"], summary["failed"], provider.sizes) == (0, 6, [6])
    assert all("--retry-failed sends it again" in row["serve_graph_error"] for row in rows)
    summary, _ = batch_run(tmp_path)
    assert (summary["asked"], provider.sizes) == (0, [6])
    summary, _ = batch_run(tmp_path, "--retry-failed")
    assert (summary["answered"], summary["failed"], provider.sizes) == (6, 0, [6, 6])


def test_a_budget_holds_lines_of_a_tier_that_this_run_does_not_read(provider: ProviderServer, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.jsonl.journal")
    sent = ProviderLine("sent", "another row", "cheap", "{}", Decimal("0.15"))
    ProviderLedger(journal.connection).begin("cheap", [sent])
    journal.close()
    summary, _ = batch_run(tmp_path, "--interactive", "cheap", "--budget-usd", 0.16)
    assert (summary["answered"], provider.sizes) == (0, [])
    assert "has no room for another row" in summary["stopped"]
    summary, _ = batch_run(tmp_path, "--interactive", "cheap", "--budget-usd", 0.35)
    assert (summary["answered"], money(summary)) == (6, (LAST_USD, LAST_USD))


def test_lines_of_rows_that_fail_at_the_last_tier_are_in_the_sums_once(
    provider: ProviderServer, tmp_path: Path
) -> None:
    def refuses(what: str) -> None:
        is_last = what == "batch" and len(provider.sizes) == 3
        provider.statuses = {f"row {n}": 400 for n in range(5)} if is_last else {}

    provider.answer, provider.on = saying, refuses
    escalating(tmp_path)
    summary, _ = batch_run(tmp_path)
    assert (summary["answered"], summary["failed"], provider.sizes) == (0, 6, [6, 6, 6])
    assert money(summary) == (CHEAP_USD, CHEAP_USD)
    summary, _ = batch_run(tmp_path, "--retry-failed")
    assert (summary["answered"], provider.sizes) == (6, [6, 6, 6, 6])
    assert money(summary) == (LAST_USD, CHEAP_USD + LAST_USD)


def test_batches_whose_rows_were_answered_otherwise_are_read_once_they_have_ended(
    provider: ProviderServer, tmp_path: Path
) -> None:
    def stop_at(text: str) -> None:
        if "validating" in text:
            raise KeyboardInterrupt

    provider.looks = 3
    config = load_config(tmp_path / "graph.yaml")
    by_batch = {"provider_batches": True, "poll_s": 0.02, "config": tmp_path / "graph.yaml"}

    def run(say: Callable[[str], None] = lambda _: None, by: Any = None, **more: Any) -> dict[str, Any]:
        options = BatchOptions("http://127.0.0.1:9", tmp_path / "out.jsonl", model="frontier", **more)
        return run_batch(Dataset.found([str(tmp_path / "in.jsonl")]), options, say, by)

    with pytest.raises(KeyboardInterrupt):
        run(stop_at, **by_batch)
    assert (provider.sizes, provider.paid) == ([6], {})
    by_calls = run(by=OwnPasses(config, {"model": "frontier"}, tmp_path, 8, make=LocalPasses))
    assert (by_calls["answered"], money(by_calls)) == (6, (2 * LAST_USD, 2 * LAST_USD))
    for batch in provider.batches.values():
        provider._end(batch, "completed")
    for spent in (LAST_USD, 0):
        again = run(**by_batch)
        assert (again["asked"], again["stopped"], provider.sizes) == (0, None, [6])
        assert money(again) == (spent, 3 * LAST_USD)


def without_choices(*models: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Replies that are billed and hold no answer, of these models."""
    return lambda body: saying(body) | ({"choices": []} if body["model"] in models else {})


def test_lines_that_are_billed_without_an_answer_are_in_the_sums_though_their_rows_fail(
    provider: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LONGEST_PAUSE_S", 0.05)
    provider.answer = without_choices("m-frontier")
    summary, _ = batch_run(tmp_path)
    assert (summary["failed"], sum(provider.paid.values())) == (6, 30)
    assert money(summary) == (5 * LAST_USD, 5 * LAST_USD)
    provider.answer = saying
    for asked, spent in (("--retry-failed", LAST_USD), ("--retry-failed", Decimal(0))):
        summary, rows = batch_run(tmp_path, asked)
        assert (summary["answered"], sum(provider.paid.values()), money(summary)) == (6, 36, (spent, 6 * LAST_USD))
    assert sum(Decimal(row["serve_graph_cost_usd"]) for row in rows) == LAST_USD


def test_lines_that_are_billed_without_an_answer_are_on_the_bill_of_a_row_that_falls_back(
    provider: ProviderServer, tmp_path: Path
) -> None:
    provider.answer = without_choices("m-cheap")
    escalating(tmp_path)
    both = LAST_USD + LAST_USD / 10
    for spent in (both, 0):
        summary, rows = batch_run(tmp_path)
        assert (summary["answered"], provider.sizes, money(summary)) == (6, [6, 6], (spent, both))
    assert sum(Decimal(row["serve_graph_cost_usd"]) for row in rows) == both
