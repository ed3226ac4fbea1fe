"""Spools of several processes, killed and living."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore, record_to_json

Records = Callable[..., DecisionRecord]

# What a serving process does, in one of its own: argv are store URL, spool folder, first id, how many, how it ends.
PROCESS = """
import asyncio, json, os, signal, sys
from pathlib import Path
from serve_graph.records.spool.spooled_sink import SpooledSink
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


async def test_killed_process_leaves_its_records_to_the_next(
    store_url: str, spool: Path, a_record: Records, left_in: Callable[[Path], list[str]]
) -> None:
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


async def test_several_processes_share_one_spool_without_loss(
    store_url: str, spool: Path, a_record: Records, left_in: Callable[[Path], list[str]]
) -> None:
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


async def test_spool_file_taken_before_it_was_locked_is_made_anew(
    spool: Path, a_record: Records, monkeypatch: pytest.MonkeyPatch, counting_store: type[Any]
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
    store = counting_store()
    sink = SpooledSink(store, spool)
    sink.write(a_record())
    assert await sink.drain() == 1
    assert store.batches == [["dec-1"]]
    sink.close()


async def test_a_process_that_ends_moves_its_own_records_once_more(
    spool: Path, a_record: Records, counting_store: type[Any]
) -> None:
    store = counting_store()
    ended, sink = SpooledSink(store, spool), SpooledSink(store, spool)
    ended.write(a_record("dec-others"))
    ended._file.close()
    sink.write(a_record("dec-1"))
    await sink.drain_last()
    assert store.batches == [["dec-1"]], "whoever goes on has time for what others left"
    sink.close()


@pytest.mark.parametrize("away", ["down", "silent"])
async def test_a_store_that_is_away_holds_no_process_up_that_ends_and_the_next_one_loses_nothing(
    away: str, spool: Path, a_record: Records, counting_store: type[Any]
) -> None:
    store = counting_store()
    sink = SpooledSink(store, spool)
    for i in range(3):
        sink.write(a_record(f"dec-{i}"))
    store.down = away == "down"
    if away == "silent":
        store.open_gate.clear()
    async with asyncio.timeout(20):
        await sink.drain_last(0.2)
    assert sink.pending == 3
    sink.close()
    store.down = False
    store.open_gate.set()
    heir = SpooledSink(store, spool)
    assert await heir.drain() == 3
    assert store.batches == [["dec-0", "dec-1", "dec-2"]]
    heir.close()
