"""A write whose task is cancelled in its middle leaves the store to others: SQLite has one writer at a time."""

import asyncio
import time
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from serve_graph.records.batches.batches_table import BatchesTable, LineResult
from serve_graph.records.store import DecisionStore
from tests.unit.serve_graph.records.batches.test_batches_table import batch


async def test_a_cancelled_write_does_not_keep_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled at every one of its calls of the driver, of which one has changed rows and is reading others."""
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    table = BatchesTable(store)
    await table.add(batch(), 9)
    held = await table.take(batch(), "a", 1000)
    assert held is not None
    execute, calls, cancelled_at = aiosqlite.Connection._execute, 0, 0
    writing: asyncio.Task[Any] | None = None

    async def counted(self: aiosqlite.Connection, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == cancelled_at and writing is not None:
            writing.cancel()  # what is asked of the driver is done all the same
        return await execute(self, *args, **kwargs)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    await table.note(held, [LineResult(1, True, "x")], 1000)
    most, longest = calls, 0.0
    for cancelled_at in range(1, most + 1):
        calls = 0
        writing = asyncio.create_task(table.note(held, [LineResult(100 + cancelled_at, True, "x")], 1000))
        await asyncio.gather(writing, return_exceptions=True)
        writing, begun = None, time.monotonic()
        await table.note(held, [LineResult(200 + cancelled_at, True, "x")], 1000)
        longest = max(longest, time.monotonic() - begun)
    assert most > 10
    assert longest < 4.0  # who meets the lock waits for five seconds, and fails
    await store.close()
