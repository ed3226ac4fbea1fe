"""A store, and a graph that asks golden tasks."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from serve_graph.records.store import DecisionStore
from tests.unit.serve_graph.learning.golden.watched import Golden


@pytest.fixture
async def store(tmp_path: Path, new_store: Callable[[Path], str]) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(new_store(tmp_path / "decisions.db"))
    yield made
    await made.close()


@pytest.fixture
def graph(tmp_path: Path, store: DecisionStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Golden]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    return lambda **golden: Golden(tmp_path, store, **golden)
