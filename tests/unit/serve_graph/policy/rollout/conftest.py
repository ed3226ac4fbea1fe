from collections.abc import AsyncIterator

import pytest

from serve_graph.records.store import DecisionStore


@pytest.fixture
async def store(made_store_url: str) -> AsyncIterator[DecisionStore]:
    """A store of each kind without a row."""
    made = DecisionStore(made_store_url)
    yield made
    await made.close()
