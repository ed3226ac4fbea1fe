"""Batches that are not at their provider any more: what is known of them is kept, and no later run ends for them."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.passes.conftest import Mixed, echo_config
from tests.unit.serve_graph.cli.batch.passes.mixed_run import HALF, costs, mixed_tiers, shown
from tests.unit.serve_graph.cli.batch.providers.anthropic_server import AnthropicServer
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer

ROWS = [{"prompt": f"question {n}"} for n in range(8)]


def failed(found: list[dict[str, Any]]) -> list[int]:
    return [n for n, row in enumerate(found) if row["serve_graph_status"] != "200"]


def test_rows_of_a_batch_that_is_gone_fail_with_the_reason_and_are_retried_alone(
    mixed: Mixed, provider: ProviderServer
) -> None:
    provider.loses = [""]
    summary, found, _ = mixed(ROWS, model="frontier")
    assert (summary["stopped"], summary["answered"], summary["failed"], summary["left"]) == (None, 0, 8, 0)
    assert all("batch_1 is not at the provider any more" in row["serve_graph_error"] for row in found)
    assert all("--retry-failed sends it again" in row["serve_graph_error"] for row in found)
    more, found, _ = mixed([*ROWS, {"prompt": "another"}], model="frontier")
    assert (more["stopped"], more["asked"], more["answered"], provider.sizes) == (None, 1, 1, [8, 1])
    again, found, _ = mixed(ROWS, model="frontier", retry_failed=True)
    assert (again["answered"], again["failed"], provider.sizes) == (8, 0, [8, 1, 8])
    assert set(provider.paid.values()) == {1}
    assert Decimal(again["total_usd"]) == 9 * HALF["frontier"], "the other row's is the journal's, too"


def test_answers_that_a_batch_left_behind_are_read_and_not_paid_again(mixed: Mixed, provider: ProviderServer) -> None:
    provider.loses, provider.answered = ["expired"], 3
    summary, found, _ = mixed(ROWS, model="frontier")
    assert (summary["stopped"], summary["answered"], summary["failed"]) == (None, 8, 0), "what expired is sent again"
    assert (provider.sizes, set(provider.paid.values())) == ([8, 5], {1})
    assert costs(found) == 8 * HALF["frontier"] == Decimal(summary["total_usd"])


def test_a_batch_whose_result_files_are_gone_is_as_one_that_is_gone(mixed: Mixed, provider: ProviderServer) -> None:
    def forgets(what: str) -> None:
        if what == "content":
            provider.files.clear()

    provider.on = forgets
    summary, found, _ = mixed(ROWS, model="frontier")
    assert (summary["stopped"], failed(found)) == (None, list(range(8)))


def test_a_cheap_tiers_rows_fall_back_as_where_it_fails(mixed: Mixed, provider: ProviderServer) -> None:
    provider.loses = [""]
    summary, found, asked = mixed(ROWS, ("cheap",))
    assert {shown(row) for row in found} == {("frontier", "fallback")}
    assert (summary["stopped"], len(asked["frontier"])) == (None, 8)


def test_an_address_where_nothing_of_a_provider_is_ends_the_run_and_fails_no_row(
    mixed: Mixed, provider: ProviderServer
) -> None:
    provider.loses, provider.lists = [""], False
    summary, _, _ = mixed(ROWS, model="frontier")
    assert "the batches of tier 'frontier' do not work" in summary["stopped"]
    assert (summary["failed"], summary["left"]) == (0, 8)


@pytest.mark.parametrize(("loses", "answered"), [("batch", 6), ("all", 0)])
def test_an_anthropic_batch_that_is_gone_is_as_any_other(
    in_passes: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loses: str, answered: int
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    server = AnthropicServer(loses=loses)
    with listening(server.app) as url:
        config = echo_config(tmp_path, tiers=mixed_tiers(url, ("frontier",), api="anthropic"))
        given = {"provider_batches": True, "concurrency": 100, "model": "frontier"}
        summary, found, _ = in_passes(ROWS[:6], config, **given)
    assert (summary["stopped"], summary["answered"], summary["failed"]) == (None, answered, 6 - answered)
    assert all("msgbatch_1 is not at the provider any more" in found[n]["serve_graph_error"] for n in failed(found))
    assert (
        costs([row for row in found if row["answer"]]) == Decimal(summary["total_usd"]) == answered * HALF["frontier"]
    )
