"""`batch run --passes`: what each row becomes, once, whatever breaks off in between."""

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serve_graph.cli.batch.command import app
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.running import batch_summary_lines
from serve_graph.errors import ConfigError, ServeGraphError
from serve_graph.records.store import DecisionStore
from tests.unit.serve_graph.cli.batch.passes.conftest import LONG, echo_config

Run = Callable[..., Any]


def shown(row: dict[str, Any]) -> tuple[str, str]:
    return row["serve_graph_tier"], row["serve_graph_outcome"]


def test_rows_are_routed_judged_and_escalated_in_passes(in_passes: Run, tmp_path: Path) -> None:
    rows = [{"n": n, "prompt": f"question {n}" + (LONG if n % 4 == 0 else "")} for n in range(40)]
    summary, found, asked = in_passes(rows, echo_config(tmp_path))
    assert [row["n"] for row in found] == list(range(40))
    assert all(row["answer"].startswith(f"echo {row['serve_graph_tier']}: question {row['n']}") for row in found)
    assert {shown(row) for row in found if row["n"] % 4} == {("cheap", "accepted")}
    assert {shown(row) for row in found if row["n"] % 4 == 0} == {("frontier", "routed")}
    assert {tier: len(keys) for tier, keys in asked.items()} == {"cheap": 30, "frontier": 10}
    assert sum(Decimal(row["serve_graph_cost_usd"]) for row in found) == Decimal(summary["total_usd"])
    assert summary["asked"] == summary["answered"] == 40
    assert {row["serve_graph_decision"] for row in found} == {None}  # no record was kept


def test_an_escalated_row_pays_both_answers_and_equal_rows_are_one(in_passes: Run, tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n % 5}"} for n in range(10)]
    summary, found, asked = in_passes(rows, echo_config(tmp_path, accept_at=2.0))
    assert {shown(row) for row in found} == {("frontier", "escalated")}
    assert {tier: len(keys) for tier, keys in asked.items()} == {"cheap": 5, "frontier": 5}
    tokens = {row["serve_graph_prompt_tokens"]: row["serve_graph_completion_tokens"] for row in found}
    (put, made) = next(iter(tokens.items()))
    both = Decimal(put * 11 + made * 22) / 10**6
    assert {Decimal(row["serve_graph_cost_usd"]) for row in found} == {both}
    assert Decimal(summary["total_usd"]) == 5 * both


def test_no_row_is_drawn_for_both_tiers(in_passes: Run, tmp_path: Path) -> None:
    policy = {"version": "builtin", "ensemble": {"share": 1.0, "judge": "frontier"}}
    rows = [{"prompt": f"question {n}"} for n in range(6)]
    _, found, asked = in_passes(rows, echo_config(tmp_path, policy=policy))
    assert {shown(row) for row in found} == {("cheap", "accepted")}
    assert {tier: len(keys) for tier, keys in asked.items()} == {"cheap": 6}


def test_rows_fail_by_themselves(in_passes: Run, tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}"} for n in range(12)]
    rows[3]["prompt"] += " [cheap:fail]"  # the cascade falls back
    rows[5]["prompt"] += " [echo:refuse]"
    rows[7] = {"messages": [{"role": "nobody", "content": "?"}]}
    config = echo_config(tmp_path)
    summary, found, _ = in_passes(rows, config)
    assert shown(found[3]) == ("frontier", "fallback")
    assert [n for n, row in enumerate(found) if row["serve_graph_status"] != "200"] == [5, 7]
    assert "asked to refuse" in found[5]["serve_graph_error"]
    assert (summary["answered"], summary["failed"], summary["left"]) == (10, 2, 0)
    again, _, _ = in_passes(rows, config, retry_failed=True)
    assert again["asked"] == 2
    assert again["failed"] == 2


