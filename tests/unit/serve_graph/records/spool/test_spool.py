import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.records.spool.delivery import KNOWN
from serve_graph.records.spool.spooled_sink import MOVES_APART_S, SpooledSink
from serve_graph.records.store import DecisionStore

Records = Callable[..., DecisionRecord]


async def test_record_is_on_disk_before_anything_else(store: DecisionStore, spool: Path, a_record: Records) -> None:
    sink = SpooledSink(store, spool)
    sink.write(a_record())
    [file] = spool.glob("*.jsonl")
    assert json.loads(file.read_text())["id"] == "dec-1"
    assert sink.pending == 1
    sink.close()


async def test_records_reach_the_store(
    store: DecisionStore,
    spool: Path,
    a_record: Records,
    running: Callable[..., Any],
    until: Callable[..., Any],
    left_in: Callable[[Path], list[str]],
) -> None:
    sink = SpooledSink(store, spool)
    async with running(sink):
        for i in range(20):
            sink.write(a_record(f"dec-{i}"))
            await asyncio.sleep(0.005)
        await until(lambda: sink.pending == 0)
        assert await store.count() == 20
    assert left_in(spool) == []


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_store_that_is_down_delays_records_and_loses_none(
    tmp_path: Path, spool: Path, a_record: Records, running: Callable[..., Any], until: Callable[..., Any]
) -> None:
    later = tmp_path / "not-there-yet"
    store = DecisionStore(f"sqlite+aiosqlite:///{later / 'x.db'}")
    sink = SpooledSink(store, spool, retry_s=0.05)
    async with running(sink):
        for i in range(30):
            sink.write(a_record(f"dec-{i}"))
            await asyncio.sleep(0.01)
        assert sink.pending == 30
        later.mkdir()
        await until(lambda: sink.pending == 0)
        assert await store.count() == 30
    await store.close()


@pytest.mark.postgres
async def test_postgres_killed_and_restarted_loses_nothing(
    postgres: Any, spool: Path, a_record: Records, running: Callable[..., Any], until: Callable[..., Any]
) -> None:
    store = DecisionStore(postgres.emptied())
    sink = SpooledSink(store, spool, retry_s=0.05)
    written = 0

    async def write(n: int) -> None:
        nonlocal written
        for _ in range(n):
            sink.write(a_record(f"dec-{written}"))
            written += 1
            await asyncio.sleep(0.002)

    async with running(sink):
        await write(50)
        await until(lambda: sink.pending == 0)
        stopping = asyncio.create_task(asyncio.to_thread(postgres.stop, "immediate"))
        await write(100)
        await stopping
        await write(50)
        assert sink.pending > 0
        starting = asyncio.create_task(asyncio.to_thread(postgres.start))
        await write(50)
        await starting
        await until(lambda: sink.pending == 0)
        assert await store.count() == written == 250
    await store.close()


async def test_records_written_while_the_store_fails_are_kept_in_order(
    spool: Path, a_record: Records, counting_store: type[Any]
) -> None:
    store = counting_store()
    sink = SpooledSink(store, spool)
    store.down = True
    for i in range(3):
        store.open_gate.clear()
        sink.write(a_record(f"dec-{i}a"))
        task = asyncio.ensure_future(sink.drain())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sink.write(a_record(f"dec-{i}b"))
        store.open_gate.set()
        with pytest.raises(OSError, match="down"):
            await task
    store.down = False
    assert await sink.drain() == 6
    assert store.batches == [["dec-0a", "dec-0b", "dec-1a", "dec-1b", "dec-2a", "dec-2b"]]
    assert sink.pending == 0
    sink.close()


async def test_records_of_steady_traffic_are_moved_together(
    spool: Path, a_record: Records, counting_store: type[Any]
) -> None:
    store = counting_store()
    sink = SpooledSink(store, spool, idle_s=0.001)
    task = asyncio.ensure_future(sink.run())
    began = time.monotonic()
    written = 0
    while time.monotonic() - began < 5 * MOVES_APART_S:
        sink.write(a_record(f"dec-{written}"))
        written += 1
        await asyncio.sleep(0.01)
    async with asyncio.timeout(60):
        while sink.pending:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    sink.close()
    assert sum(map(len, store.batches)) == written
    assert len(store.batches) <= 8, "five a second, and what the ends take"


