"""What a watch in the background remembers, in the store: one row each, that one replica holds at a time.

Whoever holds a row may write it until `held_until`; every write names the epoch that was read, so that of two replicas
which both believe to hold it the slower one writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from serve_graph.records.schema import WATCH_STATES
from serve_graph.records.store import DecisionStore


@dataclass(frozen=True, slots=True)
class WatchState:
    """One row. `holder`: the replica that holds it until `held_until` (ISO 8601, UTC); `state`: JSON-able data."""

    name: str
    epoch: int = 0
    holder: str = ""
    held_until: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)

    def is_held(self, by_others_than: str, at: str) -> bool:
        """Whether another replica holds it at a moment."""
        return self.holder not in ("", by_others_than) and self.held_until > at


class WatchStates:
    """The rows in a decision store."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def read(self, name: str) -> WatchState:
        """The row of a name, or an empty one that nobody holds; raises StoreUnavailableError."""
        async with self.store.reading() as connection:
            found = await connection.execute(select(WATCH_STATES).where(WATCH_STATES.c.name == name))
            row = found.mappings().first()
        return WatchState(name) if row is None else WatchState(**{**row, "state": json.loads(row["state"])})

    async def write(self, before: WatchState, **changed: Any) -> WatchState | None:
        """Write a row that is still as it was read; returns it, or None where somebody else has written meanwhile."""
        after = replace(before, epoch=before.epoch + 1, **changed)
        values = {
            "name": after.name,
            "epoch": after.epoch,
            "holder": after.holder,
            "held_until": after.held_until,
            "state": json.dumps(dict(after.state)),
        }
        unchanged = (WATCH_STATES.c.name == after.name) & (WATCH_STATES.c.epoch == before.epoch)
        try:
            async with self.store.writing() as connection:
                if before.epoch == 0:
                    await connection.execute(insert(WATCH_STATES).values(**values))
                    return after
                done = await connection.execute(update(WATCH_STATES).where(unchanged).values(**values))
        except IntegrityError:  # another replica was first
            return None
        return after if done.rowcount else None
