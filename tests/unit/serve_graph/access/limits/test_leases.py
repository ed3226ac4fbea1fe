"""Limits that several replicas keep together: r a minute are r, whoever asks where, whatever happens to a replica."""

import asyncio
import contextlib
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.access.accounts import Accounts
from serve_graph.access.limits.leases import LEASE_S, LeaseAsk, LeasedBucket, LeaseGrant, Leases
from serve_graph.access.limits.limit_pool import UNIT, LimitTerms, settled
from serve_graph.errors import BudgetSpentError, RateLimitedError
from tests.fixtures.made_up_time import run
from tests.unit.serve_graph.access.limits.made_up_replicas import Replicas, key_of, record


def most_in_any_stretch(times: Sequence[float], per_min: float) -> float:
    """By how much the most that was let through in any stretch of time exceeds a minute's worth and what it gained."""
    worst = -float("inf")
    for i, since in enumerate(times):
        for j in range(i, len(times)):
            worst = max(worst, j - i + 1 - per_min - (times[j] - since) * per_min / 60)
    return worst


STEPS = st.lists(
    st.tuples(st.floats(0, 8), st.integers(0, 3), st.integers(1, 25), st.sampled_from(["", "", "kill", "stall"])),
    min_size=1,
    max_size=12,
)


@given(STEPS, st.integers(2, 4), st.integers(1, 90))
def test_no_stretch_of_time_lets_more_through_than_one_replica_would(
    steps: list[tuple[float, int, int, str]], number: int, per_min: int
) -> None:
    async def story() -> list[float]:
        replicas, key, passed = Replicas(number), key_of(requests_per_min=per_min), list[float]()
        loop = asyncio.get_running_loop()
        for gap_s, where, requests, event in steps:
            await asyncio.sleep(gap_s)
            n = where % number
            if event == "kill":
                replicas.running[n].cancel()
                replicas.leases[n] = Leases(replicas.store.settle, number, loop.time)
                replicas.accounts[n] = Accounts(clock=loop.time, leases=replicas.leases[n])
            if event == "stall":
                replicas.running[n].cancel()
            told = await asyncio.gather(*(replicas.asks((n + i % 2) % number, key) for i in range(requests)))
            passed += [loop.time()] * sum(told)
        await replicas.stop()
        return passed

    assert most_in_any_stretch(run(story()), per_min) <= 1e-6


def test_a_burst_that_the_limit_has_room_for_passes_wherever_it_lands() -> None:
    async def story() -> None:
        replicas, key = Replicas(3), key_of(requests_per_min=60)
        clock = asyncio.get_running_loop().time
        told = await asyncio.gather(*(replicas.asks(i % 3, key) for i in range(30)))
        assert sum(told) >= 20, "each replica asks twice for what it lacks"
        more = [await replicas.asks(i % 3, key) for i in range(60)]
        assert 57 <= sum(told) + sum(more) <= 60 + clock(), (
            "some of the limit may lie with a replica that does not need it now"
        )
        await replicas.stop()

    run(story())


def test_where_requests_come_at_their_pace_the_store_is_asked_once_a_second() -> None:
    async def story() -> None:
        replicas, key = Replicas(2), key_of(requests_per_min=6000)
        for _ in range(200):
            assert await replicas.asks(0, key)
            await asyncio.sleep(0.05)
        assert replicas.store.calls < 30
        await replicas.stop()

    run(story())


def test_while_the_store_is_away_each_replica_has_an_equal_part() -> None:
    async def story() -> None:
        replicas, key = Replicas(2), key_of(requests_per_min=60, concurrency=4)
        while await replicas.asks(0, key):
            pass
        clock = asyncio.get_running_loop().time
        begun = clock()
        replicas.store.is_away = True
        await asyncio.sleep(2 * LEASE_S)
        passed = 0
        for _ in range(60):
            for n in range(2):
                passed += await replicas.asks(n, key)
            await asyncio.sleep(1.0)
        assert 55 <= passed <= 60 + 2, "a minute's worth, and one request of each replica"
        for account in replicas.accounts:
            for _ in range(2):
                account.enter(key)
            with pytest.raises(RateLimitedError):
                account.enter(key)
        replicas.store.is_away = False
        await asyncio.sleep(3.0)
        passed += sum([await replicas.asks(n % 2, key) for n in range(60)])
        assert passed <= clock() - begun + 2, "what was let through meanwhile counts"
        await replicas.stop()

    run(story())


