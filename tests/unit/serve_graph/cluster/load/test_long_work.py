"""Work beside requests: it is over when all of it is, and what fails takes nothing else along."""

import asyncio
import io
import json
import logging

import pytest

from serve_graph.cluster.load.long_work import LongWork, side_by_side
from serve_graph.engines.telemetry.call_context import CALL, CallContext
from serve_graph.engines.telemetry.json_logs import JsonFormatter


async def test_what_is_cancelled_is_over_once_the_last_of_it_is() -> None:
    """What it uses, the spool's file for one, is closed then."""
    ended = []

    async def work(name: str, steps: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            for _ in range(steps):
                await asyncio.sleep(0)
            ended.append(name)

    running = asyncio.ensure_future(side_by_side(work("first", 0), work("last", 50)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["first", "last"]


async def test_what_is_cancelled_before_it_begins_is_closed() -> None:
    """Else the interpreter complains of it, at any time afterwards."""

    async def work() -> None:
        await asyncio.sleep(3600)

    never_begun = work()
    running = asyncio.ensure_future(side_by_side(never_begun))
    await asyncio.sleep(0)  # it has begun, and its tasks have not
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await never_begun


async def test_what_fails_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def fails() -> None:
        raise ValueError("a fault of ours")

    async def goes_on() -> None:
        await asyncio.sleep(0.01)
        ended.append(True)

    with caplog.at_level(logging.ERROR):
        await side_by_side(fails(), goes_on())
    assert ended
    assert "a fault of ours" in caplog.text


async def test_what_is_logged_in_a_thread_names_the_decision_that_it_works_for() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("tests.long_work")
    log.addHandler(handler)
    work = LongWork(limit_s=30)

    async def for_decision(name: str) -> None:
        CALL.set(CallContext(name))
        await work.run(lambda: log.warning("at work for %s", name))

    try:
        await asyncio.gather(for_decision("dec-1"), for_decision("dec-2"))
        await work.run(lambda: log.warning("at work for None"))
    finally:
        log.removeHandler(handler)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line["message"] == f"at work for {line.get('decision')}"
