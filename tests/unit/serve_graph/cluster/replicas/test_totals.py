"""Counters of several replicas: each is counted once, and nothing that was counted goes away with a replica."""

import asyncio
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from serve_graph.cluster.replicas.engine_replicas import GONE_S
from serve_graph.cluster.replicas.graph_metrics import GraphMetrics, graph_metrics
from serve_graph.cluster.replicas.snapshots import ReplicaSnapshot
from serve_graph.cluster.replicas.totals import Totals, sum_of_engines
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.replica_counters import CountedReplica
from serve_graph.records.metrics import counter_family
from tests.fixtures.upstream import DirectHandle

PROMPTS = "serve_graph_prompt_distance"


class Tier(CountedReplica):
    """A replica of a tier that has made tokens, and works on some requests."""

    def __init__(self, tokens: float, running: float = 0.0, share: float = 0.0) -> None:
        self.tokens, self.running, self.share = tokens, running, share

    async def counters(self) -> dict[str, float]:
        running = {"num_requests_running": self.running, "vllm:kv_cache_usage_perc": self.share}
        return {"vllm:generation_tokens_total": self.tokens, "refused": 1.0, **running}


class Graph:
    """Ingress and tier replicas in one process, which hear one another as over Ray."""

    def __init__(self, ingress: int = 1, tier: Iterable[Tier] = ()) -> None:
        self.requests = dict.fromkeys(range(ingress), 0)
        self.waiting = dict.fromkeys(range(ingress), 0.0)
        self.tiers = list(tier)
        self.replicas = {
            n: GraphMetrics(lambda n=n: self.shown(n), self.handles(), self, self.every()) for n in self.requests
        }  # type: ignore[misc]
        self.silent = False

    def handles(self) -> dict[str, Any]:
        return {"cheap": DirectHandle(self.tiers[0])} if self.tiers else {}

    def every(self) -> dict[str, Any]:
        graph = self

        class TierReplicas:
            async def all(self, method: str, argument: object, within_s: float) -> list[Any]:
                return [await getattr(each, method)(argument) for each in graph.tiers]

        return {"cheap": TierReplicas()} if self.tiers else {}

    def shown(self, n: int) -> list[Metric]:
        count, distance = self.requests[n], HistogramMetricFamily(PROMPTS, "Distance.", labels=["version"])
        distance.add_metric(["m/1"], [("0.5", count / 2), ("10", count), ("+Inf", count)], sum_value=count * 1.5)
        return [
            counter_family("serve_graph_requests", "Requests.", ("tier",), {("cheap",): count} if count else {}),
            distance,
            GaugeMetricFamily("serve_graph_records_spooled", "Waiting.", self.waiting[n]),
            GaugeMetricFamily("serve_graph_records_waiting_seconds", "Oldest.", 60 * self.waiting[n]),
            GaugeMetricFamily("serve_graph_alarm_labels", "Known to all.", 7.0),
        ]

    async def all(self, method: str, argument: Any, within_s: float) -> list[Any]:
        if self.silent:
            return []
        found = [(each.told() if method == "told" else each.note(argument)) for each in self.replicas.values()]
        await asyncio.sleep(0)
        return found

    async def page(self, n: int = 0) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        text = await self.replicas[n].page()
        families = list(text_string_to_metric_families(text))
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}

    async def counted(self, n: int = 0) -> float:
        return (await self.page(n))["serve_graph_requests_total", frozenset({("tier", "cheap")})]


async def test_whichever_replica_is_asked_all_are_counted() -> None:
    graph = Graph(ingress=3)
    graph.requests, graph.waiting = {0: 300, 1: 301, 2: 399}, {0: 1.0, 1: 2.0, 2: 0.0}
    for n in range(3):
        page = await graph.page(n)
        assert page["serve_graph_requests_total", frozenset({("tier", "cheap")})] == 1000
        assert page["serve_graph_records_spooled", frozenset()] == 3
        assert page["serve_graph_records_waiting_seconds", frozenset()] == 120, "the oldest of any replica's"
        assert page["serve_graph_alarm_labels", frozenset()] == 7, "each replica knows all of them"
        buckets = {dict(labels)["le"]: value for (name, labels), value in page.items() if name.endswith("_bucket")}
        assert buckets == {"0.5": 500.0, "10": 1000.0, "+Inf": 1000.0}
        assert page[f"{PROMPTS}_sum", frozenset({("version", "m/1")})] == 1500