def test_a_budget_is_spent_once_by_all_replicas() -> None:
    async def story() -> None:
        replicas, key = Replicas(3), key_of(usd_per_day="1.00")
        spent = Decimal(0)
        for turn in range(60):
            account, request = replicas.accounts[turn % 3], f"r{turn}"
            for tries in range(3):
                try:
                    account.reserve(key, request, {"frontier": Decimal("0.05")})
                except BudgetSpentError:
                    if tries == 2 or not await account.renewed():
                        break
                else:
                    spent += Decimal("0.03")
                    account.charge(record(request, Decimal("0.03")), key)
                    break
        assert Decimal("0.80") <= spent <= Decimal("1.00")
        await replicas.stop()

    run(story())


def test_a_limit_that_is_changed_counts_at_once() -> None:
    pool, held = settled(None, LimitTerms("a", 10 * UNIT), 0, 0, 0, 4 * UNIT, 0)
    assert (pool.level, held) == (6 * UNIT, 4 * UNIT)
    pool, held = settled(pool, LimitTerms("a", 3 * UNIT), 0, held, 0, held, 0)
    assert pool.level == -1 * UNIT, "what is leased beyond it is a debt"
    pool, held = settled(pool, LimitTerms("a", 3 * UNIT), 0, held, 4 * UNIT, 2 * UNIT, 0)
    assert (pool.level, held) == (-1 * UNIT, 0)


def test_what_is_left_and_when_is_told_with_what_the_store_has() -> None:
    async def story() -> None:
        replicas, key = Replicas(2), key_of(requests_per_min=60)
        assert await replicas.asks(0, key)
        headers = dict(replicas.accounts[0].limit_headers(key))
        assert headers[b"x-ratelimit-remaining-requests"] == b"59"
        bucket = replicas.accounts[0]._bucket(key, "requests")
        assert isinstance(bucket, LeasedBucket)
        assert bucket.full_s(0.0) == pytest.approx(1.0, abs=0.1)
        await replicas.stop()

    run(story())


def test_a_replica_settles_one_thing_after_the_other() -> None:
    """Replies that overtook one another would have it spend what it has given back."""

    async def story() -> None:
        inside, most = 0, 0

        async def slowly(asks: Sequence[LeaseAsk]) -> list[LeaseGrant]:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.4)
            inside -= 1
            return [LeaseGrant(ask.wanted, 0) for ask in asks]

        leases = Leases(slowly, 2, asyncio.get_running_loop().time)
        account, key = Accounts(clock=leases.clock, leases=leases), key_of(requests_per_min=60)
        running = asyncio.ensure_future(leases.run())
        for _ in range(20):
            with contextlib.suppress(RateLimitedError):
                account.admit(key)
            await account.renewed()
        assert most == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(story())


def test_a_replica_that_stops_gives_everything_back() -> None:
    async def story() -> None:
        replicas, key = Replicas(2), key_of(requests_per_min=60)
        for _ in range(20):
            assert await replicas.asks(0, key)
        await replicas.stop()
        assert [units for units, _, _ in replicas.store.leases["requests a"].values()] == [0]

    run(story())


def test_a_budget_that_was_never_asked_for_has_its_part_while_the_store_is_away() -> None:
    async def story() -> None:
        replicas, key = Replicas(2), key_of(usd_per_day="1.00")
        replicas.store.is_away = True
        account = replicas.accounts[0]
        with pytest.raises(BudgetSpentError):
            account.reserve(key, "r1", {"frontier": Decimal("0.30")})
        assert await account.renewed()
        account.reserve(key, "r1", {"frontier": Decimal("0.30")})
        with pytest.raises(BudgetSpentError):
            account.reserve(key, "r2", {"frontier": Decimal("0.30")})
        await replicas.stop()

    run(story())


def test_a_key_over_its_limit_asks_the_store_when_there_may_be_something_again() -> None:
    """It was asked some 18 times a second for one key, whatever it had replied."""

    async def story() -> None:
        replicas, key = Replicas(2), key_of(requests_per_min=60)
        while await replicas.asks(0, key):
            pass
        clock, calls = asyncio.get_running_loop().time, replicas.store.calls
        begun, passed = clock(), 0
        while clock() - begun < 60:
            passed += await replicas.asks(0, key)
            await asyncio.sleep(0.02)
        assert 55 <= passed <= 61, "what the limit gains is let through as it comes"
        assert (replicas.store.calls - calls) / 60 <= 2 * 2 + 1, "once a second each, and once for each that comes"
        await replicas.stop()

    run(story())
