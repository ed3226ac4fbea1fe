"""Comparisons in the store: one row a rollout and request, in order of arrival, and none lost."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.monitoring.canary import CanaryEvidence, CanaryLimits
from router_models.types import DecisionRecord
from serve_graph.policy.rollout.audited import begun_entry, change_entry
from serve_graph.policy.rollout.states import Rollout
from serve_graph.policy.rollout.table import RolloutTable
from serve_graph.policy.rollout.transitions import Happened, RolloutEvent, next_state
from serve_graph.records.comparisons import (
    Comparison,
    ComparisonsTable,
    comparison_from_json,
    comparison_line,
    comparison_shown,
    comparison_to_json,
)
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore

Records = Callable[..., DecisionRecord]


def compared(decision: str = "dec-1", rollout: str = "rol-1", **fields: Any) -> Comparison:
    given: dict[str, Any] = {
        "at": "2026-03-01T00:00:00.000+00:00",
        "arm": "stable",
        "weight": 0.05,
        "unit": "ab",
        "probability": 0.2,
        "alike": False,
        "same_answer": False,
        "stable_tier": "cheap",
        "candidate_tier": "frontier",
        "stable_action": "accepted",
        "candidate_action": "routed",
        "stable_usd": Decimal("0.00000002"),
        "candidate_usd": Decimal("0.0000003"),
    }
    return Comparison(rollout, decision, **given | fields)


async def test_the_first_comparison_of_a_rollout_and_request_stands_in_order_of_arrival(store: DecisionStore) -> None:
    table = ComparisonsTable(store)
    await table.write([compared("dec-2", at="2026-03-02"), compared("dec-1", at="2026-03-01", slices=("en", "de"))])
    await table.write([compared("dec-2", alike=True), compared("dec-3"), compared("dec-2", "rol-2", alike=True)])
    found = await table.in_rollout("rol-1")
    assert [(one.decision, one.alike, one.slices) for one in found] == [
        ("dec-2", False, ()),
        ("dec-1", False, ("en", "de")),
        ("dec-3", False, ()),
    ]
    assert {name: len(ones) for name, ones in (await table.of(["dec-2", "dec-9"])).items()} == {"dec-2": 2}


async def test_pairs_come_as_their_requests_came_and_the_same_answer_differs_in_cost_alone(
    store: DecisionStore,
) -> None:
    table = ComparisonsTable(store)
    graded = {"stable_right": 1.0, "candidate_right": 0.0, "stable_harm": False, "candidate_harm": True}
    came = [{"came_at": f"2026-03-01T00:00:0{n}"} for n in range(3)]
    await table.write(
        [compared("dec-1", detail=came[2]), compared("dec-2", detail={**came[1], "last_usd": "0.02"}, **graded)]
    )
    await table.write([compared("dec-3", detail=came[0], same_answer=True)])
    same, worse, unknown = await table.pairs("rol-1")
    assert (same.stable_right, same.stable_harm) == (same.candidate_right, same.candidate_harm)
    assert same.stable_right is not None
    assert not same.alike, "their costs count"
    assert (worse.stable_right, worse.candidate_right, worse.candidate_harm) == (1.0, 0.0, True)
    assert (worse.last_usd, unknown.last_usd) == (0.02, None)
    assert (unknown.stable_right, unknown.candidate_harm, unknown.candidate_usd) == (None, None, 3e-7)


async def test_pairs_that_end_sooner_because_they_agree_promote_nobody(store: DecisionStore) -> None:
    """A candidate at the margin; what differs is compared 450 requests later than what does not. In order of their
    ends nearly every such candidate is promoted, in order of arrival 1 in 20 at most.
    """
    rng, limits = np.random.default_rng(7), CanaryLimits(harm_margin=None)
    table, began = ComparisonsTable(store), datetime.fromisoformat("2026-03-01T00:00:00.000+00:00")
    by_end = in_order = 0
    for run in range(8):
        name, gain = f"rol-{run}", rng.choice([0.0, -1.0, 1.0], size=700, p=[0.9, 0.06, 0.04])
        came = [(began + timedelta(seconds=n)).isoformat(timespec="milliseconds") for n in range(700)]
        ends = np.arange(700) + np.where(gain == 0, 0, 450)
        found: list[Any] = []
        for until in range(150, 1201, 150):
            now = np.flatnonzero((until - 150 <= ends) & (ends < until))
            rows = [one_of(f"{run}-{n}", name, gain[n], came[n]) for n in sorted(now, key=lambda n: ends[n])]
            await table.write(rows)
            edge = (began + timedelta(seconds=until - 450)).isoformat(timespec="milliseconds")
            before, found = found, await table.pairs(name, edge)
            assert found[: len(before)] == before, "what counts keeps its place"
        assert [pair.came_at for pair in found] == came
        in_order += CanaryEvidence.of(found, [], limits).verdict == "promote"
        ended = [one.paired() for one in await table.in_rollout(name)]
        by_end += CanaryEvidence.of(ended, [], limits).verdict == "promote"
    assert by_end >= 7
    assert in_order <= 1


def one_of(decision: str, rollout: str, gain: float, came_at: str) -> Comparison:
    """A comparison of two versions of which one is right more often by `gain`; they cost the same."""
    right = {"stable_right": float(gain < 0), "candidate_right": float(gain > 0)}
    usd = {"stable_usd": Decimal("0.001"), "candidate_usd": Decimal("0.001")}
    alike = gain == 0
    return compared(
        decision,
        rollout,
        alike=alike,
        same_answer=alike,
        detail={"came_at": came_at},
        **usd,
        **({} if alike else right),
    )


async def test_of_a_session_or_a_prompt_the_first_comparison_counts(store: DecisionStore) -> None:
    table = ComparisonsTable(store)
    grouped = {"dec-1": "a", "dec-2": "a", "dec-3": "b"}
    await table.write([compared(name, detail={"group": group}) for name, group in grouped.items()])
    await table.write([compared("dec-4"), compared("dec-5")])
    evidence = CanaryEvidence.of(await table.pairs("rol-1"), [], CanaryLimits())
    assert (evidence.pairs, evidence.repeats) == (4, 1)


async def test_pairs_that_are_read_again_are_those_before_and_those_that_came_since(store: DecisionStore) -> None:
    table, writer = ComparisonsTable(store), ComparisonsTable(store)
    assert await table.pairs("rol-1") == []
    for name, rollout in (("dec-1", "rol-1"), ("dec-2", "rol-2"), ("dec-3", "rol-1"), ("dec-1", "rol-1")):
        await writer.write([compared(name, rollout, slices=(name,))])
        fresh = [one.paired() for one in await writer.in_rollout("rol-1")]
        assert await table.pairs("rol-1") == await table.pairs("rol-1") == fresh
    assert [pair.slices for pair in fresh] == [("dec-1",), ("dec-3",)]
    assert [pair.slices for pair in await table.pairs("rol-2")] == [("dec-2",)]
    assert await table.pairs("rol-1") == fresh


async def test_retention_leaves_the_evidence_of_a_rollout_that_goes_on(
    store: DecisionStore, a_record: Records
) -> None:
    table, rollouts, at = ComparisonsTable(store), RolloutTable(store), "2026-02-01T00:00:00.000+00:00"
    under_way = Rollout.begin("router", "router/1", "router/2", at=at, by="graph", steps=(5.0,))
    assert await rollouts.begin(under_way, begun_entry(under_way))
    names = (under_way.id, "rol-ended")
    await table.write([compared("dec-1", name, at=at) for name in names])
    await table.write([compared("dec-orphan", name, at=at) for name in names])
    await store.write_many([a_record("dec-1", created_at=at)])
    assert await store.delete_before("2026-03-01T00:00:00.000+00:00") == 1
    assert [len(await table.in_rollout(name)) for name in names] == [2, 0]
    event = RolloutEvent(Happened.ABORT, at)
    ended = next_state(under_way, event)
    assert await rollouts.change(under_way, ended, change_entry(under_way, ended, event))
    await store.delete_before("2026-03-01T00:00:00.000+00:00")
    assert await table.in_rollout(under_way.id) == [], "they go once it has ended"


GRADES = st.none() | st.sampled_from([0.0, 1.0])


@given(
    st.text(max_size=8),
    GRADES,
    st.none() | st.booleans(),
    st.lists(st.text(max_size=3), max_size=2).map(tuple),
    st.decimals("0", "100", places=9),
)
def test_a_comparison_is_read_from_the_spool_as_it_was_written(
    decision: str, right: float | None, harm: bool | None, slices: tuple[str, ...], usd: Decimal
) -> None:
    made = compared(decision, stable_right=right, candidate_harm=harm, slices=slices, stable_usd=usd, detail={"a": 1})
    assert comparison_from_json(comparison_to_json(made)) == made


async def test_comparisons_survive_the_process_and_a_store_that_is_away(
    tmp_path: Path, spool: Path, a_record: Records, running: Callable[..., Any], until: Callable[..., Any]
) -> None:
    later = tmp_path / "not-there-yet"
    store = DecisionStore(f"sqlite+aiosqlite:///{later / 'x.db'}")
    killed = SpooledSink(store, spool, retry_s=0.05)
    killed.write(compared("dec-0", grader="judge:\0m"))
    killed._file.close()  # its process is gone: the lock is
    sink = SpooledSink(store, spool, retry_s=0.05)
    async with running(sink):
        sink.write(compared("dec-1"))
        sink.write(a_record("dec-1"))
        assert sink.pending == 2
        later.mkdir()
        await until(lambda: sink.pending == 0)
        found = await ComparisonsTable(store).in_rollout("rol-1")
        assert {one.decision: one.grader for one in found} == {"dec-0": "judge:\ufffdm", "dec-1": None}
        assert await store.count() == 1
    await store.close()


async def test_comparisons_are_deleted_with_their_decisions_and_orphans_by_their_age(
    store: DecisionStore, a_record: Records
) -> None:
    table = ComparisonsTable(store)
    await store.write_many(
        [a_record("dec-old", created_at="2026-01-01"), a_record("dec-new", created_at="2026-03-01")]
    )
    rows = [
        ("dec-old", "2026-03-01"),
        ("dec-new", "2026-01-01"),
        ("lost-old", "2026-01-01"),
        ("lost-new", "2026-03-01"),
    ]
    await table.write([compared(decision, at=at) for decision, at in rows])
    assert await store.delete_before("2026-02-01") == 1
    assert [one.decision for one in await table.in_rollout("rol-1")] == ["dec-new", "lost-new"]


def test_a_comparison_is_a_sentence() -> None:
    ends = {
        "the same answer by the same path": {"same_answer": True, "alike": True},
        "the same answer by another path": {"same_answer": True},
        "not graded (tool calls)": {"ungraded_reason": "tool calls"},
        "a tie (judge:m)": {"grader": "judge:m", "detail": {"verdict": "tie"}},
        "right: neither (judge:m)": {"stable_right": 0.0, "candidate_right": 0.0, "grader": "judge:m"},
        "right: stable and candidate (judge:m)": {"stable_right": 1.0, "candidate_right": 1.0, "grader": "judge:m"},
    }
    begins = "Compared in rol-1: stable: accepted cheap, candidate: routed frontier; "
    for end, fields in ends.items():
        assert comparison_line(compared(at="now", **fields)) == f"{begins}{end}, now."


def test_what_is_shown_of_a_comparison_is_plain_money_without_the_decisions_id() -> None:
    shown = comparison_shown(compared(detail={"verdict": "tie"}))
    assert (shown["stable_usd"], shown["verdict"]) == ("0.00000002", "tie")
    assert "decision" not in shown


@pytest.mark.postgres
async def test_postgres_numbers_comparisons_and_keeps_the_first(postgres: Any) -> None:
    store = DecisionStore(postgres.emptied())
    table = ComparisonsTable(store)
    await table.write([compared("dec-2"), compared("dec-1")])
    await table.write([compared("dec-1", alike=True)])
    assert [(one.decision, one.alike) for one in await table.in_rollout("rol-1")] == [
        ("dec-2", False),
        ("dec-1", False),
    ]
    await store.close()
