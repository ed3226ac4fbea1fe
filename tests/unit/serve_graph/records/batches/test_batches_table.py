"""Batches in both kinds of store: one holder at a time, and nothing written by one who has lost it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from serve_graph.errors import StoreUnavailableError
from serve_graph.records.batches.batches_table import BatchesTable, BatchRow, LeaseLostError, LineResult
from serve_graph.records.batches.files_table import FileRow, FilesTable
from serve_graph.records.store import DecisionStore


@pytest.fixture
async def table(made_store_url: str) -> AsyncIterator[BatchesTable]:
    store = DecisionStore(made_store_url)
    yield BatchesTable(store)
    await store.close()


def batch(name: str = "batch_1", **fields: object) -> BatchRow:
    known = {"owner": "ann", "endpoint": "/v1/embeddings", "input_file": "file-1", "status": "validating"}
    return BatchRow(**{"id": name, "created_ms": 1, "expires_ms": 9, **known, **fields})  # type: ignore[arg-type]


async def test_of_several_that_take_a_batch_one_has_it(table: BatchesTable) -> None:
    assert await table.add(batch(metadata={"a": "☃"}), 1)
    assert not await table.add(batch("batch_2"), 1)
    [free] = await table.free(100)
    assert free == batch(metadata={"a": "☃"})
    taken = await asyncio.gather(*(table.take(free, f"worker {n}", 1000) for n in range(5)))
    assert len([row for row in taken if row is not None]) == 1
    assert await table.free(1000 - 1) == []
    assert len(await table.free(1000)) == 1


async def test_results_are_counted_with_their_rows_and_by_the_holder_alone(table: BatchesTable) -> None:
    await table.add(batch(), 9)
    held = await table.take(batch(), "a", 1000)
    assert held is not None
    noted = await table.note(held, [LineResult(3, True, "three", 5, 2), LineResult(1, False, "one")], 2000)
    assert (noted.completed, noted.failed, noted.input_tokens, noted.output_tokens) == (1, 1, 5, 2)
    assert noted.held_until_ms == 2000
    other = await table.take(noted, "b", 3000)
    assert other is not None
    for write in (
        table.note(held, [LineResult(2, True, "two")], 9000),
        table.change(held, ("validating",), status="failed"),
        table.end(held, [], status="completed"),
    ):
        with pytest.raises(LeaseLostError):
            await write
    await table.release(held)
    assert await table.get("batch_1", "ann") == other
    assert await table.get("batch_1", "bob") is None
    assert list(await table.answered("batch_1", 4)) == [0, 1, 0, 1, 0]
    assert await table.results("batch_1", True, 0) == [(3, "three")]
    assert await table.results("batch_1", True, 3) == []


async def test_a_batch_that_has_ended_has_files_and_no_lines_left(table: BatchesTable) -> None:
    await table.add(batch(), 9)
    held = await table.take(batch(), "a", 1000)
    assert held is not None
    held = await table.note(held, [LineResult(1, True, "x")], 1000)
    file = FileRow("file-2", "ann", "batch_output", "out.jsonl", 2, 5, 10**15)
    for _ in range(2):  # ending again writes the same
        ended = await table.end(held, [file], status="completed", output_file=file.id, moments={"completed_at": 7})
    assert (ended.status, ended.moments, ended.is_open) == ("completed", {"completed_at": 7}, False)
    assert await FilesTable(table.store).get("file-2", "ann", 0) == file
    assert list(await table.answered("batch_1", 1)) == [0, 0]
    assert await table.cancel("batch_1", 8) is None
    assert await table.forget_before(2) == 1


async def test_cancelling_is_seen_by_the_holder_and_wins_over_its_change(table: BatchesTable) -> None:
    await table.add(batch(), 9)
    held = await table.take(batch(), "a", 1000)
    assert held is not None
    cancelled = await table.cancel("batch_1", 8)
    assert cancelled is not None
    assert (cancelled.status, cancelled.moments) == ("cancelling", {"cancelling_at": 8})
    assert (await table.change(held, ("validating",), status="in_progress")).status == "cancelling"
    assert (await table.note(held, [], 1000)).status == "cancelling"
    assert await table.by_status() == {"cancelling": 1}


async def test_a_store_that_is_away_is_said_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    table = BatchesTable(DecisionStore("postgresql+asyncpg://nobody@127.0.0.1:1/none"))
    with pytest.raises(StoreUnavailableError):
        await table.note(batch(), [], 1)
    with pytest.raises(StoreUnavailableError):
        await table.free(1)


async def test_room_for_files_is_taken_one_after_another_and_they_are_there_once_shown(table: BatchesTable) -> None:
    files = FilesTable(table.store)
    rows = [FileRow(f"file-{n}", "ann", "batch", "a.jsonl", 10, 100, 900) for n in range(6)]
    refused = await asyncio.gather(*(files.reserve(row, 99, 30) for row in rows))
    assert sorted(refused, key=str) == [(3, 30)] * 3 + [None] * 3
    taken = [row for row, held in zip(rows, refused, strict=True) if held is None]
    assert await files.get(taken[0].id, "ann", 100) is None
    await files.show(taken[0])
    assert await files.get(taken[0].id, "ann", 100) == taken[0]
    assert set(await files.expired(100)) == {row.id for row in taken[1:]}
    await files.delete(taken[1].id)
    with pytest.raises(StoreUnavailableError, match="send it again"):
        await files.show(taken[1])


async def test_results_that_may_have_been_written_are_written_once(table: BatchesTable) -> None:
    await table.add(batch(), 9)
    held = await table.take(batch(), "a", 1000)
    assert held is not None
    await table.note(held, [LineResult(1, True, "one", 5, 2)], 1000)
    noted = await table.note(held, [LineResult(1, True, "one", 5, 2), LineResult(2, False, "two")], 1000, again=True)
    assert (noted.completed, noted.failed, noted.input_tokens) == (1, 1, 5)
    assert (await table.note(held, [LineResult(2, False, "two")], 1000, again=True)).failed == 1
