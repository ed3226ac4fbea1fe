"""Whether a candidate may have a greater share of traffic: the tiers can carry it, and by live numbers it pays."""

from __future__ import annotations

from datetime import datetime

from router_models.pricing.break_even import measured_break_even
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.bindings import tier_prices
from serve_graph.policy.rollout.capacity import FEWEST, PathCalls, overload_of, places_of
from serve_graph.policy.rollout.live_traffic import live_load, live_tries
from serve_graph.policy.rollout.states import Rollout
from serve_graph.records.comparisons import ComparisonsTable
from serve_graph.records.store import DecisionStore


class StepCheck:
    """Asks the store what live traffic shows, before a candidate's share grows."""

    def __init__(self, config: GraphConfig, store: DecisionStore) -> None:
        self.config = config
        self.store = store

    async def fault(self, rollout: Rollout, wanted: float, now: datetime) -> str | None:
        """Why the candidate should not have this share of traffic; raises StoreUnavailableError."""
        return await self.overload(rollout, wanted, now) or await self.loss(rollout, now)

    async def overload(self, rollout: Rollout, wanted: float, now: datetime) -> str | None:
        """Why the tiers could not carry it, by the calls that both versions make for requests that were compared."""
        most = self.config.rollouts.capacity_share
        if most is None or wanted <= rollout.weight:
            return None
        paths = PathCalls(*await ComparisonsTable(self.store).path_calls(rollout.id))
        load = await live_load(self.store, now)
        return overload_of(places_of(self.config), load, paths, rollout.weight, wanted, most)

    async def loss(self, rollout: Rollout, now: datetime) -> str | None:
        """Why its tries cost more than they spare, all but surely (the interval's lower end is at break-even)."""
        if self.config.policy.allow_loss:
            return None
        last = self.config.tier_names[-1]
        tries, overhead_usd = await live_tries(self.store, rollout.candidate, last, rollout.begun_at)
        prices = tier_prices(self.config, now)
        if tries.tried < FEWEST or tries.spared.calls < FEWEST or not tries.spent.keys() <= prices.keys():
            return None
        found = measured_break_even(tries, prices, overhead_usd)
        return f"it loses money: {found.text()}" if found.low >= found.limit else None
