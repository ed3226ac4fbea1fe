"""A registry with two versions, and the controllers that follow it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from router_models.versions.registry import RegisteredVersion
from tests.unit.serve_graph.cluster.controllers import Cluster, two_versions


@pytest.fixture(scope="session")
def registered(
    tmp_path_factory: pytest.TempPathFactory,
    new_registry: Callable[[Path], str],
    new_store: Callable[[Path], str],
) -> tuple[RegisteredVersion, RegisteredVersion]:
    """Two versions, registered once."""
    return two_versions(tmp_path_factory.mktemp("registered"), new_registry, new_store)


@pytest.fixture
async def cluster(tmp_path: Path, registered: tuple[RegisteredVersion, RegisteredVersion]) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path, registered)
    yield made
    for controller in made.controllers:
        await made.kill(controller)