async def test_a_replica_that_is_killed_leaves_what_any_page_has_shown() -> None:
    graph = Graph(ingress=3)
    graph.requests, graph.waiting = {0: 10, 1: 20, 2: 30}, {0: 0.0, 1: 0.0, 2: 5.0}
    assert await graph.counted(0) == 60
    del graph.replicas[2]
    for n in (1, 0):
        page = await graph.page(n)
        assert page["serve_graph_requests_total", frozenset({("tier", "cheap")})] == 60
        assert page["serve_graph_records_spooled", frozenset()] == 0, "what waits is now, and of the living"
    graph.requests[0] += 5
    del graph.replicas[0]
    assert await graph.counted(1) == 60, "nobody has seen the five; the last words of a stopped replica follow"


async def test_a_replica_that_stops_leaves_everything() -> None:
    graph = Graph(ingress=2)
    graph.requests = {0: 10, 1: 20}
    telling = asyncio.ensure_future(graph.replicas[1].keep_told())
    await asyncio.sleep(0)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    del graph.replicas[1]
    assert await graph.counted() == 30


async def test_a_replica_that_does_not_answer_in_time_is_counted_as_it_was() -> None:
    graph = Graph(ingress=2)
    graph.requests = {0: 10, 1: 20}
    assert await graph.counted() == 30
    graph.silent, graph.requests = True, {0: 11, 1: 25}
    assert await graph.counted() == 31


async def test_a_tiers_replicas_are_added_and_gone_ones_stay() -> None:
    graph = Graph(tier=[Tier(100, running=2, share=0.5), Tier(50, running=1, share=0.9)])
    tier = frozenset({("tier", "cheap")})

    async def shown() -> tuple[float, ...]:
        page = await graph.page()
        names = ("generation_tokens_total", "refused", "num_requests_running", "kv_cache_usage_perc")
        return tuple(page[f"serve_graph_engine_{name}", tier] for name in names)

    assert await shown() == (150, 2, 3, 0.9)
    gone = graph.tiers.pop()
    assert await shown() == (150, 2, 2, 0.5)
    graph.tiers.append(Tier(gone.tokens))
    assert await shown() == (200, 3, 2, 0.5), "a new replica begins at 0, beside the old one's count"


async def test_one_replica_asks_nobody() -> None:
    graph = Graph()
    graph.requests[0] = 3
    alone = GraphMetrics(lambda: graph.shown(0), {})
    assert 'serve_graph_requests_total{tier="cheap"} 3.0' in await alone.page()
    await alone.keep_told()


COUNTERS = st.dictionaries(st.sampled_from(["a_total", "b_total", "refused"]), st.integers(0, 9).map(float))
KNOWN = st.builds(
    Totals,
    st.dictionaries(st.sampled_from("xyz"), st.integers(1, 5).map(lambda n: ReplicaSnapshot(n, ()))),
    st.dictionaries(st.tuples(st.just("cheap"), st.sampled_from("pq")), COUNTERS),
)


def merged(*parts: Totals) -> Totals:
    whole = Totals()
    for part in parts:
        whole.merge(part)
    return whole


@given(KNOWN, KNOWN, KNOWN)
def test_what_replicas_tell_one_another_may_come_in_any_order_and_twice(a: Totals, b: Totals, c: Totals) -> None:
    whole = merged(a, b, c)
    assert merged(c, merged(b, a), a, c) == whole
    for part in (a, b, c):
        for tier, counters in sum_of_engines(part, ()).items():
            assert all(sum_of_engines(whole, ())[tier][name] >= value for name, value in counters.items())


class Restarts:
    """A graph whose ingress replicas come and go by a clock; the test says when replicas tell one another."""

    def __init__(self) -> None:
        self.graph, self.now = Graph(ingress=2), 0.0
        for each in self.graph.replicas.values():
            each.clock = lambda: self.now

    def begun(self, n: int, requests: int) -> GraphMetrics:
        self.graph.requests[n], self.graph.waiting[n] = requests, 0.0
        made = GraphMetrics(lambda: self.graph.shown(n), {}, self.graph, clock=lambda: self.now)
        self.graph.replicas[n] = made
        return made

    async def tell(self, seconds: float = 0.0, step_s: float = 60.0) -> None:
        """Everybody folds and tells, as `keep_told` does, until so many seconds have passed."""
        until = self.now + seconds
        while True:
            for each in list(self.graph.replicas.values()):
                each.fold_gone()
                each.told()
                await self.graph.all("note", each.totals, 1.0)
            if self.now >= until:
                return
            self.now += step_s


