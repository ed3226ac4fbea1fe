"""`batch run --passes --provider-batches`: hosted tiers by their provider's batches, others by the passes' engines."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from serve_graph.cli.batch.command import own_passes
from serve_graph.cli.batch.running import BatchOptions, batch_summary_lines
from serve_graph.cluster.batches.passes.pass_rows import ReplyPieces, RowProgress
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.errors import ServeGraphError
from serve_graph.records.store import DecisionStore
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.passes.conftest import Mixed, echo_config, questions
from tests.unit.serve_graph.cli.batch.passes.mixed_run import HALF, PRICES, costs, mixed_tiers, run_mixed, shown
from tests.unit.serve_graph.cli.batch.providers.anthropic_server import AnthropicServer
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply


def test_own_rows_are_answered_here_and_hosted_ones_are_one_batch_at_its_price(
    mixed: Mixed, provider: ProviderServer, tmp_path: Path
) -> None:
    summary, found, asked = mixed(questions(20), records=True)
    assert {shown(row) for row in found if row["n"] % 4} == {("cheap", "accepted")}
    last = [row for row in found if row["n"] % 4 == 0]
    assert {(*shown(row), row["serve_graph_cost_usd"]) for row in last} == {
        ("frontier", "routed", f"{HALF['frontier']:.9f}")
    }
    assert all(row["answer"].startswith(f"m-frontier: question {row['n']}") for row in last)
    assert (provider.sizes, provider.chats, set(provider.paid.values())) == ([5], 0, {1})
    assert Counter({tier: len(keys) for tier, keys in asked.items()}) == {"cheap": 15}
    assert costs(found) == Decimal(summary["total_usd"]) == Decimal(summary["spent_usd"])
    assert summary["provider_batches"] == {"frontier": {"batches": 1, "price_factor": "0.5", "passes": 1}}
    assert "frontier: 1 batch of its provider, at 0.5 of its prices" in list(batch_summary_lines(summary))
    assert "frontier answered by batches of their provider" in summary["certificate"]
    assert not provider.files, "what was sent and answered is deleted there"
    assert mixed.config is not None
    record = asyncio.run(_stored(mixed.config.records_url, last[0]["serve_graph_decision"]))
    assert (record.tier, record.cost_usd) == ("frontier", HALF["frontier"])
    again, _, _ = mixed(questions(20))
    assert (again["asked"], provider.sizes) == (0, [5])


async def _stored(url: str, decision: str) -> Any:
    store = DecisionStore(url)
    try:
        return await store.get(decision)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("hosted", "sizes"), [(("frontier",), [12]), (("cheap",), [9]), (("cheap", "frontier"), [9, 12])]
)
def test_what_is_escalated_is_the_next_pass_whichever_tier_is_hosted(
    mixed: Mixed, provider: ProviderServer, hosted: tuple[str, ...], sizes: list[int]
) -> None:
    summary, found, _ = mixed(questions(12), hosted, accept_at=2.0)
    assert Counter(map(shown, found)) == {("frontier", "escalated"): 9, ("frontier", "routed"): 3}
    said = "m-frontier" if "frontier" in hosted else "echo frontier"
    assert all(row["answer"].startswith(f"{said}: question {row['n']}") for row in found)
    assert (provider.sizes, set(provider.paid.values())) == (sizes, {1})
    assert costs(found) == Decimal(summary["total_usd"])
    own = [tier for tier in PRICES if tier not in hosted]
    if not own:
        assert costs(found) == 9 * HALF["cheap"] + 12 * HALF["frontier"]


def test_a_budget_holds_the_most_that_a_line_may_cost_and_goes_on_later(
    mixed: Mixed, provider: ProviderServer
) -> None:
    rows = [{"prompt": f"question {n:02}"} for n in range(30)]
    budget = 0.1  # a line may cost more than twice the 0.007 that it does; the cheap answers before it cost little
    summary, _, asked = mixed(rows, accept_at=2.0, budget_usd=budget)
    assert len(asked["cheap"]) == 30
    assert "has no room for another row" in summary["stopped"]
    assert summary["stopped"].endswith(f"{summary['left']} rows wait at frontier")
    assert Decimal(summary["total_usd"]) <= Decimal(str(budget))
    assert 0 < summary["answered"] < 30
    assert summary["failed"] == 0
    before = Decimal(summary["total_usd"])
    more, found, asked = mixed(rows, budget_usd=10.0)
    assert (more["answered"], more["stopped"], asked) == (30, None, {})
    assert set(provider.paid.values()) == {1}
    assert costs(found) == Decimal(more["total_usd"]) == before + Decimal(more["spent_usd"])


def test_nothing_is_sent_where_not_one_line_fits(mixed: Mixed, provider: ProviderServer) -> None:
    summary, _, _ = mixed(questions(8, every=1), budget_usd=0.001)
    assert (provider.sizes, summary["answered"], summary["left"]) == ([], 0, 8)
    assert "the budget of $0.001 has no room for another row ($0.000000 spent)" in summary["stopped"]


@pytest.mark.parametrize("how", ["expired", "cancelled"])
def test_of_a_batch_that_ends_early_the_answers_are_kept_and_the_rest_is_asked_again(
    mixed: Mixed, provider: ProviderServer, how: str
) -> None:
    provider.ends, provider.answered = [how, how, "completed"], 3
    summary, found, _ = mixed(questions(10, every=1))
    assert (provider.sizes, set(provider.paid.values())) == ([10, 7, 4], {1})
    assert {shown(row) for row in found} == {("frontier", "routed")}
    assert costs(found) == 10 * HALF["frontier"] == Decimal(summary["total_usd"])


@pytest.mark.parametrize("how", ["expired", "cancelled"])
def test_what_no_batch_answers_in_three_fails_at_the_last_tier_and_falls_back_at_another(
    mixed: Mixed, provider: ProviderServer, how: str
) -> None:
    provider.ends, provider.answered = [how] * 6, 0
    summary, found, _ = mixed(questions(6, every=3), ("cheap", "frontier"))
    assert provider.sizes == [4, 4, 4, 6, 6, 6]
    assert (summary["answered"], summary["failed"], summary["left"]) == (0, 6, 0)
    assert all(f"{how[:6]}" in row["serve_graph_error"] or "late" in row["serve_graph_error"] for row in found)
    provider.ends = []
    again, found, _ = mixed(questions(6, every=3), ("cheap", "frontier"), retry_failed=True)
    assert (again["asked"], again["failed"]) == (6, 0)
    assert {shown(row) for row in found} == {("cheap", "accepted"), ("frontier", "routed")}


def test_a_hosted_cheap_tier_that_fails_rows_falls_back_on_the_own_last_one(
    mixed: Mixed, provider: ProviderServer
) -> None:
    provider.statuses = {"question 3": 500, "question 5": 400}
    _, found, asked = mixed(questions(8, every=8), ("cheap",))
    assert Counter(map(shown, found)) == {
        ("cheap", "accepted"): 5, ("frontier", "routed"): 1, ("frontier", "fallback"): 2,
    }  # fmt: skip
    assert [n for n, row in enumerate(found) if row["serve_graph_outcome"] == "fallback"] == [3, 5]
    assert provider.sizes == [7, 1, 1], "what may pass is sent three times, what is refused once"
    assert len(asked["frontier"]) == 3


def test_a_line_that_is_refused_fails_its_row_alone_and_is_retried_alone(
    mixed: Mixed, provider: ProviderServer
) -> None:
    provider.statuses = {"question 3": 400}
    rows = [{"prompt": f"question {n}"} for n in range(8)]
    summary, found, _ = mixed(rows, accept_at=2.0)
    assert [n for n, row in enumerate(found) if row["serve_graph_status"] != "200"] == [3]
    assert (summary["answered"], summary["failed"], summary["left"]) == (7, 1, 0)
    provider.statuses = {}
    again, found, _ = mixed(rows, retry_failed=True)
    assert (again["asked"], again["failed"], provider.sizes) == (1, 0, [8, 1])
    assert found[3]["answer"] == "m-frontier: question 3"


def test_a_batch_that_the_provider_takes_nothing_of_ends_the_run_and_fails_no_row(
    mixed: Mixed, provider: ProviderServer
) -> None:
    provider.ends = ["failed"]
    rows = [{"prompt": f"question {n}"} for n in range(8)]
    summary, _, asked = mixed(rows, accept_at=2.0)
    assert "Enqueued token limit reached" in summary["stopped"]
    assert (summary["failed"], summary["left"], len(asked["cheap"])) == (0, 8, 8)
    again, _, asked = mixed(rows)
    assert (again["answered"], asked) == (8, {}), "what the cheap tier said is not asked again"


def test_what_came_back_and_was_not_noted_is_not_paid_again(mixed: Mixed, provider: ProviderServer) -> None:
    class Interrupted(LocalPasses):
        def judge(self, tier: str, replies: Any) -> Any:
            yield from list(super().judge(tier, replies))[:1]
            raise KeyboardInterrupt

    rows = [{"prompt": f"question {n}"} for n in range(20)]
    with pytest.raises(KeyboardInterrupt):
        mixed(rows, ("cheap",), accept_at=2.0, make=Interrupted)
    summary, found, asked = mixed(rows)
    assert (provider.sizes, set(provider.paid.values())) == ([20], {1})
    assert summary["answered"] == len(asked["frontier"]) == 20
    assert costs(found) == Decimal(summary["total_usd"])
    own = costs(found) - 20 * HALF["cheap"]
    assert Decimal(summary["spent_usd"]) == own, "this run paid for the last tier's answers alone"


def test_a_hosted_tier_without_batches_is_asked_call_by_call_beside_one_that_has_them(
    mixed: Mixed, provider: ProviderServer
) -> None:
    hosted = ("cheap", "frontier")
    summary, found, asked = mixed(questions(8), hosted, accept_at=2.0, interactive=("cheap",))
    assert (provider.chats, provider.sizes) == (6, [8])
    assert len(asked["cheap"]) == 6
    assert list(summary["provider_batches"]) == ["frontier"]
    assert costs(found) == 6 * 2 * HALF["cheap"] + 8 * HALF["frontier"], "the one at its price, the other at half"
    with pytest.raises(ServeGraphError, match="--interactive nobody: that is no hosted tier; there are cheap, front"):
        mixed(questions(8), hosted, interactive=("nobody",))
    with pytest.raises(ServeGraphError, match="no tier has batches of its provider"):
        mixed(questions(8), hosted, interactive=hosted)


def test_a_sample_foretells_the_batchs_price_and_up_to_a_day_for_each(mixed: Mixed, provider: ProviderServer) -> None:
    summary, _, _ = mixed(questions(40, every=1), dry_run=10)
    assert (summary["answered"], summary["left"], provider.sizes) == (10, 30, [10])
    assert summary["forecast_left"]["usd"] == pytest.approx(30 * float(HALF["frontier"]))
    time = summary["time_left"]
    assert time["high"] == pytest.approx(time["low"] + 24 * 3600)
    assert "a day for each that waits for a provider's batch" in time["basis"]


def test_each_tier_alone_is_asked_in_its_own_way_to_compare(provider: ProviderServer, tmp_path: Path) -> None:
    config = echo_config(tmp_path, tiers=mixed_tiers(provider.url, ("frontier",)))
    (tmp_path / "graph.yaml").write_text(config.model_dump_json(exclude_unset=True))
    (tmp_path / "in.jsonl").write_text("".join(f'{{"prompt": "question {n}"}}\n' for n in range(12)))
    summary = run_mixed(tmp_path, dry_run=4, compare=True, config=tmp_path / "graph.yaml")
    assert provider.sizes == [4], "the last tier's, alone: the sample needed none of it"
    cheap, last = summary["alone"]["cheap"], summary["alone"]["frontier"]
    assert last["usd"] == pytest.approx(12 * float(HALF["frontier"]))
    assert last["time"]["high"] - last["time"]["low"] == pytest.approx(24 * 3600)
    assert cheap["time"]["high"] == cheap["time"]["low"]
    usual = summary["always"]["frontier"]["usd"] / summary["always"]["cheap"]["usd"]
    assert usual == pytest.approx(PRICES["frontier"] / 2 / PRICES["cheap"]), "of the same tokens, at half of the price"


def test_rows_under_way_are_bounded_and_all_are_answered(mixed: Mixed, provider: ProviderServer) -> None:
    _, found, _ = mixed(questions(40, every=1), concurrency=16)
    assert {shown(row) for row in found} == {("frontier", "routed")}
    assert (max(provider.sizes), sum(provider.sizes)) == (16, 40)


def test_an_anthropic_tiers_rows_are_its_message_batches(
    in_passes: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    server = AnthropicServer(kinds={"question 1": ["expired", "succeeded"], "question 2": ["canceled"]})
    with listening(server.app) as url:
        cheap, frontier = mixed_tiers(url, ("frontier",), api="anthropic")
        config = echo_config(tmp_path, 2.0, tiers=[cheap, frontier])
        rows = [{"prompt": f"question {n}"} for n in range(6)]
        summary, found, _ = in_passes(rows, config, provider_batches=True, concurrency=100)
    assert (server.sizes, summary["answered"], summary["failed"]) == ([6, 2, 1], 5, 1)
    assert [row["answer"] for row in found if row["answer"]] == [f"m-frontier: question {n}" for n in (0, 1, 3, 4, 5)]
    assert "the batch was cancelled" in found[2]["serve_graph_error"]
    assert costs(found) == Decimal(summary["total_usd"])


def test_the_command_makes_both_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "none")
    config = echo_config(tmp_path, tiers=mixed_tiers("http://127.0.0.1:9", ("cheap", "frontier")))
    (tmp_path / "graph.yaml").write_text(config.model_dump_json(exclude_unset=True))
    options = BatchOptions(
        "", tmp_path / "out.jsonl", config=tmp_path / "graph.yaml", provider_batches=True, poll_s=0.5,
        interactive=("cheap",), concurrency=70,
    )  # fmt: skip
    found = own_passes(options, 8, None)
    assert found.batches is not None
    assert (list(found.batches.tiers), found.batches.poll_s, found.batches.most_lines) == (["frontier"], 0.5, 70)
    assert found.pace == "mixed"


def test_a_line_that_was_billed_without_an_answer_is_on_its_rows_bill(mixed: Mixed, provider: ProviderServer) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        reply = echo_reply(body)
        return reply | {"choices": []} if body["messages"][-1]["content"] == "question 3" else reply

    provider.answer = answer
    rows = [{"prompt": f"question {n}"} for n in range(4)]
    summary, found, _ = mixed(rows, ("cheap", "frontier"), accept_at=2.0)
    assert [shown(row) for row in found[:3]] == [("frontier", "escalated")] * 3
    paid = 4 * HALF["cheap"] + 4 * HALF["frontier"]
    assert Decimal(summary["total_usd"]) == costs(found) == paid


def test_a_row_that_breaks_the_code_has_cost_what_its_line_did(mixed: Mixed, provider: ProviderServer) -> None:
    class Breaking(LocalPasses):
        def judge(self, tier: str, replies: ReplyPieces) -> Iterator[list[RowProgress]]:
            for number in range(replies.count):
                keys = replies.columns(number)["key"]
                yield [RowProgress(key, "0", result={"status": 500, "error": "broken"}) for key in keys]

    rows = [{"prompt": f"question {n}"} for n in range(3)]
    summary, found, _ = mixed(rows, ("cheap",), make=Breaking)
    assert summary["failed"] == len(provider.paid) == 3
    assert Decimal(summary["total_usd"]) == costs(found) == 3 * HALF["cheap"]
    again, _, _ = mixed(rows, retry_failed=True)
    assert (again["answered"], Decimal(again["total_usd"])) == (3, 6 * HALF["cheap"])
