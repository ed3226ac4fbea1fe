"""What the comparing of versions may take: its share, its queue, its time, its memory and its money."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from router_models.monitoring.canary import CanaryEvidence, CanaryLimits, PairedRequest
from router_models.types import Query
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.learning.comparing.tally import tallied, tally_sentences
from tests.unit.serve_graph.learning.comparing.compared import (
    ACCEPTS,
    ESCALATES,
    FRONTIER_USD,
    PAIR_USD,
    SENDS_UP,
    Critic,
    Rig,
    served,
    version,
)


def test_the_share_that_is_drawn_is_the_rollouts_and_grows_with_it(rig: Callable[..., Rig]) -> None:
    comparer, names = rig().comparer, [f"dec-{i}" for i in range(4000)]
    few, more = ({name for name in names if comparer.draws(name, rate)} for rate in (0.05, 0.2))
    assert 140 <= len(few) <= 260
    assert 700 <= len(more) <= 900
    assert few < more
    assert comparer.draws("dec-1", 1.0)
    assert not comparer.draws("dec-1", 0.0)


async def test_offering_waits_for_nothing_and_what_does_not_fit_is_shed(rig: Callable[..., Rig]) -> None:
    """A worker waits for a tier; requests are done with microseconds each, and the event loop stays theirs."""
    at = rig(max_queued=50, concurrency=1, engines={"frontier": FakeEngine(slow_s=0.1)})
    request = await served(ACCEPTS, SENDS_UP)
    async with at.running(until=lambda: at.rows):
        at.comparer.offer(request)
        async with asyncio.timeout(5):
            while not at.engines["frontier"].queries:
                await asyncio.sleep(0)
        started = time.thread_time()
        for i in range(1_000):
            at.comparer.offer(replace(request, decision=f"dec-{i + 2}"))
        assert (time.thread_time() - started) / 1_000 < 0.0005
        assert (at.metrics.shed, at.metrics.waiting, at.rows) == ({"queue": 950}, 50, [])
    assert at.rows[0].decision == "dec-1"


async def test_a_failed_request_is_a_row_that_counts_against_the_candidate_however_busy_it_is(
    rig: Callable[..., Rig],
) -> None:
    made = rig(gives_way=lambda: True)
    failed = replace(await served(ACCEPTS, ESCALATES, arm="candidate"), failed=True)
    made.comparer.offer(failed)
    async with made.running(lambda: made.rows):
        pass
    [row] = made.rows
    assert (row.candidate_action, row.ungraded_reason, row.same_answer, row.stable_right) == (
        "failed", "failed", False, None,
    )  # fmt: skip
    assert made.asked() == {}
    pairs = [PairedRequest(True, None, None, None, None, 0.001, 0.001)] * 300
    verdicts = [CanaryEvidence.of(found, [], CanaryLimits()).verdict for found in (pairs, [row.paired()] * 20 + pairs)]
    assert verdicts == ["promote", "go_on"]


async def test_comparisons_give_way_before_anything_is_known_of_them(rig: Callable[..., Rig]) -> None:
    at, asked = rig(gives_way=lambda: True), list[str]()

    def context_of(arm: str) -> CascadeContext:
        asked.append(arm)
        return ACCEPTS

    async with at.running(until=lambda: at.metrics.shed):
        at.comparer.offer(replace(await served(ACCEPTS, SENDS_UP), context_of=context_of))
    assert (at.metrics.shed, at.rows, asked) == ({"busy": 1}, [], [])


async def test_what_is_busy_for_a_moment_is_waited_for_before_a_comparison_and_within_it(
    rig: Callable[..., Rig],
) -> None:
    began = time.monotonic()
    at = rig(
        gives_way=lambda: time.monotonic() - began < 0.05,
        tiers={"is_busy": lambda tier: time.monotonic() - began < 0.15},
        within_s=4,
    )
    async with at.running(until=lambda: at.rows):
        at.comparer.offer(await served(ACCEPTS, SENDS_UP))
    assert (at.rows[0].ungraded_reason, at.rows[0].candidate_right, at.metrics.shed) == (None, 1.0, {})


async def test_a_comparison_ends_in_its_time_and_what_waited_for_it_too_long_is_shed(rig: Callable[..., Rig]) -> None:
    at = rig(concurrency=1, within_s=0.2, engines={"frontier": FakeEngine("frontier says", slow_s=5.0)})
    async with at.running(until=lambda: at.rows and at.metrics.shed):
        for decision in ("dec-1", "dec-2"):
            at.comparer.offer(await served(ACCEPTS, SENDS_UP, decision=decision))
    [row] = at.rows
    assert (row.decision, row.ungraded_reason) == ("dec-1", "timeout")
    assert row.candidate_usd > row.stable_usd, "what took too long is no cheaper than the last tier's answer"
    assert at.metrics.shed == {"busy": 1}


@pytest.mark.parametrize("candidate", [version(), SENDS_UP], ids=["alike", "differing"])
async def test_where_its_likely_cost_is_not_left_a_comparison_is_shed_whatever_it_would_show(
    rig: Callable[..., Rig], candidate: CascadeContext
) -> None:
    """Left out once it is known that versions differ, what remains would look alike; counted as lost, a spent budget
    would hold back every candidate.
    """
    asked: list[str] = []

    def context_of(arm: str) -> CascadeContext:
        asked.append(arm)
        return candidate

    at = rig(budget_usd_per_day="0.0013", tiers={"most_usd": lambda tier, query: Decimal("0.0002")})
    await at.comparer.compare(replace(await served(ACCEPTS, candidate), context_of=context_of))
    assert (at.rows, asked, at.asked(), at.metrics.shed) == ([], [], {}, {"budget": 1})
    assert at.comparer.budget.spent() == 0
    richer = rig(budget_usd_per_day="0.0014", tiers={"most_usd": lambda tier, query: Decimal("0.0002")}, max_queued=7)
    for _ in range(2):
        await richer.compared(ACCEPTS, version())
    assert (len(richer.rows), richer.comparer.budget.spent()) == (2, 0), "what is not needed is given back"


async def test_what_a_comparison_spends_beyond_its_likely_cost_is_the_days_too_and_ends_there(
    rig: Callable[..., Rig],
) -> None:
    """A judge's prompt of long answers costs more than was held for it."""

    def most_usd(tier: str, query: Query) -> Decimal:
        return Decimal("0.0001") if "cheap says" not in query.messages[0].content else Decimal("0.0008")

    left = rig(budget_usd_per_day="0.002", tiers={"most_usd": most_usd}, max_queued=9)
    assert (await left.compared(ACCEPTS, SENDS_UP)).ungraded_reason is None
    assert left.comparer.budget.spent() == FRONTIER_USD + PAIR_USD
    spent = rig(budget_usd_per_day="0.0007", tiers={"most_usd": most_usd}, concurrency=1, max_queued=9)
    assert (await spent.compared(ACCEPTS, SENDS_UP)).ungraded_reason == "budget"
    assert spent.comparer.budget.spent() == FRONTIER_USD


