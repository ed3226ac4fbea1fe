"""One rollout goes on for each model, nobody overwrites what they have not read, and every change is in the audit."""

import asyncio
from dataclasses import replace

import pytest

from serve_graph.policy.rollout.states import Rollout
from serve_graph.policy.rollout.table import RolloutTable
from serve_graph.policy.rollout.transitions import Happened, RolloutEvent, next_state
from serve_graph.records.audit import AuditEntry
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.store import DecisionStore

AT = "2026-11-29T09:00:00.000+00:00"


def canary(model: str = "router", candidate: str = "router/2") -> Rollout:
    return Rollout.begin(model, "router/1", candidate, at=AT, by="os:ann@here", steps=(5.0, 50.0), reason="a try")


def entry(action: str) -> AuditEntry:
    return AuditEntry("os:ann@here", action, "router/2")


async def actions(store: DecisionStore) -> list[str]:
    return sorted(found.action for found in await AuditLog(store).entries())


async def test_a_rollout_is_read_as_it_was_written(store: DecisionStore) -> None:
    table, first = RolloutTable(store), canary()
    assert await table.active("router") is None
    assert await table.begin(first, entry("versions.canary"))
    assert await table.note_evidence(first, {"pairs": 7})
    assert await table.active("router") == await table.get(first.id) == replace(first, evidence={"pairs": 7})


async def test_of_two_rollouts_of_a_model_one_goes_on_and_a_refused_one_leaves_no_audit_entry(
    store: DecisionStore,
) -> None:
    table, first = RolloutTable(store), canary()
    assert await table.begin(first, entry("versions.canary"))
    assert not await table.begin(canary(candidate="router/3"), entry("versions.shadow"))
    assert await table.begin(canary("other"), entry("versions.canary"))
    assert await actions(store) == ["versions.canary", "versions.canary"]
    ended = next_state(first, RolloutEvent(Happened.ABORT, AT))
    assert await table.change(first, ended, entry("versions.abort"))
    second = canary(candidate="router/3")
    assert await table.begin(second, entry("versions.canary"))
    assert [found.id for found in await table.latest("router")] == [second.id, first.id]


async def test_who_has_not_read_the_last_change_changes_nothing_and_leaves_no_audit_entry(
    store: DecisionStore,
) -> None:
    table, read = RolloutTable(store), canary()
    await table.begin(read, entry("versions.canary"))
    paused, passed = (next_state(read, RolloutEvent(what, AT)) for what in (Happened.PAUSE, Happened.STEP_PASSED))
    assert await table.change(read, paused, entry("versions.pause"))
    assert not await table.change(read, passed, entry("versions.step"))
    assert not await table.note_evidence(read, {"pairs": 7})
    assert await table.active("router") == paused
    assert await actions(store) == ["versions.canary", "versions.pause"]


async def test_a_change_whose_audit_entry_is_not_taken_is_not_made(store: DecisionStore) -> None:
    table, read = RolloutTable(store), canary()
    await table.begin(read, entry("versions.canary"))
    broken = replace(entry("versions.pause"), actor=None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="cannot be written"):
        await table.change(read, next_state(read, RolloutEvent(Happened.PAUSE, AT)), broken)
    assert await table.active("router") == read


async def test_of_many_who_change_or_begin_one_at_the_same_moment_one_does(
    store: DecisionStore, made_store_url: str
) -> None:
    """Two controllers after a network fault, and persons: each with a connection of its own."""
    others = [DecisionStore(made_store_url) for _ in range(3)]
    tables = [RolloutTable(one) for one in (store, *others)]
    try:
        assert await tables[0].active("router") is None  # the schema is there
        begun = [canary(candidate=f"router/{n + 2}") for n in range(4)]
        begins = [table.begin(one, entry("versions.canary")) for table, one in zip(tables, begun, strict=True)]
        assert sorted(await asyncio.gather(*begins)) == [False, False, False, True]
        read = await tables[0].active("router")
        assert read is not None
        passed = next_state(read, RolloutEvent(Happened.STEP_PASSED, AT))
        changes = [table.change(read, passed, entry("versions.step")) for table in tables]
        assert sorted(await asyncio.gather(*changes)) == [False, False, False, True]
        assert [await table.active("router") for table in tables] == [passed] * 4
        assert await actions(store) == ["versions.canary", "versions.step"]
    finally:
        await asyncio.gather(*(one.close() for one in others))