async def test_replicas_that_are_gone_for_long_are_one_sum_however_many_there_were() -> None:
    at = Restarts()
    at.graph.requests = {0: 10, 1: 20}
    for n in range(2, 12):
        at.begun(n, 100)
        await at.tell()
        at.graph.waiting[n] = 5.0
        del at.graph.replicas[n]
    assert await at.graph.counted() == 1030
    assert len(at.graph.replicas[0].totals.ingress) == 12
    await at.tell(GONE_S + 120)
    for n in (0, 1):
        assert len(at.graph.replicas[n].totals.ingress) == 2
        page = await at.graph.page(n)
        assert page["serve_graph_requests_total", frozenset({("tier", "cheap")})] == 1030
        assert page[f"{PROMPTS}_bucket", frozenset({("version", "m/1"), ("le", "0.5")})] == 515
        assert page["serve_graph_records_spooled", frozenset()] == 0
    young = at.begun(99, 1)
    await at.tell()
    assert await at.graph.counted(99) == 1031, "a new replica is told the sum"
    assert len(young.totals.ingress) == 3


async def test_siblings_that_folded_others_meanwhile_count_each_once_all_the_same() -> None:
    at = Restarts()
    at.graph.requests = {0: 10, 1: 20}
    gone = [at.begun(n, 100 * n) for n in (2, 3)]
    await at.tell()
    for n in (2, 3):
        del at.graph.replicas[n]
    for keeper, name in ((0, gone[0].name), (1, gone[1].name)):
        totals = at.graph.replicas[keeper].totals
        at.graph.replicas[keeper]._taken |= totals.fold([name])
    await at.tell()
    for n in (0, 1):
        assert await at.graph.counted(n) == 530
        assert set(at.graph.replicas[n].totals.folded.names) == {each.name for each in gone}


async def test_a_replica_that_is_silent_for_a_while_is_not_taken_for_gone() -> None:
    at = Restarts()
    at.graph.requests = {0: 10, 1: 20}
    await at.tell()
    quiet = at.graph.replicas.pop(1)
    await at.tell(GONE_S / 2)
    at.graph.replicas[1], at.graph.requests[1] = quiet, 25
    await at.tell(GONE_S)
    assert await at.graph.counted() == 35
    assert at.graph.replicas[0].totals.folded.names == ()


async def test_a_replica_that_was_cut_off_and_taken_for_gone_is_not_counted_twice() -> None:
    at = Restarts()
    at.graph.requests = {0: 10, 1: 20}
    await at.tell()
    quiet = at.graph.replicas.pop(1)
    await at.tell(GONE_S + 120)
    assert quiet.name in at.graph.replicas[0].totals.folded.names
    at.graph.replicas[1] = quiet
    assert await at.graph.counted(1) == await at.graph.counted(0) == 30
    at.graph.requests[1] = 25
    assert await at.graph.counted(1) == await at.graph.counted(0) == 35
    assert (await at.graph.page(0))[f"{PROMPTS}_sum", frozenset({("version", "m/1")})] == 35 * 1.5


async def test_a_tier_that_may_sleep_is_not_woken_by_who_reads_the_page() -> None:
    asked: list[str] = []

    class Handle:
        def __getattr__(self, name: str) -> Any:
            return self

        def remote(self) -> Any:
            asked.append("woken")
            return asyncio.sleep(0, Tier(1))

    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    sleeping = {"name": "cheap", "engine": "echo", "price": price, "scaling": {"min_replicas": 0, "max_replicas": 1}}
    config = GraphConfig.model_validate({"tiers": [sleeping, {"name": "frontier", "engine": "echo", "price": price}]})
    handles: Any = {"cheap": Handle(), "frontier": DirectHandle(Tier(5))}
    page = await graph_metrics(config, list, handles, None).page()
    assert asked == []
    assert 'serve_graph_engine_generation_tokens_total{tier="frontier"} 5.0' in page
