from collections.abc import AsyncIterator

import pytest

from serve_graph.records.store import DecisionStore


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[DecisionStore]:
    """A fresh store of each kind."""
    made = DecisionStore(store_url)
    yield made
    await made.close()
