import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from serve_graph.cluster.load.sleep_watch import SleepWatch
from serve_graph.config.graph import GraphConfig

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


class Tier:
    """A deployment whose calls wait for its first replica."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.calls = 0
        self.fault: Exception | None = None
        self.counters = self

    def remote(self) -> Any:
        self.calls += 1
        return self._call()

    async def _call(self) -> dict[str, float]:
        await self.started.wait()
        if self.fault is not None:
            raise self.fault
        return {}


def watch(count: Callable[[], Mapping[str, int]], tier: Any = None, **least: int) -> SleepWatch:
    tiers = [
        {"engine": "echo", "name": name, "price": PRICE, "scaling": {"min_replicas": least.get(name, 1)}}
        for name in ("cheap", "frontier")
    ]
    return SleepWatch({"cheap": tier, "frontier": tier}, GraphConfig.model_validate({"tiers": tiers}), count)


async def looked(found: SleepWatch) -> frozenset[str]:
    """What is asleep once it was looked."""
    task = asyncio.create_task(found.run())
    await asyncio.sleep(0.05)
    task.cancel()
    return found.asleep.tiers


@pytest.mark.parametrize(
    ("least", "replicas", "asleep"),
    [
        ({"cheap": 0}, {"cheap": 0, "frontier": 1}, {"cheap"}),
        ({"cheap": 0}, {"frontier": 1}, {"cheap"}),
        ({"cheap": 0}, {"cheap": 2, "frontier": 1}, set()),
        ({}, {"frontier": 1}, set()),
        ({"cheap": 0, "frontier": 0}, {}, {"cheap"}),
    ],
)
async def test_only_tiers_that_may_sleep_and_have_no_replica_are_asleep_and_never_the_last(
    least: dict[str, int], replicas: dict[str, int], asleep: set[str]
) -> None:
    assert await looked(watch(lambda: replicas, **least)) == asleep


async def test_where_no_tier_may_sleep_nobody_asks_ray() -> None:
    def count() -> dict[str, int]:
        raise AssertionError("asked")

    await asyncio.wait_for(watch(count).run(), 1)


async def test_a_tier_of_which_nothing_can_be_known_is_taken_to_be_awake() -> None:
    found = watch(dict, cheap=0)
    assert await looked(found) == {"cheap"}

    def fails() -> dict[str, int]:
        raise RuntimeError("no controller")

    found.count = fails
    assert await looked(found) == set()


async def test_a_tier_is_woken_by_one_call_however_many_want_it_and_again_after_that_failed() -> None:
    tier = Tier()
    found = watch(dict, tier, cheap=0)
    for _ in range(5):
        found.wake("cheap")
    await asyncio.sleep(0)
    assert tier.calls == 1
    tier.fault = RuntimeError("it died")
    tier.started.set()
    await asyncio.sleep(0.01)
    found.wake("cheap")
    await asyncio.sleep(0)
    assert tier.calls == 2
