"""Spools of several processes, killed and living."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore, record_to_json

Records = Callable[..., DecisionRecord]

# What serving processes do, forked from one that has imported everything: argv are store URL, spool folder, how many
# records each writes, and how each ends. Says how they did, a line each.
PROCESSES = """
import asyncio, json, os, signal, sys, traceback
from pathlib import Path
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore, record_from_json

url, folder, n, *ends = sys.argv[1:]
template = json.loads(sys.stdin.read())

async def serve(first, end):
    store = DecisionStore(url)
    sink = SpooledSink(store, Path(folder))
    for i in range(first, first + int(n)):
        sink.write(record_from_json(template | {"id": f"dec-{i}"}))
        if end == "drain" and i % 7 == 0:
            await sink.drain()
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while sink.pending:
        await sink.drain()
    await store.close()
    sink.close()

children = []
for place, end in enumerate(ends):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(serve(1000 * place, end))
            code = 0
        except BaseException:  # a fork must never go on as its parent
            traceback.print_exc()
        finally:
            os._exit(code)
    children.append(child)
for child in children:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def codes_of(url: str, folder: Path, n: int, ends: Sequence[str], record: DecisionRecord) -> list[int]:
    """Exit codes of processes that share a spool, each of which writes `n` records and ends as it is told."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES, url, str(folder), str(n), *ends],
        input=json.dumps(record_to_json(record)), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return [int(line) for line in done.stdout.split()]


async def test_killed_process_leaves_its_records_to_the_next(
    store_url: str, spool: Path, a_record: Records, left_in: Callable[[Path], list[str]]
) -> None:
    assert await asyncio.to_thread(codes_of, store_url, spool, 25, ["kill"], a_record()) == [-signal.SIGKILL]
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
    ends = ["drain", "drain", "kill", "drain"]
    codes = await asyncio.to_thread(codes_of, store_url, spool, 150, ends, a_record())
    assert codes == [0, 0, -signal.SIGKILL, 0]
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
