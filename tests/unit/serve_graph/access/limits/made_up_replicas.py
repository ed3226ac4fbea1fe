"""Replicas that keep limits together over a store and a clock that are made up."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from router_models.types import DecisionRecord
from serve_graph.access.accounts import Accounts
from serve_graph.access.limits.leases import LEASE_S, LeaseAsk, LeaseGrant, Leases
from serve_graph.access.limits.limit_pool import LimitPool, settled
from serve_graph.config.access import KeyConfig
from serve_graph.errors import RateLimitedError

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@dataclass
class MadeUpStore:
    """Settles leases in memory, by the event loop's clock; `is_away`: nobody can."""

    pools: dict[str, LimitPool] = field(default_factory=dict)
    leases: dict[str, dict[str, tuple[int, int, float]]] = field(default_factory=dict)
    calls: int = 0
    is_away: bool = False

    async def settle(self, asks: Sequence[LeaseAsk]) -> list[LeaseGrant]:
        await asyncio.sleep(0.003)
        if self.is_away:
            raise ConnectionError("the store is away")
        self.calls += 1
        now, grants = asyncio.get_running_loop().time(), []
        for ask in asks:
            name = ask.terms.name
            of_limit = self.leases.setdefault(name, {})
            live = {holder: units if until > now else 0 for holder, (units, _, until) in of_limit.items()}
            own, told = live.pop(ask.holder, 0), of_limit.get(ask.holder, (0, 0, 0.0))[1]
            self.pools[name], units = settled(
                self.pools.get(name), ask.terms, sum(live.values()), own, ask.total - told, ask.wanted, int(1000 * now)
            )
            of_limit[ask.holder] = units, ask.total, now + LEASE_S
            grants.append(LeaseGrant(units, self.pools[name].level))
        return grants


class Replicas:
    """Ingress replicas with one store."""

    def __init__(self, number: int, store: MadeUpStore | None = None) -> None:
        self.store = store or MadeUpStore()
        loop = asyncio.get_running_loop()
        self.leases = [Leases(self.store.settle, number, loop.time) for _ in range(number)]
        self.accounts = [Accounts(clock=loop.time, today=lambda: NOON, leases=each) for each in self.leases]
        self.running = [asyncio.ensure_future(each.run()) for each in self.leases]

    async def asks(self, n: int, key: KeyConfig) -> bool:
        """Whether replica n admits a request, after it has asked the store once where it ran short."""
        for tries in range(3):
            try:
                self.accounts[n].admit(key)
                return True
            except RateLimitedError:
                if tries == 2 or not await self.accounts[n].renewed():
                    return False
        return False

    async def stop(self) -> None:
        for each in self.running:
            each.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


def key_of(**limits: Any) -> KeyConfig:
    return KeyConfig.model_validate({"name": "a", "sha256": "0" * 64, **limits})


def record(name: str, usd: Decimal) -> DecisionRecord:
    return DecisionRecord(
        name, "2026-11-29T12:00:00.000+00:00", "auto", "frontier", "routed", "none", 200, False, "0" * 64, 1, "so",
        None, None, None, None, (), usd, 0.1, "live", 1.0, key="a",
    )  # fmt: skip