async def test_stopping_in_the_middle_of_a_write_loses_nothing(
    spool: Path, a_record: Records, counting_store: type[Any]
) -> None:
    store = counting_store()
    sink = SpooledSink(store, spool)
    store.open_gate.clear()
    sink.write(a_record("dec-1"))
    task = asyncio.ensure_future(sink.run())
    await asyncio.wait_for(store.asked.wait(), 60)
    sink.write(a_record("dec-2"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    sink.close()
    store.open_gate.set()
    heir = SpooledSink(store, spool)
    assert await heir.drain() == 2
    assert store.batches == [["dec-1", "dec-2"]]
    heir.close()


async def test_long_outages_spool_is_delivered_in_batches(
    spool: Path, a_record: Records, counting_store: type[Any]
) -> None:
    store = counting_store()
    sink = SpooledSink(store, spool)
    for i in range(1_200):
        sink.write(a_record(f"dec-{i}"))
    assert await sink.drain() == 1_200
    assert [len(batch) for batch in store.batches] == [500, 500, 200]
    sink.close()


async def test_closing_keeps_what_the_store_does_not_hold(
    spool: Path, a_record: Records, counting_store: type[Any], left_in: Callable[[Path], list[str]]
) -> None:
    sink = SpooledSink(counting_store(), spool)
    sink.write(a_record())
    sink.close()
    assert len(left_in(spool)) == 1


async def test_how_long_the_store_has_lacked_a_record(
    spool: Path, a_record: Records, counting_store: Callable[..., Any]
) -> None:
    now, store = 100.0, counting_store()
    sink = SpooledSink(store, spool, clock=lambda: now)
    assert sink.waiting_s == 0
    sink.write(a_record("dec-1"))
    now += 60
    sink.write(a_record("dec-2"))
    store.down = True
    with pytest.raises(OSError, match="down"):
        await sink.drain()
    now += 3_600
    assert sink.waiting_s == 3_660, "since the first, however few there are"
    store.down = False
    await sink.drain()
    assert sink.waiting_s == 0
    sink.close()


async def test_what_a_killed_process_left_is_waited_for_too(
    tmp_path: Path, spool: Path, a_record: Records, running: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """A graph without requests, whose predecessor died while the store was away."""
    now, later = 100.0, tmp_path / "not-there-yet"
    store = DecisionStore(f"sqlite+aiosqlite:///{later / 'x.db'}")
    killed = SpooledSink(store, spool)
    killed.write(a_record("dec-1"))
    killed._file.close()
    sink = SpooledSink(store, spool, retry_s=0.02, clock=lambda: now)
    async with running(sink):
        await until(lambda: sink._waits_since is not None)
        now += 1_000
        assert (sink.pending, sink.waiting_s) == (0, 1_000)
        later.mkdir()
        await until(lambda: sink.waiting_s == 0)
        assert await store.count() == 1
    await store.close()


async def test_what_this_process_wrote_is_not_read_again_to_be_stored(
    store: DecisionStore, spool: Path, a_record: Records
) -> None:
    class Noting(DecisionStore):
        async def write_many(self, records: Sequence[DecisionRecord]) -> None:
            taken.extend(records)
            await store.write_many(records)

    taken: list[DecisionRecord] = []
    written = [a_record(f"dec-{i}") for i in range(KNOWN + 3)]
    sink = SpooledSink(Noting("sqlite+aiosqlite://"), spool)
    for record in written:
        sink.write(record)
    assert await sink.drain() == len(written)
    assert [one is record for one, record in zip(taken, written, strict=True)] == [True] * KNOWN + [False] * 3
    assert taken == written, "those beyond what is kept are read from their lines, and are the same"
    assert await store.count() == len(written)
    sink.close()


async def test_records_that_could_not_be_stored_are_read_from_their_lines(
    store: DecisionStore, spool: Path, a_record: Records
) -> None:
    class Away(DecisionStore):
        is_away = True

        async def write_many(self, records: Sequence[DecisionRecord]) -> None:
            if self.is_away:
                raise OSError("away")
            await store.write_many(records)

    away = Away("sqlite+aiosqlite://")
    sink = SpooledSink(away, spool)
    sink.write(a_record("dec-1"))
    with pytest.raises(OSError, match="away"):
        await sink.drain()
    sink.write(a_record("dec-2"))
    away.is_away = False
    assert await sink.drain() == 2
    assert await store.count() == 2
    sink.close()
