"""The audit log: what is written stays as it was written, wherever the store is when it happens."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from router_models.types import DecisionRecord
from serve_graph.access.budgets import Spending
from serve_graph.access.keys import Keyring
from serve_graph.config.graph import GraphConfig
from serve_graph.records import audit
from serve_graph.records.audit import AuditEntry, deliver_left, leave, left_in
from serve_graph.records.audit_log import AuditFilter, AuditLog
from serve_graph.records.maintenance import Maintenance
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore

TIER = {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}
ENTRIES = [
    AuditEntry(
        "os:ann@host", "keys.create", "team-a", "new team", {"scopes": ["use"]}, "aud-1", "2026-01-01T00:00:00"
    ),
    AuditEntry("os:bob@host", "keys.revoke", "team-a", None, {}, "aud-2", "2026-01-02T00:00:00"),
    AuditEntry("key:ops", "decisions.read", "dec-1", None, {"key": "team-b"}, "aud-3", "2026-01-03T00:00:00"),
]


@pytest.fixture
async def log(made_store_url: str) -> AsyncIterator[AuditLog]:
    store = DecisionStore(made_store_url)
    yield AuditLog(store)
    await store.close()


def a_graph(folder: Path, **records: Any) -> GraphConfig:
    return GraphConfig.model_validate({"tiers": [TIER], "state_folder": folder, "records": records})


async def test_entries_are_read_as_they_were_written_the_newest_first(log: AuditLog) -> None:
    await log.write(ENTRIES)
    await log.write(ENTRIES[:1])  # delivered twice
    assert await log.entries() == ENTRIES[::-1]
    assert await log.entries(AuditFilter(limit=1)) == ENTRIES[2:]
    assert await log.entries(AuditFilter(action="keys")) == ENTRIES[1::-1]
    assert await log.entries(AuditFilter(action="keys.revoke")) == [ENTRIES[1]]
    assert await log.entries(AuditFilter(action="key")) == []
    assert await log.entries(AuditFilter(actor="os:ann@host", target="team-a")) == ENTRIES[:1]
    assert await log.entries(AuditFilter(since="2026-01-02")) == ENTRIES[:0:-1]


async def test_no_entry_can_be_changed(log: AuditLog) -> None:
    await log.write(ENTRIES)
    with pytest.raises(DBAPIError, match="audit entries are not changed"):
        async with log.store.writing() as connection:
            await connection.execute(text("UPDATE audit SET actor = 'os:eve@host'"))
    assert await log.entries() == ENTRIES[::-1]


def test_a_commands_entry_is_in_the_store_when_it_returns(tmp_path: Path) -> None:
    graph = a_graph(tmp_path)
    made = audit.record(graph, audit.operator(), "versions.approve", "router/3", "read the report", {"epsilon": 0.1})
    assert made.actor.startswith("os:")
    assert asyncio.run(read(graph)) == [made]
    assert not left_in(graph).exists()


async def read(graph: GraphConfig) -> list[AuditEntry]:
    store = DecisionStore(graph.records_url)
    try:
        return await AuditLog(store).entries()
    finally:
        await store.close()


@pytest.mark.usefixtures("sqlite_threads_end")
def test_an_entry_waits_for_a_store_that_is_away_and_is_delivered_once(tmp_path: Path) -> None:
    away = a_graph(tmp_path / "state", url=f"sqlite:///{tmp_path / 'no such folder' / 'd.db'}")
    first = audit.record(away, "os:ann@host", "keys.create", "a")
    [path] = left_in(away).iterdir()
    assert path.stat().st_mode & 0o077 == path.parent.stat().st_mode & 0o077 == 0
    (left_in(away) / "torn.json").write_text("{")
    back = a_graph(tmp_path / "state")
    second = audit.record(back, "os:ann@host", "keys.revoke", "a")
    found = asyncio.run(read(back))
    assert {entry.id for entry in found} == {first.id, second.id}
    assert first in found
    assert [path.name for path in left_in(back).iterdir()] == ["torn.rejected"]


async def test_the_running_graph_delivers_what_commands_left_and_deletes_what_is_old(
    tmp_path: Path, store_url: str, a_record: Callable[..., DecisionRecord]
) -> None:
    graph = a_graph(tmp_path / "state", keep_days=30, audit_keep_days=300)
    store = DecisionStore(store_url)
    sink = SpooledSink(store, tmp_path / "spool")
    worker = Maintenance(store, sink, Keyring(), Spending(), graph)
    ago = {days: (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds") for days in (40, 400)}
    await store.write_many([a_record("dec-old", created_at=ago[40])])
    for days, moment in ago.items():
        leave(left_in(graph), AuditEntry("os:ann@host", "keys.create", str(days), created_at=moment))
    await worker.deliver_audit()
    assert await deliver_left(left_in(graph), worker.audit) == 0
    await worker.delete_old()
    deleted, kept = await worker.audit.entries()
    assert (kept.target, deleted.actor, deleted.action, deleted.detail["deleted"]) == (
        "40",
        "graph",
        "records.delete",
        1,
    )
    sink.close()
    await store.close()


def test_an_entry_is_one_line_of_json_whatever_it_says(tmp_path: Path) -> None:
    leave(tmp_path, AuditEntry("os:ann@host", "keys.create", "a\nb", "because\x00"))
    [path] = tmp_path.glob("*.json")
    assert len(path.read_text().splitlines()) == 1
    assert json.loads(path.read_text())["target"] == "a\nb"
