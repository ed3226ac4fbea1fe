"""Two tiers answer a request at the same time, and one answer is picked, within the day's budget.

Whatever keeps an answer from being picked costs the request nothing but time: the policy answers it, with the answers
that are there already, and the reason is in its record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from router_models.pricing.prices import plain_decimal
from router_models.types import Action, Completion, Query
from serve_graph.cascade.billing import total
from serve_graph.cascade.calls import call_tier, time_left
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.steps import NotPicked, Picked, RequestState
from serve_graph.config.judge import EnsembleConfig
from serve_graph.errors import EngineError
from serve_graph.learning.judging.ensemble.ensemble_metrics import EnsembleMetrics
from serve_graph.learning.judging.ensemble.picking import BilledCalls, NoPickError, Pick, Picker, by_rule
from serve_graph.learning.judging.judge_budget import JudgeBudget, hold_whole, settle_whole
from serve_graph.learning.judging.judge_questions import UnparsableError

logger = logging.getLogger(__name__)


class TwoTiers:
    """Have two tiers answer, and one of the answers picked.

    Parameters
    ----------
    config : EnsembleConfig
        How long and how much it may take.
    tiers : tuple of str
        The two, the cheaper one first.
    picker : Picker
        Who picks.
    budget : JudgeBudget
        The day's money, shared by replicas.
    most_usd : callable
        What a request may cost at most, by the tier or model that is called.
    """

    def __init__(
        self,
        config: EnsembleConfig,
        tiers: tuple[str, str],
        picker: Picker,
        budget: JudgeBudget,
        most_usd: Callable[[Query], Mapping[str, Decimal]],
    ) -> None:
        self.config = config
        self.tiers = tiers
        self.picker = picker
        self.budget = budget
        self.most_usd = most_usd
        self.metrics = EnsembleMetrics()

    async def answer(self, context: CascadeContext, query: Query, state: RequestState) -> Picked | NotPicked:
        """Answer a drawn request; what came of it is in `state.picking`, and what was not picked in `state.made`."""
        calls = BilledCalls(context, state)
        limit_s = min(self.config.timeout_s, time_left(context) / 2)
        try:
            async with self._paid(query, state), asyncio.timeout(limit_s):
                answers = await self._both(context, query, state)
                pick = by_rule(query, answers, self.config.max_chars)
                if pick is None:
                    pick = await self._asked(query, answers, calls)
        except NoPickError as error:
            return self._not(state, str(error.args[0]), error.words)
        except TimeoutError:
            return self._not(state, "timeout", f"nothing was picked within {limit_s:.3g} s")
        self.metrics.draws["picked"] += 1
        self.metrics.picks[(pick.tier, pick.by)] += 1
        self.metrics.ties += pick.tie
        self._note(state, picked=pick.tier, by=pick.by, tie=pick.tie, sure=round(pick.sure, 4), said=dict(pick.said))
        return Picked(pick.tier, _taken(state, pick.tier), pick.by)

    def note_left_out(self, why: str) -> None:
        """Count a request that was drawn and is not put to both tiers."""
        self.metrics.left_out[why] += 1

    async def _both(self, context: CascadeContext, query: Query, state: RequestState) -> dict[str, Completion]:
        """Both answers, the cheaper tier's first; in `state.made` is whatever came of either by then."""

        async def ask(tier: str) -> None:
            try:
                state.made[tier] = await call_tier(context, query, tier, Action.ENSEMBLE, time_left(context), state)
            except EngineError as error:
                state.made[tier] = error

        asking = [asyncio.ensure_future(ask(tier)) for tier in self.tiers]
        try:
            await asyncio.gather(*asking)
        finally:
            for one in asking:
                one.cancel()
            await asyncio.wait(asking)
        answers: dict[str, Completion] = {}
        for tier in self.tiers:
            made = state.made[tier]
            if isinstance(made, EngineError):
                raise NoPickError("tier", f"{tier} failed: {made.recordable}")
            answers[tier] = made
        return answers

    async def _asked(self, query: Query, answers: Mapping[str, Completion], calls: BilledCalls) -> Pick:
        try:
            return await self.picker.pick(query, answers, calls)
        except EngineError as error:
            raise NoPickError("judge", f"{self.config.judge} failed: {error.recordable}") from error
        except UnparsableError:
            raise NoPickError("unparsable", f"the reply of {self.config.judge} held no verdict") from None

    @asynccontextmanager
    async def _paid(self, query: Query, state: RequestState) -> AsyncIterator[None]:
        """Hold the most that it may cost, and settle for what it did; raises NoPickError where so much is not left."""
        most = self.most_usd(query)
        held = total(most.values())
        try:
            day = await hold_whole(self.budget, held)
        except (OSError, ValueError) as error:
            logger.error("%s cannot be read or written, so that it is spent: %s", self.budget.path, error)
            day = None
        if day is None:
            raise NoPickError("budget", f"${held:.6f} is not left of the day's ${self.budget.usd_per_day:f}")
        try:
            yield
        finally:
            usd = _spent(state)
            self.metrics.cost_usd += usd
            try:
                await settle_whole(self.budget.settle, day, held, usd + _unknown(state, most))
            except (OSError, ValueError) as error:
                logger.error("%s cannot be written: %s", self.budget.path, error)

    def _not(self, state: RequestState, why: str, words: str) -> NotPicked:
        self.metrics.draws[why] += 1
        self._note(state, why_not=words)
        return NotPicked(words, bool(state.made))

    def _note(self, state: RequestState, **found: Any) -> None:
        state.picking = {
            "tiers": list(self.tiers),
            "judge": self.config.judge,
            **found,
            "usd": plain_decimal(_spent(state)),
        }


def _taken(state: RequestState, tier: str) -> Completion:
    made = state.made.pop(tier)
    assert isinstance(made, Completion), "only an answer is picked"
    return made


def _spent(state: RequestState) -> Decimal:
    """What a request has cost so far: nothing was called for it before both tiers were."""
    return total(line.cost_usd for line in (*state.calls, *state.overhead))


def _unknown(state: RequestState, most: Mapping[str, Decimal]) -> Decimal:
    """The most that calls may have cost of which nobody knows: those that were cut off."""
    cut = [line.tier for line in state.overhead if line.what == "cancelled"]
    return total(most.get(tier, Decimal(0)) for tier in dict.fromkeys(cut))
