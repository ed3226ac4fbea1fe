"""A sum of the day's budget that is held before work of several calls begins, so that it is not run out of midway."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from serve_graph.learning.judging.judge_budget import JudgeBudget, hold_whole, settle_whole

logger = logging.getLogger(__name__)


class HeldSum:
    """A sum that was held of a day's budget for several calls: each takes its part of it, and of the budget what the
    sum lacks. `give_back` returns what is left.
    """

    def __init__(self, budget: JudgeBudget, day: str, usd: Decimal) -> None:
        self.budget, self.path = budget, budget.path
        self.day, self.left = day, usd

    def hold(self, usd: Decimal) -> str | None:
        """Take an amount, as `JudgeBudget.hold`."""
        if (lacks := usd - self.left) > 0:
            day = self.budget.hold(lacks)
            if day != self.day:  # nothing is left, or another day has begun
                if day is not None:
                    self.budget.settle(day, lacks, Decimal(0))
                return None
            self.left = usd
        self.left -= usd
        return self.day

    def settle(self, day: str, held: Decimal, usd: Decimal) -> None:
        """Keep what a call did not take."""
        self.left += held - usd

    def give_back(self) -> None:
        """Return what is left; what was spent beyond the sum is added to the day's."""
        left, self.left = self.left, Decimal(0)
        self.budget.settle(self.day, left, Decimal(0))


@asynccontextmanager
async def held_sum(budget: JudgeBudget, usd: Decimal) -> AsyncIterator[HeldSum | None]:
    """Hold an amount of the day's budget, and give back what is left of it; None where the budget has less."""
    held = None
    try:
        day = await hold_whole(budget, usd)
        held = None if day is None else HeldSum(budget, day, usd)
    except (OSError, ValueError) as error:
        logger.error("%s cannot be read or written, so that it is spent: %s", budget.path, error)
    try:
        yield held
    finally:
        if held is not None:
            try:
                await settle_whole(held.give_back)
            except (OSError, ValueError) as error:
                logger.error("%s cannot be written: %s", budget.path, error)
