"""What became of those who were assigned by a canary: of each the first request, read from the decisions.

A record is written when its request ends: of those that came a moment ago only the quickest are there, and the
version that answers sooner would seem to have been given more of them. A request counts once all that came with it
have ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from router_models.monitoring.canary import ArmOutcome
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.rollout.states import Rollout
from serve_graph.policy.rollout.units import UnitOutcomes
from serve_graph.records.schema import DECISIONS
from serve_graph.records.store import DecisionStore

LATE_S = 30.0
"""Within how many seconds of a request's end its record is in the store, unless that was out of reach meanwhile."""


def settles_after_s(config: GraphConfig) -> float:
    """Seconds after which a request has ended and is recorded: `rollouts.settles_s`, else the longest that one takes.

    That is the deadline of all requests where there is one, else the time limits of every tier, router and verifier.
    """
    if config.rollouts.settles_s is not None:
        return config.rollouts.settles_s
    policy = 2 * len(config.tiers) * config.policy.timeout_s
    longest = sum(tier.timeout_s for tier in config.tiers) + policy
    return (longest if config.http.deadline_s is None else config.http.deadline_s) + LATE_S


def pairs_settle_after_s(config: GraphConfig) -> float:
    """Seconds after a request's arrival at which all that came with it have been compared, or will not be."""
    return settles_after_s(config) + config.comparisons.within_s


def moment_before(now: datetime, seconds: float) -> str:
    """A moment so many seconds earlier, as rows have moments."""
    return _moment(now - timedelta(seconds=seconds))


class RolloutOutcomes:
    """The outcomes of one rollout, read as they come: those that were read are not read again, nor change place.

    Parameters
    ----------
    store : DecisionStore
        Where the decisions are.
    rollout : Rollout
        Whose they are.
    settles_s : float
        How old a request must be to count.
    """

    def __init__(self, store: DecisionStore, rollout: Rollout, settles_s: float = 0.0) -> None:
        self.store = store
        self.rollout = rollout
        self.settles_s = settles_s
        self._since = rollout.begun_at
        self._units = UnitOutcomes()

    async def read(self, now: datetime) -> UnitOutcomes:
        """One outcome of each session, key or prompt so far, as they came; raises StoreUnavailableError."""
        table, rollout = DECISIONS.c, self.rollout
        edge = now - timedelta(seconds=self.settles_s)
        query = select(table.created_at, table.status, table.latency_s, table.cost_usd, table.evidence).where(
            table.version.in_((rollout.stable, rollout.candidate))
            & (table.created_at >= self._since)
            & (table.created_at < _moment(edge))
        )
        async with self.store.reading() as connection:
            rows = await connection.stream(query.order_by(table.created_at, table.id))
            async for row in rows.mappings():
                self._note(row)
        # read again are those that came late because the store was out of reach
        self._since = max(self._since, _moment(edge - timedelta(seconds=LATE_S)))
        return self._units

    def _note(self, row: Mapping[Any, Any]) -> None:
        assigned = json.loads(row["evidence"] or "{}").get("rollout") or {}
        if assigned.get("id") == self.rollout.id:
            status = int(row["status"])
            outcome = ArmOutcome(
                assigned["arm"],
                float(assigned["weight"]),
                status in (429, 499) or status >= 500,
                float(row["latency_s"]),
                float(Decimal(row["cost_usd"])),
            )
            self._units.add(str(assigned["unit"]), outcome)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
