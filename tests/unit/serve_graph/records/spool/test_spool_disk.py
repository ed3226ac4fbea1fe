"""Spools on disks that are full, damaged or taken away."""

import asyncio
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore, record_to_json

Records = Callable[..., DecisionRecord]


async def test_half_written_line_is_set_aside_and_the_rest_arrives(
    store: DecisionStore, spool: Path, a_record: Records, left_in: Callable[[Path], list[str]]
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
    spool: Path,
    a_record: Records,
    full_disk: Callable[[bool], None],
    caplog: pytest.LogCaptureFixture,
    counting_store: type[Any],
) -> None:
    store = counting_store()
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
    spool: Path, a_record: Records, full_disk: Callable[[bool], None], counting_store: type[Any]
) -> None:
    store = counting_store()
    sink = SpooledSink(store, spool)
    sink.write(a_record("dec-0"))
    full_disk(True)
    sink.write(a_record("dec-1"))
    assert await sink.drain() == 2
    assert (sink.pending, sink.held) == (0, 0)
    assert sorted(itertools.chain(*store.batches)) == ["dec-0", "dec-1"]
    sink.close()


async def test_store_and_disk_failing_in_the_middle_of_a_move_lose_nothing(
    spool: Path,
    a_record: Records,
    full_disk: Callable[[bool], None],
    counting_store: type[Any],
    left_in: Callable[[Path], list[str]],
) -> None:
    store = counting_store()
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
async def test_spool_folder_removed_while_running_is_made_anew(
    spool: Path, a_record: Records, down: bool, counting_store: type[Any]
) -> None:
    store = counting_store()
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
