"""What one ingress replica has seen, others know a second later: a key's escalations, and where a conversation is."""

import asyncio
from collections.abc import Callable
from typing import Any

from router_models.types import Query
from serve_graph.access.escalations import EscalationWatch
from serve_graph.access.turns import InteractiveTraffic
from serve_graph.cluster.batches.pace import Pace
from serve_graph.cluster.replicas.news import SiblingNews
from serve_graph.config.access import EscalationWatchConfig, KeyConfig
from serve_graph.gateway.sessions import Session, Sessions, opening
from tests.fixtures.made_up_time import run

KEY = KeyConfig(name="a", sha256="0" * 64, escalations_per_h=10)


class Replica:
    """What news are of, in one replica."""

    def __init__(self, siblings: Any, clock: Callable[[], float]) -> None:
        self.watch = EscalationWatch(EscalationWatchConfig())
        self.sessions = Sessions({"cheap": 300.0}, 100, clock)
        self.traffic = InteractiveTraffic(clock)
        self.news = SiblingNews(siblings, self.watch, lambda: self.sessions, clock, self.traffic)
        self.running = asyncio.ensure_future(self.news.run())


class Siblings:
    """Replicas that hear one another."""

    def __init__(self, number: int) -> None:
        clock = asyncio.get_running_loop().time
        self.replicas = [Replica(self if number > 1 else None, clock) for _ in range(number)]

    async def all(self, method: str, argument: Any, within_s: float) -> list[Any]:
        return [getattr(each.news, method)(argument) for each in self.replicas]


def test_a_cap_on_escalations_is_of_all_replicas_together() -> None:
    async def story() -> None:
        siblings = Siblings(3)
        clock = asyncio.get_running_loop().time
        for turn in range(10):
            siblings.replicas[turn % 3].watch.note("a", True, clock())
        assert all(each.watch.refuses(KEY, clock()) is None for each in siblings.replicas)
        await asyncio.sleep(1.5)
        assert all(each.watch.refuses(KEY, clock()) is not None for each in siblings.replicas)
        await asyncio.sleep(5.0)
        assert [each.watch._since("a", -1.0) for each in siblings.replicas] == [10] * 3, "nothing is told on and on"
        for each in siblings.replicas:
            each.running.cancel()

    run(story())


def test_a_conversation_is_found_by_the_replica_that_gets_its_next_turn() -> None:
    async def story() -> None:
        siblings = Siblings(2)
        first, second = siblings.replicas
        query = Query.from_prompt("hello")
        await asyncio.sleep(100.0)
        first.sessions.keep("s", Session("cheap", 100, 10, opening(query), asyncio.get_running_loop().time()))
        assert second.sessions.get("s", query) is None
        await asyncio.sleep(1.5)
        found = second.sessions.get("s", query)
        assert found is not None
        assert (found.tier, found.prefix_tokens) == ("cheap", 100)
        assert second.sessions.get("s", Query.from_prompt("another conversation")) is None
        await asyncio.sleep(400.0)
        assert second.sessions.get("s", query) is None, "a cache that is cold is cold everywhere"
        for each in siblings.replicas:
            each.running.cancel()

    run(story())


def test_batches_give_way_to_requests_of_another_replica_as_well() -> None:
    async def story() -> None:
        first, second = (siblings := Siblings(2)).replicas
        clock = asyncio.get_running_loop().time
        pace = Pace(first.traffic, 32, 1, clock)
        await asyncio.sleep(5.0)
        assert pace.places() == 32
        second.traffic.under_way += 1
        await asyncio.sleep(1.1)
        assert pace.places() == 1
        await asyncio.sleep(60.0)
        assert pace.places() == 1, "for as long as it is under way"
        second.traffic.under_way -= 1
        second.traffic.left_at = clock()
        await asyncio.sleep(3.0)
        assert not second.traffic.is_there, "replicas do not tell one another what they have heard"
        await asyncio.sleep(3.0)
        assert pace.places() == 32
        for each in siblings.replicas:
            each.running.cancel()

    run(story())


def test_one_replica_keeps_nothing_to_tell() -> None:
    async def story() -> None:
        [alone] = Siblings(1).replicas
        alone.watch.note("a", True, 0.0)
        await alone.running
        assert alone.watch.on_note is None

    run(story())
