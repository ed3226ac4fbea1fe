import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore


@pytest.fixture
async def store(made_store_url: str) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(made_store_url)
    yield made
    await made.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@contextlib.asynccontextmanager
async def _running(sink: SpooledSink) -> AsyncIterator[None]:
    task = asyncio.ensure_future(sink.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        sink.close()


async def _until(ready: Callable[[], Any], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.02)


@pytest.fixture
def running() -> Callable[..., Any]:
    """`async with running(sink)`: the sink delivers in the background."""
    return _running


@pytest.fixture
def until() -> Callable[..., Any]:
    """`await until(condition)`."""
    return _until


@pytest.fixture
def left_in() -> Callable[[Path], list[str]]:
    """The names of the files in a folder."""
    return lambda folder: sorted(path.name for path in folder.iterdir())


class CountingStore(DecisionStore):
    """A store in memory that can be held up, or down."""

    def __init__(self) -> None:
        super().__init__("sqlite+aiosqlite://")
        self.batches: list[list[str]] = []
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.asked = asyncio.Event()
        self.down = False

    async def write_many(self, records: Sequence[DecisionRecord]) -> None:
        self.asked.set()
        await self.open_gate.wait()
        if self.down:
            raise OSError("down")
        self.batches.append([record.id for record in records])


@pytest.fixture
def counting_store() -> type[CountingStore]:
    return CountingStore
