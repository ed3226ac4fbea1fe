"""A registry with two versions, and the controllers that follow it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.serve_graph.cluster.controllers import Cluster


@pytest.fixture
async def cluster(tmp_path: Path, new_registry: Callable[[Path], str]) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path, new_registry)
    yield made
    for controller in made.controllers:
        await made.kill(controller)
