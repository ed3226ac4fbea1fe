"""The calls that judging takes: in places that requests leave, under the day's budget, on no request's bill."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from router_models.types import Attempt, Completion, Query
from serve_graph.cascade.billing import Prices, answered, charged_attempts, total, unanswered
from serve_graph.cascade.interfaces import Engine
from serve_graph.errors import EngineError, EngineTimeoutError
from serve_graph.learning.judging.call_metrics import CallMetrics
from serve_graph.learning.judging.judge_budget import Budget, hold_whole, settle_whole

logger = logging.getLogger(__name__)
LOOKS_AGAIN_S = 0.1
"""How often a call that waits for a tier looks whether it is still busy."""


class NotJudgedError(Exception):
    """The judge is not asked about an answer: `args[0]` says why."""


@dataclass(frozen=True, slots=True)
class JudgeTiers:
    """What a judge works with: the tiers' engines and prices, what a call may cost at most, and which tiers are busy.

    `spare`: how many calls a tier may have from here at once; where it says nothing, as many as the judge makes.
    """

    engines: Mapping[str, Engine]
    prices: Prices
    most_usd: Callable[[str, Query], Decimal] = lambda tier, query: Decimal(0)
    is_busy: Callable[[str], bool] = lambda tier: False
    spare: Mapping[str, int] = field(default_factory=dict)


class JudgeCalls:
    """Call tiers for the judge.

    Parameters
    ----------
    tiers : JudgeTiers
        Whom to call.
    budget : Budget
        The day's money.
    metrics : CallMetrics
        Where calls are counted, failed ones too.
    concurrency : int
        Calls of one tier at once, at most.
    timeout_s : float
        Seconds that each may take.
    waits_s : float
        Seconds for which a call waits for a tier that is busy, before it is given up.
    """

    def __init__(
        self,
        tiers: JudgeTiers,
        budget: Budget,
        metrics: CallMetrics,
        concurrency: int,
        timeout_s: float,
        waits_s: float = 0.0,
    ) -> None:
        self.waits_s = waits_s
        self.tiers = tiers
        self.budget = budget
        self.metrics = metrics
        self.timeout_s = timeout_s
        most, spare = concurrency, tiers.spare
        self._places = {tier: asyncio.Semaphore(min(most, spare.get(tier, most))) for tier in tiers.engines}

    def paid_from(self, budget: Budget) -> JudgeCalls:
        """The same calls, in the same places, on another budget."""
        other = copy.copy(self)
        other.budget = budget
        return other

    async def make(self, tier: str, query: Query, what: str) -> tuple[Completion, Decimal]:
        """Return a tier's answer, and its dollars; `what` it is for: `judging` or `answer`.

        Raises NotJudgedError where the tier is busy with requests or the budget is spent, EngineError where it fails.
        """
        async with self._places[tier]:
            await self._make_way(tier)
            held = self.tiers.most_usd(tier, query)
            day = await self._hold(held)
            started, cost = time.perf_counter(), held  # of a call that is cut off nobody knows what it cost
            try:
                await self._make_way(tier)  # holding took its time
                completion = await self.tiers.engines[tier].generate(query, self.timeout_s)
                line = answered(self.tiers.prices, tier, completion, time.perf_counter() - started)
                self.metrics.add_call(replace(line, what=what))
                spent = line.cost_usd + self._count_charged(tier, completion.attempts)
                cost = spent if line.metered else max(held, spent)
                return completion, spent
            except NotJudgedError:
                cost = Decimal(0)
                raise
            except EngineError as error:
                spent = self._count_failed(tier, time.perf_counter() - started, error)
                cost = max(held, spent) if isinstance(error, EngineTimeoutError) else spent
                raise
            finally:
                await self._settle(day, held, cost)

    async def _make_way(self, tier: str) -> None:
        """Wait while a tier is busy with requests, which come first; raises NotJudgedError where it stays so."""
        until = time.monotonic() + self.waits_s
        while self.tiers.is_busy(tier):
            if time.monotonic() >= until:
                raise NotJudgedError("busy")
            await asyncio.sleep(min(LOOKS_AGAIN_S, self.waits_s))

    def _count_failed(self, tier: str, seconds: float, error: EngineError) -> Decimal:
        """The dollars of a call that failed: its time, and the tokens of attempts that were charged all the same."""
        line = unanswered(self.tiers.prices, tier, seconds, error)
        self.metrics.add_call(line)
        return line.cost_usd + self._count_charged(tier, error.attempts)

    def _count_charged(self, tier: str, attempts: Sequence[Attempt]) -> Decimal:
        """The dollars of attempts that gave no answer and were charged all the same."""
        lines = charged_attempts(self.tiers.prices, tier, attempts)
        for line in lines:
            self.metrics.add_call(replace(line, what="failed"))
        return total(line.cost_usd for line in lines)

    async def _hold(self, usd: Decimal) -> str:
        try:
            day = await hold_whole(self.budget, usd)
        except (OSError, ValueError) as error:
            logger.error("%s cannot be read or written, so that it is spent: %s", self.budget.path, error)
            raise NotJudgedError("budget") from error
        if day is None:
            raise NotJudgedError("budget")
        return day

    async def _settle(self, day: str, held: Decimal, usd: Decimal) -> None:
        if held == usd:
            return
        try:
            await settle_whole(self.budget.settle, day, held, usd)
        except (OSError, ValueError) as error:
            logger.error("%s cannot be written: %s", self.budget.path, error)
