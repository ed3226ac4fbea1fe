"""Leases of limits in the decision store: what `settled` says, in one transaction for all limits of a replica."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_graph.access.limits.leases import LEASE_S, LeaseAsk, LeaseGrant, Leases
from serve_graph.access.limits.limit_pool import LimitPool, settled
from serve_graph.cluster.replicas.broadcast import in_replica
from serve_graph.config.graph import GraphConfig
from serve_graph.records.schema import LIMIT_LEASES, LIMIT_POOLS
from serve_graph.records.store import DecisionStore

POOL_KEPT_MS, LEASE_KEPT_MS = 40 * 24 * 3600 * 1000, 3600 * 1000
"""For how long limits are kept that nobody asks for (past days and months of budgets), and leases that have ended."""
AROUND = 2**62
"""Totals are told and kept modulo this: those of a key that is busy for weeks would not fit into 64 bits."""
_NOW = {
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
}


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease as the store has it: what is held, what the holder has told, whether it has not ended."""

    units: int
    told: int
    lives: bool = True


class LeaseStore:
    """The limits of all ingress replicas of a graph. The store's clock counts, so that those of the nodes may differ.

    `graph` names the graph: others that share the store may have keys of the same names.
    """

    def __init__(self, store: DecisionStore, graph: str = "") -> None:
        self.store = store
        self.prefix = f"{hashlib.sha256(graph.encode()).hexdigest()[:16]} " if graph else ""

    async def settle(self, asks: Sequence[LeaseAsk]) -> list[LeaseGrant]:
        """Settle leases, all or none; raises what the driver raises where the store is away."""
        asks = [replace(ask, terms=replace(ask.terms, name=self.prefix + ask.terms.name)) for ask in asks]
        names = [ask.terms.name for ask in asks]
        async with self.store.changing("limits") as connection:
            now = int((await connection.execute(text(_NOW[connection.dialect.name]))).scalar_one())
            pools = await self._pools(connection, names)
            leases = await self._leases(connection, names, now)
            grants = []
            for ask in asks:
                name, of_limit = ask.terms.name, leases[ask.terms.name]
                row = of_limit.pop(ask.holder, LeaseRow(0, ask.known % AROUND, lives=False))
                others = sum(other.units for other in of_limit.values() if other.lives)
                # nobody has had what lay in a budget's lease that ended: its holder goes on with it
                own = row.units if row.lives or ask.terms.is_budget else 0
                spent = (ask.total - row.told + AROUND // 2) % AROUND - AROUND // 2
                pools[name], units = settled(pools.get(name), ask.terms, others, own, spent, ask.wanted, now)
                of_limit[ask.holder] = LeaseRow(units, ask.total % AROUND)
                grants.append(LeaseGrant(units, pools[name].level))
            await self._write(connection, asks, pools, leases, now)
        return grants

    async def _pools(self, connection: AsyncConnection, names: Sequence[str]) -> dict[str, LimitPool]:
        rows = await connection.execute(select(LIMIT_POOLS).where(LIMIT_POOLS.c.name.in_(names)))
        return {row.name: LimitPool(row.level, row.size, row.at_ms) for row in rows}

    async def _leases(
        self, connection: AsyncConnection, names: Sequence[str], now: int
    ) -> defaultdict[str, dict[str, LeaseRow]]:
        """Leases by limit and holder."""
        rows = await connection.execute(select(LIMIT_LEASES).where(LIMIT_LEASES.c.name.in_(names)))
        found: defaultdict[str, dict[str, LeaseRow]] = defaultdict(dict)
        for row in rows:
            found[row.name][row.holder] = LeaseRow(row.units, row.told, row.until_ms > now)
        return found

    async def _write(
        self,
        connection: AsyncConnection,
        asks: Sequence[LeaseAsk],
        pools: dict[str, LimitPool],
        leases: dict[str, dict[str, LeaseRow]],
        now: int,
    ) -> None:
        names, holders = [ask.terms.name for ask in asks], [ask.holder for ask in asks]
        old = (LIMIT_POOLS.c.at_ms < now - POOL_KEPT_MS, LIMIT_LEASES.c.until_ms < now - LEASE_KEPT_MS)
        await connection.execute(delete(LIMIT_POOLS).where(LIMIT_POOLS.c.name.in_(names) | old[0]))
        await connection.execute(delete(LIMIT_LEASES).where(LIMIT_LEASES.c.holder.in_(holders) | old[1]))
        pool_rows = [
            {"name": n, "level": pools[n].level, "size": pools[n].size, "at_ms": pools[n].at_ms} for n in names
        ]
        until = now + int(1000 * LEASE_S)
        lease_rows = [
            {"name": n, "holder": h, "units": leases[n][h].units, "told": leases[n][h].told, "until_ms": until}
            for n, h in zip(names, holders, strict=True)
        ]
        await connection.execute(insert(LIMIT_POOLS), pool_rows)
        await connection.execute(insert(LIMIT_LEASES), lease_rows)


def shared_leases(config: GraphConfig, store: DecisionStore) -> Leases | None:
    """The leases of an ingress replica; None where there is no other, or no Ray Serve."""
    most = config.http.scaling.max_replicas
    return Leases(LeaseStore(store, config.policy.model_name).settle, most) if most > 1 and in_replica() else None
