"""What a batch may take: of memory, of other threads' time, and of time after it was stopped."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeEngine
from serve_graph.cluster.batches import batch_run, ledger
from serve_graph.cluster.batches.ledger import Ledger
from serve_graph.errors import RateLimitedError
from serve_graph.records.batches.batches_table import BatchesTable, LineResult
from tests.unit.serve_graph.cluster.batches.batch_graph import BatchGraph, jsonl, line

Graphs = Callable[..., BatchGraph]


async def test_lines_are_read_and_results_written_in_pieces_of_so_many_bytes(
    graph: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "BYTES_AT_ONCE", 4000)
    at, groups, pages = graph(fakes={"cheap": FakeEngine("x" * 1000)}), list[int](), list[int]()
    added, results = batch_run._all_added, BatchesTable.results

    def adding(check: Any, group: Any) -> Any:
        groups.append(sum(len(one.text) for one in group))
        return added(check, group)

    async def reading(*args: Any) -> Any:
        page = await results(*args)
        pages.append(sum(len(text) for _, text in page))
        return page

    monkeypatch.setattr(batch_run, "_all_added", adding)
    monkeypatch.setattr(BatchesTable, "results", reading)
    texts = [{"role": "user", "content": "y" * 1000}]
    batch = await at.run(jsonl(*(line(n, model="auto", messages=texts) for n in range(40))))
    assert batch["request_counts"]["completed"] == len(await at.lines(batch["output_file_id"])) == 40
    assert max(groups) < 4000 + 2000
    assert len(pages) > 10
    assert max(pages[1:]) <= 4000 + 2000  # the first ten tell how long they are


async def test_checking_a_file_rests_while_somebody_waits(graph: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group of a hundred lines takes 50 ms, as its thread's clock says."""
    clock = count(0.0, 0.05)
    monkeypatch.setattr(batch_run, "thread_time", lambda: next(clock), raising=False)
    at = graph()
    loop = asyncio.get_running_loop()
    took: list[float] = []
    for waiting in (1, 0):
        at.accounts.traffic.under_way = waiting
        batch = await at.create(jsonl(*(line(n) for n in range(800))))
        begun = loop.time()
        async with at.working():
            await at.until(batch, lambda one: one["status"] != "validating")
        took.append(loop.time() - begun)
    assert took[0] - took[1] > 0.6, took  # eight rests of 150 ms


async def test_a_line_that_does_not_end_keeps_no_batch_from_being_cancelled(
    graph: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a place at a tier that other requests keep full."""
    monkeypatch.setattr(batch_run, "ENDS_WITHIN_S", 0.3, raising=False)
    at = graph(fakes={"cheap": FakeEngine("x", slow_s=60.0)})
    batch = await at.create(jsonl(line(1), line(2)))
    async with at.working():
        await at.until(batch, lambda one: one["status"] == "in_progress")
        await asyncio.sleep(0.2)
        async with at.client() as client:
            await client.post(f"/v1/batches/{batch['id']}/cancel")
        ended = await at.ended(batch, seconds=5)
    assert ended["status"] == "cancelled"
    assert [one["error"]["code"] for one in await at.lines(ended["error_file_id"])] == ["batch_cancelled"] * 2


async def test_a_failure_that_nobody_thought_of_is_gone_on_from(graph: Graphs) -> None:
    at = graph(lease_s=0.5, batches={"concurrency": 2}, fakes={"cheap": FakeEngine("x", slow_s=0.02)})

    class Odd(BatchesTable):
        left = 1

        async def note(self, *args: Any, **how: Any) -> Any:
            if args[1] and self.left:
                self.left -= 1
                raise RuntimeError("odd")
            return await super().note(*args, **how)

    batch = await at.create(jsonl(*(line(n) for n in range(60))))
    async with at.working(at.worker(replace(at.parts, batches=Odd(at.store)))):
        ended = await at.ended(batch, seconds=8)
    assert ended["request_counts"] == {"total": 60, "completed": 60, "failed": 0}


async def test_results_that_wait_are_bounded_by_their_length(graph: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "CHARS_AT_ONCE", 1000, raising=False)
    at = graph()
    await at.create(jsonl(line(1)))
    [row] = await at.parts.batches.free(at.now_ms)
    taken = await at.parts.batches.take(row, "me", at.now_ms + 9000)
    assert taken is not None
    kept = Ledger(at.parts.batches, taken, lambda: at.now_ms)
    for number in range(1, 9):
        assert kept.may_begin()
        kept.add(LineResult(number, True, "x" * 500))
    assert not kept.may_begin()
    await kept.write()
    assert (kept.row.completed, kept.may_begin()) == (2, True)
    assert await kept.drained()
    assert kept.row.completed == 8


async def test_long_lines_are_read_in_their_keys_turn(graph: Graphs) -> None:
    """Reading one holds all other threads: a key that sends many rests in between, in a batch as elsewhere."""
    at = graph(keys=({"name": "ann"},), max_line_bytes=400_000)
    turns = at.accounts.turns
    read: list[tuple[str | None, int]] = []
    run_on = turns.run_on

    async def noting(key: str | None, size: int, work: Callable[[], Any]) -> Any:
        read.append((key, size // 100_000))
        if len(read) == 1:
            raise RateLimitedError("rest", 0.01, "requests")
        return await run_on(key, size, work)

    turns.run_on = noting  # type: ignore[method-assign]
    text = [{"role": "user", "content": "y" * 100_000}]
    batch = await at.run(jsonl(line(1), line(2, model="auto", messages=text)), "ann")
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert read == [("ann", 1)] * 3  # the line, again after a rest, and its request


async def test_nothing_is_asked_once_the_time_is_over(graph: Graphs) -> None:
    """No replica has looked at the batch for longer than it had."""
    at = graph()
    batch = await at.create(jsonl(*(line(n) for n in range(50))))
    [row] = await at.parts.batches.free(at.now_ms)
    held = await at.parts.batches.take(row, "former replica", at.now_ms + 9000)
    assert held is not None
    checked = await at.parts.batches.change(held, ("validating",), status="in_progress", total=50)
    await at.parts.batches.release(checked)
    at.offset_ms = 25 * 3_600_000
    async with at.working():
        ended = await at.ended(batch, seconds=5)
    assert (ended["status"], ended["request_counts"]["completed"], at.sink.records) == ("expired", 0, [])
    assert len(await at.lines(ended["error_file_id"])) == 50
