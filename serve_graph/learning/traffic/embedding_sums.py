"""Sums of prompts' embeddings, as random features, of so many requests each: what is kept of embeddings for tickets.

A request hands its embedding over with its record and waits for nothing. Here it is added to the block under way, in
memory; a block that is complete is one row of the store, its mean, and nothing of its requests one by one is kept or
written. Of one session, and of one prompt, the first counts, until as many as a window holds were counted since.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from sqlalchemy import insert, select

from router_models.monitoring.embedding_shift import BLOCKS, FEATURES, random_features
from router_models.types import FloatArray, PromptEmbedding
from serve_graph.learning.traffic.windows import DECIDED_OUTCOMES
from serve_graph.learning.watch_states import WatchStates
from serve_graph.records.schema import EMBEDDING_SUMS
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)
MOST_WAITING = 5_000
"""Embeddings that wait to be added; the oldest are dropped beyond."""
ADD_EVERY_S = 1.0


class EmbeddedRequest(NamedTuple):
    """What a request hands over: its version, outcome, moment, session and prompt's hash, and the embedding."""

    version: str
    outcome: str
    at: str
    session: str | None
    prompt: str
    embedding: PromptEmbedding


@dataclass(slots=True)
class _Block:
    n: int = 0
    total: FloatArray = field(default_factory=lambda: np.zeros(FEATURES))
    seen: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)
    counted: int = 0


class EmbeddingSums:
    """Add embeddings up, and read the blocks of a version's windows.

    Parameters
    ----------
    store : DecisionStore
        Where blocks are.
    window : int
        Requests of a window, of `BLOCKS` blocks.
    """

    def __init__(self, store: DecisionStore, window: int) -> None:
        self.store = store
        self.window = window
        self.size = max(window // BLOCKS, 1)
        self.waiting: deque[EmbeddedRequest] = deque(maxlen=MOST_WAITING)
        self.states = WatchStates(store)
        self._blocks: OrderedDict[str, _Block] = OrderedDict()
        self._full: deque[dict[str, object]] = deque(maxlen=1000)

    async def run(self) -> None:
        """Add what waits, every second, for ever."""
        while True:
            await asyncio.sleep(ADD_EVERY_S)
            try:
                await self.add()
            except Exception as error:  # noqa: BLE001 (the store is away: blocks wait for it)
                logger.debug("sums of embeddings are not written: %s", error)

    async def add(self) -> None:
        """Add what waits, and write the blocks that are complete."""
        taken = [self.waiting.popleft() for _ in range(len(self.waiting))]
        if taken:
            await asyncio.to_thread(self._sum_up, taken)
        while self._full:
            async with self.store.writing() as connection:
                await connection.execute(insert(EMBEDDING_SUMS).values(**self._full[0]))
            self._full.popleft()

    def _sum_up(self, taken: list[EmbeddedRequest]) -> None:
        for one in taken:
            if one.outcome not in DECIDED_OUTCOMES:
                continue
            block = self._blocks.setdefault(one.version, _Block())
            units = [("prompt", one.prompt)] + [("session", one.session)] * (one.session is not None)
            if any(block.counted - block.seen.get(unit, -self.window) < self.window for unit in units):
                continue
            for unit in units:
                block.seen[unit] = block.counted
                block.seen.move_to_end(unit)
            while len(block.seen) > 2 * self.window:
                block.seen.popitem(last=False)
            block.counted += 1
            block.total += random_features(one.embedding.vector, one.embedding.encoder)[0]
            block.n += 1
            if block.n == self.size:
                mean = [round(float(value), 6) for value in block.total / block.n]
                self._full.append({"version": one.version, "at": one.at, "n": block.n, "sums": json.dumps(mean)})
                block.n, block.total = 0, np.zeros(FEATURES)
        while len(self._blocks) > 4:  # versions of long ago
            self._blocks.popitem(last=False)

    async def windows(self, version: str, since: str, name: str) -> tuple[FloatArray, FloatArray] | None:
        """The first window of a version since a moment, and its newest; None where there are not yet two.

        `name`: of the row that the first window is kept in, so that it stays when old blocks are deleted.
        """
        chosen = (EMBEDDING_SUMS.c.version == version) & (EMBEDDING_SUMS.c.at > since)
        chosen &= EMBEDDING_SUMS.c.n == self.size
        kept = await self.states.read(name)
        if "ends" not in kept.state:
            early = select(EMBEDDING_SUMS).where(chosen).order_by(EMBEDDING_SUMS.c.number).limit(BLOCKS)
            async with self.store.reading() as connection:
                rows = (await connection.execute(early)).mappings().all()
            if len(rows) < BLOCKS:
                return None
            first = {"rows": [json.loads(row["sums"]) for row in rows], "ends": max(str(row["at"]) for row in rows)}
            await self.states.write(kept, state=first)
            kept = await self.states.read(name)
        late = select(EMBEDDING_SUMS).where(chosen & (EMBEDDING_SUMS.c.at > kept.state["ends"]))
        late = late.order_by(EMBEDDING_SUMS.c.number.desc()).limit(BLOCKS)
        async with self.store.reading() as connection:
            rows = (await connection.execute(late)).mappings().all()
        if len(rows) < BLOCKS:
            return None
        return np.array(kept.state["rows"]), np.array([json.loads(row["sums"]) for row in rows])