@pytest.mark.parametrize("at", [("cheap", 0), ("cheap", 3), ("frontier", 0), ("frontier", 2)])
def test_broken_off_and_run_again_no_row_is_lost_or_asked_twice_but_what_was_under_way(
    in_passes: Run, tmp_path: Path, at: tuple[str, int]
) -> None:
    rows = [{"prompt": f"question {n}" + (LONG if n % 4 == 0 else "")} for n in range(60)]
    config = echo_config(tmp_path, accept_at=2.0)
    asked: Counter[str] = Counter()

    def breaks(tier: str, number: int) -> None:
        if (tier, number) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_passes(rows, config, breaks=lambda tier, number: (asked.update([tier]), breaks(tier, number)))
    summary, found, again = in_passes(rows, config)
    assert summary["answered"] == len(found) == 60
    assert all(row["answer"] for row in found)
    pieces = {tier: -(-len(keys) // 8) for tier, keys in again.items()}
    whole = {"cheap": 6, "frontier": 8}  # 45 and 60 rows by eights
    for tier, count in whole.items():
        assert asked[tier] + pieces.get(tier, 0) <= count + 1  # the piece that was under way, and no other


def test_what_another_version_began_begins_again(in_passes: Run, tmp_path: Path) -> None:
    def breaks(tier: str, number: int) -> None:
        if tier == "frontier":
            raise KeyboardInterrupt

    rows = [{"prompt": f"question {n}"} for n in range(8)]
    with pytest.raises(KeyboardInterrupt):
        in_passes(rows, echo_config(tmp_path / "one", accept_at=2.0), breaks=breaks)
    _, found, _ = in_passes(rows, echo_config(tmp_path / "two", accept_at=0.5))
    assert {shown(row) for row in found} == {("cheap", "accepted")}


def test_a_budget_begins_no_row_that_might_exceed_it_and_goes_on_later(in_passes: Run, tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n:02}" + (LONG if n % 4 == 0 else "")} for n in range(40)]
    config = echo_config(tmp_path)
    budget = 0.05  # three of ten answers of the last tier
    summary, _, _ = in_passes(rows, config, budget_usd=budget)
    assert "has no room for another row" in summary["stopped"]
    assert Decimal(summary["total_usd"]) <= Decimal(str(budget))
    assert (summary["answered"], summary["left"]) == (33, 7)
    more, _, _ = in_passes(rows, config, budget_usd=10.0)
    assert (more["answered"], more["asked"]) == (40, 40 - summary["answered"])
    assert more["stopped"] is None


def test_what_was_paid_for_rows_that_wait_is_in_the_total(in_passes: Run, tmp_path: Path) -> None:
    def breaks(tier: str, number: int) -> None:
        if tier == "frontier":
            raise KeyboardInterrupt

    rows, config = [{"prompt": f"question {n}"} for n in range(4)], echo_config(tmp_path, accept_at=2.0)
    with pytest.raises(KeyboardInterrupt):
        in_passes(rows, config, breaks=breaks)
    summary, _, _ = in_passes(rows, config, budget_usd=1e-9)
    assert (summary["answered"], summary["asked"]) == (0, 0)
    assert Decimal(summary["total_usd"]) > 0
    whole, found, _ = in_passes(rows, config)
    assert sum(Decimal(row["serve_graph_cost_usd"]) for row in found) == Decimal(whole["total_usd"])


def test_a_model_that_does_not_exist_fails_no_row(in_passes: Run, tmp_path: Path) -> None:
    with pytest.raises(ServeGraphError, match="the model 'nobody' does not exist; known: auto, cheap, frontier"):
        in_passes([{"prompt": "one"}], echo_config(tmp_path), model="nobody")


def test_a_spent_budget_asks_nothing(in_passes: Run, tmp_path: Path) -> None:
    summary, _, asked = in_passes([{"prompt": "one"}], echo_config(tmp_path), budget_usd=0.0)
    assert "has no room" in summary["stopped"]
    assert not asked
    assert summary["left"] == 1


async def read_decisions(url: str, ids: list[str]) -> list[Any]:
    store = DecisionStore(url)
    await store.open()
    try:
        return [await store.get(one) for one in ids]
    finally:
        await store.close()


async def test_records_are_written_as_of_requests(in_passes: Run, tmp_path: Path) -> None:
    import asyncio

    config = echo_config(tmp_path)
    rows = [{"prompt": f"question {n}"} for n in range(4)]
    _, found, _ = await asyncio.to_thread(lambda: in_passes(rows, config, records=True))
    records = await read_decisions(config.records_url, [row["serve_graph_decision"] for row in found])
    assert [(r.tier, r.outcome, r.cost_usd) for r in records] == [
        (*shown(row), Decimal(row["serve_graph_cost_usd"])) for row in found
    ]


def test_a_row_whose_worker_dies_fails_alone(in_passes: Run, tmp_path: Path) -> None:
    from serve_graph.cluster.batches.passes.passes import LocalPasses

    class Dying(LocalPasses):  # a worker that dies takes its piece with it
        def answer(self, tier: str, chunks: Any) -> Any:
            for progress in super().answer(tier, chunks):
                if all("poison" not in row.result.get("answer", "") for row in progress):
                    yield progress

        def route(self, chunks: Any) -> Any:
            for progress in super().route(chunks):
                if all("no route" not in row.body for row in progress):
                    yield progress

    rows = [{"prompt": f"question {n}"} for n in range(20)]
    rows[4]["prompt"], rows[9]["prompt"] = "poison", "no route"
    summary, found, _ = in_passes(rows, echo_config(tmp_path), make=Dying)
    assert [n for n, row in enumerate(found) if row["serve_graph_status"] != "200"] == [4, 9]
    assert "its worker died" in found[4]["serve_graph_error"]
    assert (summary["answered"], summary["failed"], summary["left"]) == (18, 2, 0)


def test_a_row_that_is_asked_again_is_routed_alone_where_a_worker_dies(in_passes: Run, tmp_path: Path) -> None:
    from serve_graph.cluster.batches.passes.passes import LocalPasses

    class Dying(LocalPasses):
        def route(self, chunks: Any) -> Any:
            return super().route(chunks) if chunks.alone else iter(())

    rows, config = [{"prompt": f"question {n}"} for n in range(6)], echo_config(tmp_path)
    rows[2]["prompt"] += " [echo:refuse]"
    in_passes(rows, config)
    again, found, _ = in_passes(rows, config, make=Dying, retry_failed=True)
    assert (again["asked"], again["failed"]) == (1, 1)
    assert "asked to refuse" in found[2]["serve_graph_error"]


@pytest.mark.parametrize("error", [ConnectionError("Failed to connect\nand more"), RuntimeError("Failed to connect")])
def test_a_cluster_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import ray

    from serve_graph.cluster.batches.passes.ray_passes import RayPasses

    def init(**_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    plan = OwnPasses(echo_config(tmp_path), {"model": "auto"}, tmp_path, 8).checked.plan
    with pytest.raises(
        ServeGraphError, match=r"the cluster at 127.0.0.1:9 \(\$RAY_ADDRESS\) cannot be used: Failed to c"
    ):
        RayPasses(plan, "127.0.0.1:9")


def test_what_a_killed_run_left_beside_its_result_is_removed_and_nobody_elses(in_passes: Run, tmp_path: Path) -> None:
    own, other = tmp_path / ".out.jsonl.journal.passes-abc", tmp_path / ".more.jsonl.journal.passes-abc"
    for folder in (own, other):
        (folder / "route").mkdir(parents=True)
    in_passes([{"prompt": "one"}], echo_config(tmp_path))
    assert [path.name for path in tmp_path.glob(".*.passes-*")] == [other.name]


def test_where_no_row_comes_back_nothing_is_noted_of_any(in_passes: Run, tmp_path: Path) -> None:
    """A folder that the workers do not see, an engine that never starts: no row's fault."""
    from serve_graph.cluster.batches.passes.passes import LocalPasses

    class Broken(LocalPasses):
        def answer(self, tier: str, chunks: Any) -> Any:
            return iter(())

    rows, config = [{"prompt": f"question {n}"} for n in range(3)], echo_config(tmp_path)
    with pytest.raises(ServeGraphError, match="not one of 3 rows came back from cheap"):
        in_passes(rows, config, make=Broken)
    summary, _, _ = in_passes(rows, config)
    assert (summary["answered"], summary["failed"]) == (3, 0)


def test_rows_that_wait_for_the_cost_of_lost_ones_begin_in_the_end() -> None:
    from serve_graph.cluster.batches.passes import ray_purse
    from serve_graph.cluster.batches.passes.purse import Purse

    held = ray_purse._HeldPurse(Purse(Decimal(1)))
    assert (held.granted(4), held.granted(4)) == (1, None), "one row, and its cost is waited for"
    held.patience_s = 0.0
    assert held.granted(4) == 1


def test_no_more_rows_begin_than_may_be_paid_twice_and_a_lull_lets_others_in() -> None:
    from serve_graph.cluster.batches.passes import ray_purse
    from serve_graph.cluster.batches.passes.purse import Purse

    held = ray_purse._HeldPurse(Purse(None, most=16))
    assert [held.granted(8) for _ in range(3)] == [8, 8, None]
    held.ended(8, Decimal(1), Decimal(1))
    assert [held.granted(8) for _ in range(2)] == [8, None]
    assert held.patience_s == ray_purse.LULL_S
    held.patience_s = 0.0  # sixteen died with their worker
    assert held.granted(8) == 8
    alone = Purse(None, most=4)
    assert (alone.granted(8), alone.granted(1)) == (8, None), (
        "a piece that is larger than all that may be begins alone"
    )
    bounded = Purse(Decimal(1), most=2)
    assert (bounded.granted(8), bounded.granted(8)) == (1, None)
    bounded.ended(1, Decimal("0.01"), Decimal("0.01"))
    assert (bounded.granted(2), bounded.granted(2)) == (2, None), "money would do for more"
    again = Purse(Decimal(1), Decimal(0), most=8)  # begun anew in the middle of a pass
    assert (again.granted(8), again.granted(8)) == (1, None)
    again.ended(8, Decimal("0.95"), Decimal("0.04"))
    assert again.granted(8) == 1, "what was spent before is known with the next rows"


def test_the_summary_says_what_is_promised_and_why_not(in_passes: Run, tmp_path: Path) -> None:
    summary, _, _ = in_passes([{"prompt": "one"}], echo_config(tmp_path))
    assert "nothing is promised of these rows: uncertified" in "\n".join(batch_summary_lines(summary))


def test_a_tier_that_passes_cannot_answer_as_it_is_served_is_refused(tmp_path: Path) -> None:
    config = echo_config(tmp_path)
    vllm = {"name": "big", "engine": "vllm", "weights": {"hub": "org/model"}, "price": {"input_usd_per_mtok": 1,
            "output_usd_per_mtok": 2}, "engine_kwargs": {"reasoning_parser": "qwen3"}}  # fmt: skip
    from serve_graph.config.tiers.kinds import VllmTierConfig

    tiers = (config.tiers[0], VllmTierConfig.model_validate(vllm))
    with pytest.raises(ConfigError, match="big is served with reasoning_parser"):
        OwnPasses(config.model_copy(update={"tiers": tiers}), {"model": "auto"}, tmp_path, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--passes"], "--passes needs --config"),
        (["--passes", "--background", "-c", "configs/echo.yaml"], "--background is for a running graph"),
        (["--max-num-seqs", "64"], "--max-num-seqs is for --passes"),
        (["--passes", "--max-num-seqs", "64", "-c", "configs/echo.yaml"], "is for tiers of vLLM"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, words: list[str], said: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "one"}\n')
    found = CliRunner().invoke(app, ["run", str(source), "--out", str(tmp_path / "out.jsonl"), *words])
    assert isinstance(found.exception, ServeGraphError)
    assert said in str(found.exception)
