"""Leases in the decision store: whatever replicas ask at the same time, the parts are never more than the limit."""

import asyncio
from pathlib import Path

from sqlalchemy import delete, update

from serve_graph.access.limits.leases import LeaseAsk, LeasedBucket, Leases
from serve_graph.access.limits.limit_pool import UNIT, LimitTerms
from serve_graph.cluster.replicas.lease_store import LeaseStore
from serve_graph.records.schema import LIMIT_LEASES
from serve_graph.records.store import DecisionStore

LIMIT = LimitTerms("requests a", 60 * UNIT, per_s=0)


def ask(holder: str, wanted: int, total: int = 0, terms: LimitTerms = LIMIT) -> LeaseAsk:
    return LeaseAsk(terms, holder, total * UNIT, wanted * UNIT)


TOKENS = LimitTerms("tokens a", 60 * UNIT, per_s=UNIT)


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


async def test_what_was_told_before_is_not_spent_again_where_the_store_has_forgotten_the_lease(tmp_path: Path) -> None:
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    leases = LeaseStore(store)
    await leases.settle([ask("r", 0, total=50)])
    async with store.writing() as connection:
        await connection.execute(delete(LIMIT_LEASES))
    [after] = await leases.settle([LeaseAsk(LIMIT, "r", 52 * UNIT, 0, known=50 * UNIT)])
    assert after.left == 8 * UNIT, "two more are spent, not all that ever were"
    await store.close()


async def test_a_budgets_lease_that_ended_is_its_holders_still_and_a_rates_is_spent(tmp_path: Path) -> None:
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    leases = LeaseStore(store)
    await leases.settle([ask("budget", 40), ask("rate", 40, terms=TOKENS)])
    async with store.writing() as connection:
        await connection.execute(update(LIMIT_LEASES).values(until_ms=LIMIT_LEASES.c.until_ms - 6000))
    [other] = await leases.settle([ask("other", 60)])
    assert other.units == 20 * UNIT, "nobody else has it"
    budget, rate = await leases.settle([ask("budget", 10, total=5), ask("rate", 0, total=5, terms=TOKENS)])
    assert (budget.units, budget.left) == (10 * UNIT, 25 * UNIT)
    assert rate.left < 20 * UNIT
    await store.close()


async def test_totals_and_limits_beyond_64_bits_are_settled(tmp_path: Path) -> None:
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    leases, before = LeaseStore(store), 2**63 - 5
    await leases.settle([LeaseAsk(LIMIT, "r", before, 0, known=before)])
    [after] = await leases.settle([LeaseAsk(LIMIT, "r", before + 7 * UNIT, 0)])
    assert after.left == 53 * UNIT, "a key that was busy for weeks"

    huge = LeasedBucket(Leases(leases.settle, 2), "requests huge", 10**11)
    [granted] = await leases.settle([LeaseAsk(huge.terms, "r", 0, UNIT)])
    assert granted.units == UNIT
    await store.close()


async def test_graphs_that_share_a_store_keep_limits_of_keys_of_one_name_apart(made_store_url: str) -> None:
    store = DecisionStore(made_store_url)
    here, there = LeaseStore(store, "router"), LeaseStore(store, "other-router")
    [first] = await here.settle([ask("a", 60)])
    [second] = await there.settle([ask("b", 60)])
    [third] = await LeaseStore(store, "router").settle([ask("c", 60)])
    assert (first.units, second.units, third.units) == (60 * UNIT, 60 * UNIT, 0)
    await store.close()
