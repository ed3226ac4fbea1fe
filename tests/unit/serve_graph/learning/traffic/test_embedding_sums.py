"""Embeddings become sums of several requests each; nothing of one request is stored, and a shift opens a ticket."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from router_models.monitoring.embedding_shift import BLOCKS, FEATURES, embedding_shift, random_features
from router_models.types import PromptEmbedding
from serve_graph.config.learning import TicketsConfig
from serve_graph.learning.traffic.embedding_sums import EmbeddedRequest, EmbeddingSums
from serve_graph.learning.traffic.tickets import TicketWatch
from serve_graph.records.schema import EMBEDDING_SUMS
from serve_graph.records.store import DecisionStore
from tests.unit.serve_graph.learning.traffic.test_tickets import Records, served

VERSION, WINDOW = "router/1", 200


@pytest.fixture
async def store(made_store_url: str) -> AsyncIterator[DecisionStore]:
    made = DecisionStore(made_store_url)
    yield made
    await made.close()


def requests(hour: int, n: int = WINDOW, mean: float = 0.0, **fields: Any) -> list[EmbeddedRequest]:
    rng, made = np.random.default_rng(hour), []
    for i in range(n):
        vector = np.asarray(rng.normal(size=16) / 4 + mean, dtype=np.float32)
        at = f"2026-03-01T{hour:02}:{i // 60:02}:{i % 60:02}.000+00:00"
        made.append(
            EmbeddedRequest(VERSION, "accepted", at, None, f"{hour}-{i}", PromptEmbedding(b"", "encoder", vector))
        )
    return [one._replace(**fields) for one in made]


async def rows(store: DecisionStore) -> list[dict[str, Any]]:
    async with store.reading() as connection:
        return [dict(row) for row in (await connection.execute(select(EMBEDDING_SUMS))).mappings()]


async def test_what_is_stored_are_means_of_blocks_and_an_incomplete_block_is_not(store: DecisionStore) -> None:
    sums = EmbeddingSums(store, WINDOW)
    made = requests(0, n=15)
    sums.waiting.extend(made)
    await sums.add()
    (row,) = await rows(store)
    assert (row["version"], row["n"], row["at"]) == (VERSION, 10, made[9].at)
    each = random_features(np.array([one.embedding.vector for one in made[:10]]), "encoder")
    assert np.allclose(json.loads(row["sums"]), each.mean(axis=0), atol=1e-5)
    assert len(sums.waiting) == 0


async def test_of_a_session_and_of_a_prompt_the_first_counts_within_a_window(store: DecisionStore) -> None:
    sums = EmbeddingSums(store, WINDOW)
    sums.waiting.extend(requests(0, n=50, session="one"))
    sums.waiting.extend(requests(1, n=50, prompt="hello"))
    sums.waiting.extend(requests(2, n=50, outcome="forced"))
    await sums.add()
    assert await rows(store) == []
    sums.waiting.extend(requests(3, n=8))
    await sums.add()
    assert len(await rows(store)) == 1


async def test_a_shift_of_embeddings_opens_a_ticket_where_no_score_moves(
    store: DecisionStore, a_record: Records
) -> None:
    looking = TicketWatch(store, TicketsConfig(window=WINDOW), lambda: VERSION)
    assert looking.sums is not None
    for hour, mean in ((0, 0.0), (1, 0.0), (2, 0.3)):
        await served(store, a_record, hour)
        looking.sums.waiting.extend(requests(hour, mean=mean))
        await looking.sums.add()
        await looking.look()
        assert [ticket.scope for ticket in looking.open] == (["embedding"] if mean else [])
    assert looking.open[0].reason.startswith("prompts' embeddings shifted: windows are ")
    await store.delete_before("2026-03-01T02")
    restarted = TicketWatch(store, TicketsConfig(window=WINDOW), lambda: VERSION)
    await served(store, a_record, 3)
    await restarted.look()
    assert "embedding" in {change.figure for change in restarted.changes if change.is_reported}


async def test_windows_go_on_where_every_block_was_deleted_meanwhile(store: DecisionStore) -> None:
    """SQLite numbers rows from 1 again then."""
    sums = EmbeddingSums(store, WINDOW)
    sums.waiting.extend(requests(0))
    await sums.add()
    assert await sums.windows(VERSION, "", "kept") is None
    await store.delete_before("2026-03-01T01")
    sums.waiting.extend(requests(1))
    await sums.add()
    assert await sums.windows(VERSION, "", "kept") is not None


async def test_background_work_that_is_cancelled_is_over_no_sooner_than_all_of_it(store: DecisionStore) -> None:
    looking = TicketWatch(store, TicketsConfig(window=WINDOW, poll_s=1e-3), lambda: VERSION)
    before = asyncio.all_tasks()
    running = asyncio.create_task(looking.run())
    await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.wait([running])
    assert asyncio.all_tasks() == before


def test_blocks_of_two_windows_that_were_drawn_alike_are_no_shift_and_others_are() -> None:
    rng = np.random.default_rng(0)
    one, other, shifted = (rng.normal(mean, size=(BLOCKS, FEATURES)) for mean in (0.0, 0.0, 1.0))
    assert embedding_shift(one, other).p_value > 0.05
    found = embedding_shift(one, shifted)
    assert found.p_value == 1 / 10_000
    assert found.distance > 3 * found.expected
    assert embedding_shift(one, one).p_value > 0.9