async def test_every_offer_of_a_rollout_is_told_of_by_what_became_of_it(rig: Callable[..., Rig]) -> None:
    at = rig(max_queued=2, concurrency=1, critic=Critic(says="first"))
    for n in range(3):
        at.comparer.offer(await served(ACCEPTS, SENDS_UP, decision=f"dec-{n}"))
    async with at.running(until=lambda: len(at.rows) == 2):
        pass
    told = await at.comparer.told("rol-1")
    assert (told["offered"], told["compared"], told["ungraded"], told["shed"]) == (3, 2, {}, {"queue": 1})
    assert told["ties"] == 2
    assert (told["spent_usd"], told["budget_usd"]) == (f"{2 * (FRONTIER_USD + PAIR_USD):f}", "1")
    assert (await at.comparer.told("rol-2"))["offered"] == 0
    [offered, spent, starved] = tally_sentences(tallied({}, [told]))
    assert offered == ("offered to be compared: 3 requests; compared: 2 (2 ties); waiting: 0; shed: 1 (1 queue)")
    assert spent == "spent on comparing today: $0.00048 of $1"
    assert "comparisons.concurrency" in starved
    assert len(tally_sentences(tallied({}, [told | {"shed": {}, "offered": 2}]))) == 2
    for n in range(9):
        at.comparer.tally(f"rol-{n}")
    assert len(at.comparer._tallies) == 4


async def test_comparisons_give_way_while_the_event_loop_is_busy(rig: Callable[..., Rig]) -> None:
    at = rig()
    at.comparer.busy_loop_s = -1.0  # however quick a turn of it is
    async with at.running(until=lambda: at.metrics.shed):
        at.comparer.offer(await served(ACCEPTS, version()))
    assert (at.metrics.shed, at.rows) == ({"busy": 1}, [])


LARGE_PICTURE = {"type": "image_url", "image_url": {"url": "x" * (12 * 1024 * 1024)}}
LARGE_TOOL = {"type": "function", "function": {"name": "f", "description": "x" * (12 * 1024 * 1024)}}


@pytest.mark.parametrize(
    "parameters",
    [{"messages": [{"role": "user", "content": [LARGE_PICTURE]}]}, {"tools": [LARGE_TOOL]}],
    ids=["picture", "tool"],
)
async def test_requests_that_wait_fill_no_memory(rig: Callable[..., Rig], parameters: dict[str, Any]) -> None:
    """Requests that hold more than all that may wait are shed; those that end make room."""
    at = rig()
    request = await served(ACCEPTS, version(), query=Query((), {}, parameters))
    for _ in range(4):
        at.comparer.offer(request)
    assert (at.metrics.shed, at.metrics.waiting) == ({"queue": 2}, 2)
    async with at.running(until=lambda: len(at.rows) == 3):
        async with asyncio.timeout(5):
            while len(at.rows) < 2:
                await asyncio.sleep(0.005)
        at.comparer.offer(request)


async def test_a_row_that_cannot_be_made_ends_no_worker(rig: Callable[..., Rig]) -> None:
    def unsliced() -> tuple[str, ...]:
        raise ValueError("no such slicer")

    at = rig(concurrency=1)
    async with at.running(until=lambda: at.rows):
        at.comparer.offer(await served(ACCEPTS, version(), slices=unsliced))
        at.comparer.offer(await served(ACCEPTS, version(), decision="dec-2"))
    assert [row.decision for row in at.rows] == ["dec-2"]
    assert at.metrics.shed == {"error": 1}
