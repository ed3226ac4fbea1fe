"""What judging may take: a queue, memory, a share of a tier's places, a day's money."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from router_models.types import Message, Query, Usage
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.errors import EngineTimeoutError, SaturatedError
from tests.unit.serve_graph.learning.judging.judged import (
    Critic,
    Judged,
    an_answer,
    running,
    until,
)


async def test_what_does_not_fit_the_queue_is_shed(judged: Callable[..., Judged]) -> None:
    at = judged(max_queued=3, concurrency=1)
    for i in range(10):
        at.judge.offer(an_answer(decision=f"dec-{i}"))
    assert (at.metrics.shed, at.metrics.waiting) == ({"queue": 7}, 3)
    async with running(at.judge):
        await until(lambda: len(at.labels) == 3)
    assert [label.decision for label in at.labels] == ["dec-0", "dec-1", "dec-2"]


async def test_answers_that_wait_fill_no_memory(judged: Callable[..., Judged]) -> None:
    """Requests of a short text may hold much beside it; those that end make room."""
    at = judged(max_queued=50, concurrency=1)
    tool = {"type": "function", "function": {"name": "f", "description": "x" * (12 * 1024 * 1024)}}
    query = Query((Message("user", "2 + 2?"),), {}, {"tools": [tool]})
    for _ in range(4):
        at.judge.offer(an_answer(query=query))
    assert (at.metrics.shed, at.metrics.waiting) == ({"queue": 2}, 2)
    async with running(at.judge):
        await until(lambda: len(at.labels) == 2)
        at.judge.offer(an_answer(query=query))
        await until(lambda: len(at.labels) == 3)


async def test_where_the_tier_is_busy_the_judge_makes_way(judged: Callable[..., Judged]) -> None:
    busy = judged(tiers={"is_busy": lambda tier: True})
    full = judged(FakeEngine(error=SaturatedError("full")))
    for at in (busy, full):
        assert await at.one() is None
        assert (at.metrics.shed, at.metrics.failed) == ({"busy": 1}, {})
    assert busy.critic.queries == []


async def test_a_tier_has_no_more_calls_of_the_judge_at_once_than_it_can_spare(judged: Callable[..., Judged]) -> None:
    at = judged(Critic(slow_s=0.02), concurrency=8, tiers={"spare": {"critic": 1}})
    most = 0
    async with running(at.judge):
        for i in range(4):
            at.judge.offer(an_answer(decision=f"dec-{i}"))
        while len(at.labels) < 4:
            most = max(most, len(at.critic.queries) - len(at.labels))
            await asyncio.sleep(0.002)
    assert most == 1


async def test_the_budget_stops_it_and_what_was_held_is_settled(judged: Callable[..., Judged]) -> None:
    at = judged(budget_usd_per_day="0.00005", tiers={"most_usd": lambda tier, query: Decimal("0.00003")})
    labels = [await at.one(decision=f"dec-{i}") for i in range(4)]  # 0.00002 each
    assert [label is not None for label in labels] == [True, True, False, False]
    assert at.metrics.shed == {"budget": 2}
    assert at.judge.calls.budget.spent() == Decimal("0.00004")


async def test_calls_that_time_out_or_are_not_counted_cost_what_was_held(judged: Callable[..., Judged]) -> None:
    held = {"most_usd": lambda tier, query: Decimal("0.25")}
    for critic, spent in (
        (FakeEngine(slow_s=30.0), "0.25"),
        (Critic(usage=Usage()), "0.50"),
        (FakeEngine(error=EngineTimeoutError("late")), "0.75"),
        (FakeEngine(error=SaturatedError("full")), "0.75"),
    ):
        at = judged(critic, timeout_s=0.01, tiers=held)
        await at.one()
        assert at.judge.calls.budget.spent() == Decimal(spent)


async def test_a_damaged_budget_judges_nothing(judged: Callable[..., Judged], tmp_path: Path) -> None:
    (tmp_path / "judge.json").write_text("{")
    at = judged()
    assert await at.one() is None
    assert at.metrics.shed == {"budget": 1}


async def test_cancelled_it_ends_the_call_that_is_under_way(judged: Callable[..., Judged]) -> None:
    at = judged(FakeEngine(slow_s=30.0))
    async with running(at.judge):
        at.judge.offer(an_answer())
        await until(lambda: at.critic.queries)
    assert (at.critic.closed, at.labels) == (1, [])
