"""A worker ends when it is told to, whatever happens in that moment."""

import asyncio
from collections.abc import Callable

from tests.unit.serve_graph.cluster.batches.batch_graph import BatchGraph


async def test_a_worker_that_is_woken_as_it_is_cancelled_ends(graph: Callable[..., BatchGraph]) -> None:
    worker = graph().worker()
    worker.look_every_s = 60.0
    task = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        while not worker.woken._waiters:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        worker.wake()
        await asyncio.sleep(0)  # the wait inside is over, and whoever waits for it has not gone on
        task.cancel()
        await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
