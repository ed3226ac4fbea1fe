"""What became of those who were assigned by a canary: of each the first request, read from the decisions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from router_models.monitoring.canary import ArmOutcome
from serve_graph.policy.rollout.states import Rollout
from serve_graph.records.schema import DECISIONS
from serve_graph.records.store import DecisionStore

LATE_S = 120.0
"""How much later than others a replica's records may arrive: the last so many seconds are read again."""


class RolloutOutcomes:
    """The outcomes of one rollout, read as they come: those that were read are not read again, nor change place."""

    def __init__(self, store: DecisionStore, rollout: Rollout) -> None:
        self.store = store
        self.rollout = rollout
        self._since = rollout.begun_at
        self._units: dict[str, ArmOutcome] = {}

    async def read(self) -> list[ArmOutcome]:
        """One outcome of each session, key or prompt so far; raises StoreUnavailableError."""
        table, rollout = DECISIONS.c, self.rollout
        query = select(table.created_at, table.status, table.latency_s, table.cost_usd, table.evidence).where(
            table.version.in_((rollout.stable, rollout.candidate)) & (table.created_at >= self._since)
        )
        newest = self._since
        async with self.store.reading() as connection:
            rows = await connection.stream(query.order_by(table.created_at, table.id))
            async for row in rows.mappings():
                newest = str(row["created_at"])
                self._note(row)
        late = (datetime.fromisoformat(newest) - timedelta(seconds=LATE_S)).isoformat(timespec="milliseconds")
        self._since = max(rollout.begun_at, late)
        return list(self._units.values())

    def _note(self, row: Mapping[Any, Any]) -> None:
        assigned = json.loads(row["evidence"] or "{}").get("rollout") or {}
        if assigned.get("id") == self.rollout.id and assigned["unit"] not in self._units:
            status = int(row["status"])
            self._units[assigned["unit"]] = ArmOutcome(
                assigned["arm"],
                float(assigned["weight"]),
                status in (429, 499) or status >= 500,
                float(row["latency_s"]),
                float(Decimal(row["cost_usd"])),
            )
