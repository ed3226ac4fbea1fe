"""Dollars of a provider's lines whose rows were answered without them: in the sum of every later run."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from serve_graph.cluster.batches.passes.passes import LocalPasses
from tests.unit.serve_graph.cli.batch.passes.conftest import Mixed
from tests.unit.serve_graph.cli.batch.passes.mixed_run import HALF
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer

ROWS = [{"prompt": f"question {n}"} for n in range(6)]
BY_BATCH, BY_CALLS = 6 * HALF["frontier"], 6 * 2 * HALF["frontier"]
LAST: dict[str, Any] = {"model": "frontier"}


class Interrupted(LocalPasses):
    """What a batch said is there, and is not noted of any row."""

    def judge(self, tier: str, replies: Any) -> Any:
        raise KeyboardInterrupt


def total(summary: dict[str, Any]) -> Decimal:
    return Decimal(summary["total_usd"])


def test_lines_that_were_paid_stay_in_the_sum_where_their_rows_are_answered_by_calls(
    mixed: Mixed, provider: ProviderServer, in_passes: Callable[..., Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        mixed(ROWS, make=Interrupted, **LAST)
    assert (len(provider.paid), provider.chats) == (6, 0)
    summary, _, _ = in_passes(ROWS, mixed.config, **LAST)
    assert (summary["answered"], provider.chats) == (6, 6)
    assert (total(summary), Decimal(summary["spent_usd"])) == (BY_BATCH + BY_CALLS, BY_CALLS)
    for _ in range(2):
        again, _, _ = mixed(ROWS, **LAST)
        assert (again["asked"], provider.sizes) == (0, [6])
        assert (total(again), Decimal(again["spent_usd"])) == (BY_BATCH + BY_CALLS, 0)


def interrupted_while_sent(mixed: Mixed, provider: ProviderServer) -> None:
    def stop_at(text: str) -> None:
        if "validating" in text:
            raise KeyboardInterrupt

    provider.looks = 3
    with pytest.raises(KeyboardInterrupt):
        mixed(ROWS, say=stop_at, **LAST)
    assert (provider.sizes, provider.paid) == ([6], {})


def test_lines_that_are_still_open_are_in_the_sum_once_they_have_ended_and_in_no_budget_before(
    mixed: Mixed, provider: ProviderServer, in_passes: Callable[..., Any]
) -> None:
    interrupted_while_sent(mixed, provider)
    said: list[str] = []
    summary, _, _ = in_passes(ROWS, mixed.config, budget_usd=0.05, say=said.append, **LAST)
    assert (summary["answered"], provider.chats) == (0, 0), "what was sent may cost more than the budget leaves"
    assert "has no room for another row" in summary["stopped"]
    assert any("up to $" in text and "may be due" in text for text in said)
    summary, _, _ = in_passes(ROWS, mixed.config, **LAST)
    assert (summary["answered"], provider.chats, total(summary)) == (6, 6, BY_CALLS)
    provider.looks = 0
    for batch in provider.batches.values():
        provider._end(batch, "completed")
    for _ in range(2):
        again, _, _ = mixed(ROWS, **LAST)
        assert (again["asked"], provider.sizes, len(provider.paid)) == (0, [6], 6)
        assert total(again) == BY_CALLS + BY_BATCH


def test_a_batch_that_goes_on_is_not_waited_for_where_no_row_waits(
    mixed: Mixed, provider: ProviderServer, in_passes: Callable[..., Any]
) -> None:
    interrupted_while_sent(mixed, provider)
    in_passes(ROWS, mixed.config, **LAST)
    provider.looks = 10**6
    again, _, _ = mixed(ROWS, **LAST)
    assert (again["asked"], total(again)) == (0, BY_CALLS)


def gone_while_no_row_waits(mixed: Mixed, provider: ProviderServer, in_passes: Callable[..., Any], ends: bool) -> None:
    """Rows are answered by calls, while their batch, that ended or not, is lost at the provider."""
    interrupted_while_sent(mixed, provider)
    in_passes(ROWS, mixed.config, **LAST)
    for batch in provider.batches.values() if ends else ():
        provider._end(batch, "completed")
    provider.batches.clear()


def test_what_is_left_of_a_batch_that_is_gone_is_in_the_sum_though_no_row_waits(
    mixed: Mixed, provider: ProviderServer, in_passes: Callable[..., Any]
) -> None:
    gone_while_no_row_waits(mixed, provider, in_passes, ends=True)
    said: list[str] = []
    for _ in range(2):
        again, _, _ = mixed(ROWS, say=said.append, **LAST)
        assert (again["asked"], again["stopped"], total(again)) == (0, None, BY_CALLS + BY_BATCH)
    assert sum("is gone at the provider, and the answers to 0 of its 6 lines" in text for text in said) == 1


def test_a_budget_holds_nothing_for_a_batch_that_is_gone(
    mixed: Mixed, provider: ProviderServer, in_passes: Callable[..., Any]
) -> None:
    gone_while_no_row_waits(mixed, provider, in_passes, ends=False)
    said: list[str] = []
    again, _, _ = mixed(ROWS, say=said.append, **LAST)
    assert (again["asked"], total(again)) == (0, BY_CALLS)
    assert any("the answers to 6 of its 6 lines: what cannot be read is in no sum" in text for text in said)
    said.clear()
    more = [*ROWS, {"prompt": "another"}]
    summary, _, _ = in_passes(more, mixed.config, budget_usd=float(BY_CALLS) + 0.05, say=said.append, **LAST)
    assert (summary["answered"], summary["stopped"]) == (7, None)
    assert not any("may be due" in text for text in said)
