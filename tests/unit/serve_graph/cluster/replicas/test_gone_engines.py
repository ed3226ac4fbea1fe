"""Replicas of tiers that come and go: what they counted stays, in one sum, however many there were."""

import pytest

from serve_graph.cluster.replicas.engine_replicas import GONE_S
from serve_graph.cluster.replicas.graph_metrics import GraphMetrics
from serve_graph.cluster.replicas.snapshots import MOST_NAMES, FamilySnapshot, FoldedReplicas
from tests.unit.serve_graph.cluster.replicas.test_totals import Graph, Tier

CHEAP = frozenset({("tier", "cheap")})


class Clocked:
    """A graph of which the test says what time it is."""

    def __init__(self, ingress: int = 2) -> None:
        self.now = 0.0
        self.graph = Graph(ingress, [Tier(100)])
        for each in self.graph.replicas.values():
            each.clock = lambda: self.now

    def begun(self, n: int) -> GraphMetrics:
        graph = self.graph
        graph.requests[n], graph.waiting[n] = 0, 0.0
        made = GraphMetrics(lambda: graph.shown(n), graph.handles(), graph, graph.every(), clock=lambda: self.now)
        graph.replicas[n] = made
        return made

    async def tokens(self, n: int = 0) -> float:
        return (await self.graph.page(n))["serve_graph_engine_generation_tokens_total", CHEAP]

    async def asked_for(self, seconds: float, by: int = 0, every: float = 60.0) -> list[float]:
        """Ask for so long; returns what each page showed."""
        shown, until = [], self.now + seconds
        while self.now < until:
            self.now += every
            shown.append(await self.tokens(by))
        return shown


@pytest.mark.parametrize("ingress", [1, 2])
async def test_replicas_that_come_and_go_take_no_more_memory_and_no_count_goes_with_them(ingress: int) -> None:
    at = Clocked(ingress)
    shown = [await at.tokens()]
    for n in range(40):
        at.graph.tiers.append(Tier(10 + n))
        shown.append(await at.tokens())
        at.graph.tiers.pop()
        shown += await at.asked_for(300, by=n % ingress)
    shown += await at.asked_for(GONE_S + 120)
    assert shown == sorted(shown), "a sum never goes back"
    assert shown[-1] == 100 + sum(10 + n for n in range(40))
    for n in range(ingress):
        known = at.graph.replicas[n].totals
        assert len(known.engines) == 1
        assert known.folded_engines.count == 40
        assert sum(len(one.samples) for one in known.folded_engines.families) == 2, "one sum a counter"


async def test_a_new_sibling_is_told_the_sum() -> None:
    at = Clocked()
    at.graph.tiers.append(Tier(50))
    await at.tokens()
    at.graph.tiers.pop()
    await at.asked_for(GONE_S + 120)
    young = at.begun(9)
    assert await at.tokens(9) == 150
    assert len(young.totals.engines) == 1


async def test_nobody_is_folded_while_nobody_asks() -> None:
    at = Clocked()
    at.graph.tiers.append(Tier(50))
    await at.tokens()
    at.now += 10 * GONE_S
    assert await at.tokens() == 150
    assert at.graph.replicas[0].totals.folded_engines.count == 0


async def test_a_replica_that_does_not_answer_for_a_while_is_not_taken_for_gone() -> None:
    at = Clocked()
    quiet = Tier(50)
    at.graph.tiers.append(quiet)
    await at.tokens()
    at.graph.tiers.pop()
    await at.asked_for(GONE_S / 2)
    at.graph.tiers.append(quiet)
    await at.asked_for(GONE_S)
    at.graph.tiers.pop()
    await at.asked_for(GONE_S / 2)
    assert at.graph.replicas[0].totals.folded_engines.count == 0


async def test_a_replica_that_another_sibling_hears_is_not_taken_for_gone() -> None:
    at = Clocked()
    heard = Tier(50)
    for _ in range(20):
        at.now += 60
        heard.tokens += 1
        at.graph.tiers.append(heard)
        await at.tokens(1)
        at.graph.tiers.pop()
        await at.tokens(0)
    assert at.graph.replicas[0].totals.folded_engines.count == 0


async def test_a_replica_that_was_taken_for_gone_and_answers_again_is_counted_anew_once() -> None:
    at = Clocked()
    lost = Tier(50)
    at.graph.tiers.append(lost)
    await at.tokens()
    at.graph.tiers.pop()
    for further in (7, 5):
        before = (await at.asked_for(GONE_S + 120))[-1]
        at.graph.tiers.append(lost)
        assert await at.tokens(0) == await at.tokens(1) == before, "what it counted is in the sum"
        lost.tokens += further
        lost.running = 3
        for n in (0, 1):
            page = await at.graph.page(n)
            assert page["serve_graph_engine_generation_tokens_total", CHEAP] == before + further
            assert page["serve_graph_engine_num_requests_running", CHEAP] == 3, "it is alive"
        at.graph.tiers.pop()
    assert (await at.asked_for(GONE_S + 120))[-1] == 162
    assert len(at.graph.replicas[0].totals.engines) == 1
    assert at.graph.replicas[0].engines._before == {}


async def test_siblings_that_folded_others_meanwhile_count_each_once_all_the_same() -> None:
    at = Clocked()
    gone = [Tier(20), Tier(30)]
    at.graph.tiers += gone
    await at.tokens()
    del at.graph.tiers[1:]
    names = [(await one.counted()).replica for one in gone]
    for n, name in enumerate(names):
        each = at.graph.replicas[n]
        each.engines.taken |= each.totals.fold_engines([("cheap", name)])
    for n in (0, 1, 0):
        assert await at.tokens(n) == 150
        assert set(at.graph.replicas[n].totals.folded_engines.names) == set(names)


def test_the_names_of_those_that_are_gone_are_bounded_too() -> None:
    folded = FoldedReplicas()
    for n in range(0, 2 * MOST_NAMES, 64):
        one = (FamilySnapshot("cheap", "", "counter", (("refused", (), 1.0),)),)
        folded = folded.with_more({f"{k:032x}": one for k in range(n, n + 64)})
    assert len(folded.names) == MOST_NAMES
    assert folded.names[-1] == f"{2 * MOST_NAMES - 1:032x}"
    assert folded.count == folded.families[0].samples[0][2] == 2 * MOST_NAMES
