"""The day's budget of judging: one sum for all who share the folder, kept over restarts, never exceeded."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from serve_graph.learning.judging.held_sum import held_sum
from serve_graph.learning.judging.judge_budget import JudgeBudget, hold_whole

CENT = Decimal("0.01")


class Days:
    """A calendar."""

    def __init__(self) -> None:
        self.day = 1

    def __call__(self) -> datetime:
        return datetime(2026, 3, self.day, 12, tzinfo=UTC)


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.fixture
def budget(tmp_path: Path, days: Days) -> JudgeBudget:
    return JudgeBudget(tmp_path / "state" / "judge.json", Decimal("0.03"), days)


async def test_what_was_held_and_spent_is_settled_whoever_is_cancelled_meanwhile(budget: JudgeBudget) -> None:
    """The thread that writes it may wait behind others: cancelled before it began it was never run."""
    asyncio.get_running_loop().set_default_executor(one := ThreadPoolExecutor(1))
    spent, is_let_go = asyncio.Event(), threading.Event()

    async def work() -> None:
        async with held_sum(budget, CENT) as held:
            assert held is not None
            assert held.hold(2 * CENT) == "2026-03-01"
            held.settle("2026-03-01", 2 * CENT, CENT / 2)
            one.submit(is_let_go.wait, 5)
            spent.set()

    task = asyncio.ensure_future(work())
    await spent.wait()
    task.cancel()
    asyncio.get_running_loop().call_later(0.01, is_let_go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert budget.spent() == CENT / 2


async def test_what_is_held_for_whoever_is_cancelled_meanwhile_is_given_back(budget: JudgeBudget) -> None:
    asyncio.get_running_loop().set_default_executor(one := ThreadPoolExecutor(1))
    is_let_go = threading.Event()
    one.submit(is_let_go.wait, 5)
    task = asyncio.ensure_future(hold_whole(budget, CENT))
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    asyncio.get_running_loop().call_later(0.02, is_let_go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert budget.spent() == 0


def test_a_call_that_the_day_does_not_have_is_not_made_and_the_next_day_has_it(
    budget: JudgeBudget, days: Days
) -> None:
    assert [budget.hold(CENT) for _ in range(4)] == ["2026-03-01"] * 3 + [None]
    days.day = 2
    assert budget.hold(CENT) == "2026-03-02"


def test_what_was_not_spent_of_what_was_held_may_be_held_again(budget: JudgeBudget, days: Days) -> None:
    day = budget.hold(3 * CENT)
    assert day is not None
    budget.settle(day, 3 * CENT, CENT)
    assert budget.spent() == CENT
    days.day = 2
    budget.settle(day, CENT, Decimal(0))  # of a day that is over: of this one nothing is taken
    assert budget.spent() == 0


def test_replicas_and_restarts_share_one_sum(budget: JudgeBudget, days: Days) -> None:
    others = [JudgeBudget(budget.path, budget.usd_per_day, days) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        held = list(threads.map(lambda other: other.hold(CENT), others * 4))
    assert sum(day is not None for day in held) == 3
    assert JudgeBudget(budget.path, budget.usd_per_day, days).spent() == 3 * CENT
    assert budget.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"day": "2026-03-01"}', '{"day": "x", "usd": "1"}', '{"day": 1, "usd": "1"}']
    + [f'{{"day": "2026-03-01", "usd": "{usd}"}}' for usd in ("NaN", "-1", "Infinity", "much")],
)  # fmt: skip
def test_a_file_that_does_not_say_what_was_spent_is_an_error_that_names_it(budget: JudgeBudget, text: str) -> None:
    budget.hold(CENT)
    budget.path.write_text(text)
    with pytest.raises(ValueError, match=r"judge\.json does not say what was spent: remove it"):
        budget.hold(CENT)
