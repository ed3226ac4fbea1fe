"""Leases in the decision store: whatever replicas ask at the same time, the parts are never more than the limit."""

import asyncio
from pathlib import Path

from serve_graph.access.limits.leases import UNIT, LeaseAsk, LimitTerms
from serve_graph.cluster.replicas.lease_store import LeaseStore
from serve_graph.records.store import DecisionStore

LIMIT = LimitTerms("requests a", 60 * UNIT, per_s=0)


def ask(holder: str, wanted: int, total: int = 0, terms: LimitTerms = LIMIT) -> LeaseAsk:
    return LeaseAsk(terms, holder, total * UNIT, wanted * UNIT)


async def test_replicas_that_ask_at_once_share_what_there_is(made_store_url: str) -> None:
    stores = [DecisionStore(made_store_url) for _ in range(4)]
    await stores[0].open()
    replicas = [LeaseStore(store) for store in stores]

    granted = await asyncio.gather(*(each.settle([ask(f"r{n}", 25)]) for n, each in enumerate(replicas)))
    assert sorted(grant.units for [grant] in granted) == [0, 10 * UNIT, 25 * UNIT, 25 * UNIT]

    rich = next(n for n, [grant] in enumerate(granted) if grant.units == 25 * UNIT)
    poor = next(n for n, [grant] in enumerate(granted) if grant.units == 0)
    [given_back] = await replicas[rich].settle([ask(f"r{rich}", 5, total=15)])
    [taken] = await replicas[poor].settle([ask(f"r{poor}", 25)])
    assert (given_back.units, taken.units, taken.left) == (5 * UNIT, 5 * UNIT, 0), "ten are back, five are kept"

    [again] = await replicas[rich].settle([ask(f"r{rich}", 5, total=15)])
    assert again.units == 5 * UNIT, "what was told twice is spent once"
    for store in stores:
        await store.close()


async def test_limits_of_one_replica_are_settled_together_and_apart(tmp_path: Path) -> None:
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    tokens = LimitTerms("tokens a", 1000 * UNIT, per_s=1000 * UNIT // 60)
    spent = LimitTerms("daily usd 2026-11-29 a", 10 * UNIT, spent=7 * UNIT)
    grants = await LeaseStore(store).settle([ask("r", 4), ask("t", 500, 600, tokens), ask("u", 5, 0, spent)])
    assert [grant.units // UNIT for grant in grants] == [4, 400, 3], "600 tokens were a debt; seven dollars were spent"
    await store.close()
