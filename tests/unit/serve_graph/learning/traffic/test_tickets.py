"""Changes in traffic open a ticket, once however many replicas look, and nothing that is served changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client.core import CollectorRegistry
from sqlalchemy import select

from router_models.types import DecisionRecord
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.config.learning import TicketsConfig
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.learning.traffic.tickets import TicketWatch
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.schema import WATCH_STATES
from serve_graph.records.store import DecisionStore

VERSION, SIZE = "router/1", 200
Records = Callable[..., DecisionRecord]
Change = Callable[[dict[str, Any], float], dict[str, Any]]


@pytest.fixture
async def store(made_store_url: str) -> Any:
    made = DecisionStore(made_store_url)
    yield made
    await made.close()


def watch(store: DecisionStore, told: list[tuple[str, list[str]]] | None = None, **config: Any) -> TicketWatch:
    async def announce(event: str, tickets: Sequence[Alarm]) -> None:
        (told if told is not None else []).append((event, [ticket.scope for ticket in tickets]))

    return TicketWatch(store, TicketsConfig(window=SIZE, **config), lambda: VERSION, announce)


async def served(
    store: DecisionStore, a_record: Records, hour: int, change: Change = lambda d, _: d, n: int = SIZE, **fields: Any
) -> None:
    """Serve n requests within an hour, one in ten of those tried escalated."""
    rng, made = np.random.default_rng(hour), []
    for i in range(n):
        outcome = "routed" if rng.random() < 0.4 else "escalated" if rng.random() < 0.1 else "accepted"
        usual = {
            "id": f"dec-{hour}-{i}",
            "created_at": f"2026-03-01T{hour:02}:{i // 60:02}:{i % 60:02}.000+00:00",
            "outcome": outcome,
            "tier": "cheap" if outcome == "accepted" else "frontier",
            "p_cheap_ok": float(rng.random()),
            "p_answer_ok": float(rng.random()),
            "distance": float(rng.random()),
            "evidence": {"signals": {"finish_reason": "stop"}},
            "version": VERSION,
            "prompt_sha256": f"{hour}-{i}",
        } | fields
        values = change(usual, float(rng.random()))
        made.append(replace(a_record(values.pop("id")), **values))
    await store.write_many(made)


def escalates(values: dict[str, Any], u: float) -> dict[str, Any]:
    return values | ({"outcome": "escalated", "tier": "frontier"} if u < 0.5 else {})


async def test_traffic_that_stays_as_it_was_opens_nothing(store: DecisionStore, a_record: Records) -> None:
    looking = watch(store)
    for hour in range(3):
        await served(store, a_record, hour)
        await looking.look()
        assert looking.open == []
    assert {change.figure for change in looking.changes} >= {"router_score", "escalation", "tiers", "refusals"}


async def test_a_change_opens_a_ticket_once_on_every_replica_and_is_audited(
    store: DecisionStore, a_record: Records
) -> None:
    told: list[tuple[str, list[str]]] = []
    replicas = [watch(store, told), watch(store, told)]
    await served(store, a_record, 0)
    await served(store, a_record, 1, escalates)
    for replica in (*replicas, *replicas):
        await replica.look()
    await asyncio.sleep(0)
    figures = {"escalation", "escalation_ceiling", "tiers"}
    for replica in replicas:
        assert {fact["figure"] for fact in replica.facts()} == figures
    assert [(event, set(scopes)) for event, scopes in told] == [("ticket.opened", figures)]
    (reason,) = [fact["reason"] for fact in replicas[0].facts() if fact["figure"] == "escalation"]
    assert reason.startswith("the share of tried cheap answers that were rejected changed: 0.")
    assert "\n" not in reason
    entries = await AuditLog(store).entries()
    assert sorted(entry.detail["figure"] for entry in entries) == sorted(figures)
    assert {(entry.actor, entry.action, entry.target) for entry in entries} == {("graph", "tickets.open", VERSION)}


async def test_a_ticket_is_no_alarm_and_lifting_one_does_not_touch_the_other(
    store: DecisionStore, a_record: Records
) -> None:
    looking = watch(store)
    await served(store, a_record, 0)
    await served(store, a_record, 1, escalates)
    await looking.look()
    alarms, tickets = AlarmTable(store), AlarmTable(store, tickets=True)
    await alarms.raise_all([Alarm(VERSION, "drift", "overall", "2026-03-02", "drift", True)])
    assert [alarm.kind for alarm in await alarms.all(VERSION)] == ["drift"]
    assert not any(ticket.acts for ticket in await tickets.all(VERSION))
    assert await alarms.lift(VERSION, "ann", "x", "2026-03-03") == 1
    assert all(ticket.lifted_at is None for ticket in await tickets.all(VERSION))


async def test_after_a_ticket_is_closed_traffic_is_compared_with_that_of_then(
    store: DecisionStore, a_record: Records
) -> None:
    looking = watch(store, escalation_at_most=None)
    await served(store, a_record, 0)
    await served(store, a_record, 1, escalates)
    await looking.look()
    assert looking.open
    await AlarmTable(store, tickets=True).lift(VERSION, "ann", "a new client", "2026-03-01T02:00:00.000+00:00")
    for hour in (3, 4):
        await served(store, a_record, hour, escalates)
        await looking.look()
        assert looking.open == []
    await served(store, a_record, 5)
    await looking.look()
    assert "escalation" in {ticket.scope for ticket in looking.open}


async def test_too_many_escalations_show_in_the_first_window_already(store: DecisionStore, a_record: Records) -> None:
    looking = watch(store)
    await served(store, a_record, 0, escalates)
    await looking.look()
    assert [ticket.scope for ticket in looking.open] == ["escalation_ceiling"]
    assert "more than 0.3" in looking.open[0].reason


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "forced"},
        {"outcome": "fallback"},
        {"version": "router/2"},
        {"status": 500},
        {"evidence": {"share": 0.3, "signals": {"finish_reason": "stop"}}},
    ],
    ids=["forced", "fallback", "another version", "failed", "by a share"],
)
async def test_what_the_version_did_not_decide_or_answer_does_not_count(
    store: DecisionStore, a_record: Records, fields: dict[str, Any]
) -> None:
    looking = watch(store)
    await served(store, a_record, 0)
    await served(store, a_record, 1, lambda values, _: values | {"distance": 9.0, **fields})
    await looking.look()
    assert looking.changes[0].figure == "escalation_ceiling", "the second window is not complete"
    assert looking.open == []


async def test_a_conversation_counts_once(store: DecisionStore, a_record: Records) -> None:
    looking = watch(store)
    await served(store, a_record, 0)
    await served(store, a_record, 1, lambda values, _: values | {"distance": 9.0}, session="one")
    await looking.look()
    assert looking.open == []


@pytest.mark.parametrize("figure", ["refusals", "hedging", "uncovered"])
async def test_what_answers_say_and_what_is_not_covered_are_compared(
    store: DecisionStore, a_record: Records, figure: str
) -> None:
    says = {"refusals": {"refuses": True}, "hedging": {"hedges": True}, "uncovered": {}}[figure]
    evidence = {"signals": {"finish_reason": "stop", **says}} | ({"uncovered": "x"} if figure == "uncovered" else {})
    looking = watch(store)
    await served(store, a_record, 0)
    await served(store, a_record, 1, lambda values, u: values | ({"evidence": evidence} if u < 0.5 else {}))
    await looking.look()
    assert [ticket.scope for ticket in looking.open] == [figure]


async def test_open_tickets_and_figures_are_metrics(store: DecisionStore, a_record: Records) -> None:
    looking, registry = watch(store), CollectorRegistry()
    registry.register(looking)
    await served(store, a_record, 0)
    await served(store, a_record, 1, lambda values, _: values | {"distance": 9.0})
    await looking.look()
    assert registry.get_sample_value("serve_graph_tickets_open", {"figure": "distance"}) == 1
    assert registry.get_sample_value("serve_graph_traffic_figure", {"figure": "distance", "window": "newest"}) == 9.0


async def test_a_replica_that_starts_after_decisions_were_deleted_compares_with_the_same_first_window(
    store: DecisionStore, a_record: Records
) -> None:
    looking = watch(store)
    for hour in range(3):
        await served(store, a_record, hour)
        await looking.look()
    assert await store.delete_before("2026-03-01T02:00:50") > 2 * SIZE  # and windows are no more whole ones from there
    await served(store, a_record, 3, escalates)
    restarted = watch(store)
    await restarted.look()
    await looking.look()
    assert restarted.changes == looking.changes != ()
    assert "escalation" in {ticket.scope for ticket in restarted.open}
    (kept,) = [row async for row in kept_windows(store)]
    assert not any(secret in kept for secret in ("dec-0-", '"0-'))  # neither a decision nor a prompt


async def kept_windows(store: DecisionStore) -> AsyncIterator[str]:
    async with store.reading() as connection:
        for row in (await connection.execute(select(WATCH_STATES))).mappings():
            if row["name"].endswith("first"):
                yield row["state"]


async def test_without_a_window_traffic_is_not_compared_and_tickets_that_others_open_are_shown(
    store: DecisionStore, a_record: Records
) -> None:
    await served(store, a_record, 0)
    await served(store, a_record, 1, escalates)
    off = TicketWatch(store, TicketsConfig(window=None), lambda: VERSION)
    await off.look()
    assert off.open == []
    opened = Alarm(VERSION, "ticket", "golden_answers:frontier", "2026-03-02", "another model", False)
    await off.table.raise_all([opened])
    await off.look()
    assert [fact["figure"] for fact in off.facts()] == ["golden_answers:frontier"]


async def test_every_window_between_two_looks_is_compared(store: DecisionStore, a_record: Records) -> None:
    looking = watch(store)
    await served(store, a_record, 0)
    await looking.look()
    await served(store, a_record, 1, lambda values, _: values | {"distance": 9.0})
    await served(store, a_record, 2)
    await served(store, a_record, 3, n=SIZE // 2)
    await looking.look()
    assert [ticket.scope for ticket in looking.open] == ["distance"], "the second of three is the one that changed"
    assert not any(change.is_reported for change in looking.changes), "the third is as the first"
    await served(store, a_record, 4, lambda values, _: values | {"tier": "middle"}, n=SIZE // 2)
    await looking.look()
    assert "tiers" in {ticket.scope for ticket in looking.open}, "a window takes up where the last one ended"


async def test_records_say_that_an_answers_opening_refuses_and_hold_no_word_of_it(
    endpoint: Callable[..., Any],
) -> None:
    for says, expected in (("I'm sorry, I cannot help with that.", {"refuses": True}), ("It is Paris.", {})):
        for stream in (False, True):
            at = endpoint(cheap=FakeEngine(says))
            await at.chat(stream=stream)
            signals = at.record.evidence["signals"]
            assert {name: signals[name] for name in ("refuses", "hedges") if name in signals} == expected
            assert "sorry" not in str(at.record)
