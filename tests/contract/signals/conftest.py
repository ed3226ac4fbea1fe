"""Two graphs, and what was collected of them once: with one verdict a signal, and with several."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.signals.asked_world import PROMPTS, SAMPLED, World, collected, graph


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("asked")
    config, out = graph(folder / "state"), folder / "outcomes.parquet"
    return World(config, asyncio.run(collected(config, PROMPTS, out)), out)


@pytest.fixture(scope="session")
def sampled_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("sampled")
    config, out = graph(folder / "state", signals=SAMPLED), folder / "outcomes.parquet"
    return World(config, asyncio.run(collected(config, PROMPTS, out)), out)
