"""Hosted tiers are closed; and each question is asked whole and streamed."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.serve_graph.engines.hosted.asked import OPEN


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    """Close the connections of every tier that a test made."""
    yield
    while OPEN:
        await OPEN.pop().engine.close()


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)
