import asyncio
import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.records.spool import SpooledSink
from serve_graph.records.store import DecisionStore, record_to_json

Records = Callable[..., DecisionRecord]

# What a serving process does, in one of its own: argv are store URL, spool folder, first id, how many, how it ends.
PROCESS = """
import asyncio, json, os, signal, sys
from pathlib import Path
from serve_graph.records.spool import SpooledSink
from serve_graph.records.store import DecisionStore, record_from_json

url, folder, first, n, end = sys.argv[1:]
template = json.loads(sys.stdin.read())

async def main():
    store = DecisionStore(url)
    sink = SpooledSink(store, Path(folder))
    for i in range(int(first), int(first) + int(n)):
        sink.write(record_from_json(template | {"id": f"dec-{i}"}))
        if end == "drain" and i % 7 == 0:
            await sink.drain()
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while sink.pending:
        await sink.drain()
    await store.close()
    sink.close()

asyncio.run(main())
"""


def start_process(
    url: str, folder: Path, first: int, n: int, end: str, record: DecisionRecord
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, url, str(folder), str(first), str(n), end]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps(record_to_json(record)))
    process.stdin.close()
    process.stdin = None
    return process


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(store_url)
    yield made
    await made.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@contextlib.asynccontextmanager
async def running(sink: SpooledSink) -> AsyncIterator[None]:
    task = asyncio.ensure_future(sink.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        sink.close()


async def until(ready: Callable[[], Any], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.02)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_record_is_on_disk_before_anything_else(store: DecisionStore, spool: Path, a_record: Records) -> None:
    sink = SpooledSink(store, spool)
    sink.write(a_record())
    [file] = spool.glob("*.jsonl")
    assert json.loads(file.read_text())["id"] == "dec-1"
    assert sink.pending == 1
    sink.close()


async def test_records_reach_the_store(store: DecisionStore, spool: Path, a_record: Records) -> None:
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
    tmp_path: Path, spool: Path, a_record: Records
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
async def test_postgres_killed_and_restarted_loses_nothing(postgres: Any, spool: Path, a_record: Records) -> None:
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


async def test_killed_process_leaves_its_records_to_the_next(store_url: str, spool: Path, a_record: Records) -> None:
    process = start_process(store_url, spool, 0, 25, "kill", a_record())
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    store = DecisionStore(store_url)
    sink = SpooledSink(store, spool)
    assert await sink.drain() == 25
    assert await store.count() == 25
    sink.close()
    assert left_in(spool) == []
    await store.close()


async def test_records_of_a_living_process_are_left_to_it(
    store: DecisionStore, spool: Path, a_record: Records
) -> None:
    living, other = SpooledSink(store, spool), SpooledSink(store, spool)
    living.write(a_record())
    assert await other.drain() == 0
    assert await store.count() == 0
    assert await living.drain() == 1
    living.close()
    other.close()


async def test_several_processes_share_one_spool_without_loss(store_url: str, spool: Path, a_record: Records) -> None:
    processes = [
        start_process(store_url, spool, 1000 * i, 150, end, a_record())
        for i, end in enumerate(["drain", "drain", "kill", "drain"])
    ]
    for process, code in zip(processes, [0, 0, -signal.SIGKILL, 0], strict=True):
        _, errors = await asyncio.to_thread(process.communicate, timeout=120)
        assert process.returncode == code, errors
    store = DecisionStore(store_url)
    sink = SpooledSink(store, spool)
    await sink.drain()
    assert await store.count() == 600
    sink.close()
    assert left_in(spool) == []
    await store.close()


async def test_half_written_line_is_set_aside_and_the_rest_arrives(
    store: DecisionStore, spool: Path, a_record: Records
) -> None:
    spool.mkdir()
    line = json.dumps(record_to_json(a_record()))
    (spool / "1-dead.jsonl").write_text(f"{line}\n{line.replace('dec-1', 'dec-2')}\n{line[: len(line) // 2]}")
    sink = SpooledSink(store, spool)
    assert await sink.drain() == 2
    assert await store.count() == 2
    sink.close()
    assert left_in(spool) == ["1-dead.jsonl.rejected"]


async def test_record_of_another_release_is_set_aside_not_lost(
    store: DecisionStore, spool: Path, a_record: Records
) -> None:
    spool.mkdir()
    data = record_to_json(a_record()) | {"a_field_of_the_future": 1}
    (spool / "1-old.jsonl").write_text(json.dumps(data) + "\n")
    sink = SpooledSink(store, spool)
    assert await sink.drain() == 0
    sink.close()
    assert json.loads((spool / "1-old.jsonl.rejected").read_text()) == data


async def test_record_the_store_refuses_does_not_hold_up_the_others(
    store: DecisionStore, spool: Path, a_record: Records
) -> None:
    sink = SpooledSink(store, spool)
    for i in range(10):
        sink.write(a_record(f"dec-{i}", prompt_chars=2**70 if i == 4 else 5))
    await sink.drain()
    assert await store.count() == 9
    assert await store.get("dec-4") is None
    assert sink.pending == 0
    sink.close()
    [rejected] = spool.iterdir()
    assert json.loads(rejected.read_text())["id"] == "dec-4"


class CountingStore(DecisionStore):
    """A store in memory that can be held up, or down."""

    def __init__(self) -> None:
        super().__init__("sqlite+aiosqlite://")
        self.batches: list[list[str]] = []
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.down = False

    async def write_many(self, records: Sequence[DecisionRecord]) -> None:
        await self.open_gate.wait()
        if self.down:
            raise OSError("down")
        self.batches.append([record.id for record in records])


async def test_records_written_while_the_store_fails_are_kept_in_order(spool: Path, a_record: Records) -> None:
    store = CountingStore()
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


async def test_stopping_in_the_middle_of_a_write_loses_nothing(spool: Path, a_record: Records) -> None:
    store = CountingStore()
    sink = SpooledSink(store, spool)
    store.open_gate.clear()
    sink.write(a_record("dec-1"))
    task = asyncio.ensure_future(sink.run())
    await asyncio.sleep(0.1)
    sink.write(a_record("dec-2"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    sink.close()
    store.open_gate.set()
    heir = SpooledSink(store, spool)
    assert await heir.drain() == 2
    assert store.batches == [["dec-1", "dec-2"]]
    heir.close()


async def test_long_outages_spool_is_delivered_in_batches(spool: Path, a_record: Records) -> None:
    store = CountingStore()
    sink = SpooledSink(store, spool)
    for i in range(1_200):
        sink.write(a_record(f"dec-{i}"))
    assert await sink.drain() == 1_200
    assert [len(batch) for batch in store.batches] == [500, 500, 200]
    sink.close()


async def test_closing_keeps_what_the_store_does_not_hold(spool: Path, a_record: Records) -> None:
    sink = SpooledSink(CountingStore(), spool)
    sink.write(a_record())
    sink.close()
    assert len(left_in(spool)) == 1


async def test_spool_file_taken_before_it_was_locked_is_made_anew(
    spool: Path, a_record: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may adopt a file between its making and its locking; writing on into it would lose records."""
    import fcntl

    real, taken = fcntl.flock, []

    def flock(handle: Any, flags: int) -> None:
        real(handle, flags)
        if not taken:
            taken.append(handle.name)
            Path(handle.name).unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    store = CountingStore()
    sink = SpooledSink(store, spool)
    sink.write(a_record())
    assert await sink.drain() == 1
    assert store.batches == [["dec-1"]]
    sink.close()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """full_disk(True): half of a line fits, then nothing; full_disk(False): there is room again."""
    import os

    real, state = os.write, {"full": False}

    def write(fd: int, data: bytes) -> int:
        if not state["full"]:
            return real(fd, data)
        if len(data) > 20:
            return real(fd, data[: len(data) - 20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    return lambda full: state.update(full=full)


async def test_full_disk_keeps_records_in_memory_and_says_so_once(
    spool: Path, a_record: Records, full_disk: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    store = CountingStore()
    store.down = True
    sink = SpooledSink(store, spool, hold=3)
    sink.write(a_record("dec-0"))
    full_disk(True)
    for i in range(1, 6):
        sink.write(a_record(f"dec-{i}"))
    assert (sink.pending, sink.held, sink.lost) == (4, 3, 2)
    assert [r.levelname for r in caplog.records].count("ERROR") == 1
    with pytest.raises(OSError, match="down"):
        await sink.drain()
    assert sink.held == 3
    full_disk(False)
    with pytest.raises(OSError, match="down"):
        await sink.drain()
    assert (sink.pending, sink.held) == (4, 0), "back on disk while the store is still down"
    [file] = spool.glob("*.jsonl")
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["dec-0", "dec-1", "dec-2", "dec-3"]
    store.down = False
    assert await sink.drain() == 4
    assert sink.pending == 0
    sink.close()


async def test_store_takes_records_from_memory_while_the_disk_is_full(
    spool: Path, a_record: Records, full_disk: Callable[[bool], None]
) -> None:
    store = CountingStore()
    sink = SpooledSink(store, spool)
    sink.write(a_record("dec-0"))
    full_disk(True)
    sink.write(a_record("dec-1"))
    assert await sink.drain() == 2
    assert (sink.pending, sink.held) == (0, 0)
    assert sorted(itertools.chain(*store.batches)) == ["dec-0", "dec-1"]
    sink.close()


async def test_store_and_disk_failing_in_the_middle_of_a_move_lose_nothing(
    spool: Path, a_record: Records, full_disk: Callable[[bool], None]
) -> None:
    store = CountingStore()
    sink = SpooledSink(store, spool)
    store.down = True
    store.open_gate.clear()
    sink.write(a_record("dec-1"))
    task = asyncio.ensure_future(sink.drain())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sink.write(a_record("dec-2"))
    full_disk(True)
    store.open_gate.set()
    with pytest.raises(OSError, match="down"):
        await task
    full_disk(False)
    store.down = False
    assert await sink.drain() == 2
    assert sorted(itertools.chain(*store.batches)) == ["dec-1", "dec-2"]
    assert sink.pending == 0
    sink.close()
    assert left_in(spool) == []


@pytest.mark.parametrize("down", [False, True])
async def test_spool_folder_removed_while_running_is_made_anew(spool: Path, a_record: Records, down: bool) -> None:
    store = CountingStore()
    sink = SpooledSink(store, spool)
    sink.write(a_record("dec-1"))
    shutil.rmtree(spool)
    if down:
        store.down = True
        with pytest.raises(OSError, match="down"):
            await sink.drain()
        shutil.rmtree(spool, ignore_errors=True)
        store.down = False
    sink.write(a_record("dec-2"))
    [file] = spool.glob("*.jsonl")
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["dec-1", "dec-2"]
    assert await sink.drain() == 2
    shutil.rmtree(spool)
    sink.write(a_record("dec-3"))
    assert await sink.drain() == 1
    assert (sink.pending, store.batches) == (0, [["dec-1", "dec-2"], ["dec-3"]])
    sink.close()
