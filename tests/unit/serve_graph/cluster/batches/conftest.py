from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serve_graph.cluster.batches.batch_graph import BatchGraph


@pytest.fixture
async def graph(tmp_path: Path, new_store: Callable[[Path], str]) -> AsyncIterator[Callable[..., BatchGraph]]:
    """Make a BatchGraph; keywords are its own fields'."""
    made: list[BatchGraph] = []

    def make(**settings: Any) -> BatchGraph:
        made.append(BatchGraph(tmp_path, new_store(tmp_path / "decisions.db"), **settings))
        return made[-1]

    yield make
    for one in made:
        await one.close()
