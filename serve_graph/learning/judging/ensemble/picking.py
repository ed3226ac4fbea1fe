"""Which of two answers a caller gets, and how sure that is: by rules that read them, a judge, or a verifier model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from router_models.estimators.asked_signals import asked_signal
from router_models.estimators.verifiers.checks.formats import declares_shape, read_answer
from router_models.types import Completion, Query
from serve_graph.cascade.asked import AskedCall, make_call
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.steps import RequestState
from serve_graph.config.judge import JudgeConfig
from serve_graph.learning.judging.judge_prompts import (
    DEFAULT_PROMPTS,
    conversation_text,
    fresh_nonce,
    why_not_judged,
)
from serve_graph.learning.judging.judge_questions import JudgeQuestions, UnparsableError

PICKING = "picking"
"""What a judge's call is for, on the bill."""
BY_RULE, BY_TEXT = "check", "same text"
"""Who picks where nobody has to be asked."""


class NoPickError(Exception):
    """Nothing is picked: `args[0]` says why in one word or two, `args[1]`, where it is there, in more."""

    @property
    def words(self) -> str:
        """Why, in full."""
        return ": ".join(str(arg) for arg in self.args)


@dataclass(frozen=True, slots=True)
class Pick:
    """The answer that was picked, of the tier `tier`, by whom.

    `tie`: no answer was found better, so that the cheaper one is picked. `sure`: of a judge the share of its two
    orders that say so (1, or 1/2 of a tie); of a verifier model the probability that its pick is preferred, the
    logistic function of the difference of its scores (Bradley and Terry 1952); of a rule 1. `said`: what was said of
    each tier's answer: the share of orders in which it was right, its score, or what it breaks.
    """

    tier: str
    by: str
    tie: bool
    sure: float
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class BilledCalls:
    """Calls of one request to whoever picks: on its bill, however they end."""

    context: CascadeContext
    state: RequestState

    async def make(self, tier: str, query: Query, what: str) -> tuple[Completion, Decimal]:
        """Return a reply and its dollars; raises EngineError."""
        reply = await make_call(self.context, AskedCall(what, tier, query), self.state, math.inf)
        return reply, self.state.overhead[-1].cost_usd


class Picker(Protocol):
    """Picks one of two answers, the cheaper tier's first; raises EngineError, or UnparsableError without a word."""

    async def pick(self, query: Query, answers: Mapping[str, Completion], calls: BilledCalls) -> Pick: ...


@dataclass(frozen=True, slots=True)
class JudgePicker:
    """A tier is asked which of the answers are right, in both orders at the same time.

    An answer is picked where both orders agree that it alone is right; else it is a tie.
    """

    config: JudgeConfig
    source: str
    nonce: Callable[..., str] = fresh_nonce

    async def pick(self, query: Query, answers: Mapping[str, Completion], calls: BilledCalls) -> Pick:
        (cheap, one), (last, other) = answers.items()
        questions = JudgeQuestions(self.config, _AsPicking(calls), self.nonce)
        template = self.config.prompt or DEFAULT_PROMPTS["pairwise"]
        found = await questions.compare_at_once(template, conversation_text(query), one.text, other.text)
        if found.means is not None:
            return Pick(cheap, self.source, True, 0.5, dict(zip((cheap, last), found.means, strict=True)))
        tie = found.first == found.second
        said = {cheap: float(bool(found.first)), last: float(bool(found.second))}
        return Pick(last if found.second and not tie else cheap, self.source, tie, 0.5 if tie else 1.0, said)


@dataclass(frozen=True, slots=True)
class _AsPicking:
    """A judge's calls, under the name that they have on a request's bill."""

    calls: BilledCalls

    async def make(self, tier: str, query: Query, what: str) -> tuple[Completion, Decimal]:
        return await self.calls.make(tier, query, PICKING)


@dataclass(frozen=True, slots=True)
class RewardPicker:
    """A verifier model scores both answers at the same time; the higher score is picked, of equal ones the cheaper."""

    signal: str
    verifier: str

    async def pick(self, query: Query, answers: Mapping[str, Completion], calls: BilledCalls) -> Pick:
        row, settings = asked_signal(self.signal), calls.context.asked.settings
        asked = [row.calls(query, answer, settings)[0] for answer in answers.values()]
        making = [asyncio.ensure_future(calls.make(self.verifier, one, self.signal)) for one in asked]
        try:
            replies = await asyncio.gather(*making)
        finally:
            for one in making:
                one.cancel()
            await asyncio.wait(making)
        scores = {
            tier: row.read(answer, [reply], settings)
            for (tier, answer), (reply, _) in zip(answers.items(), replies, strict=True)
        }
        cheap, last = scores
        if not all(map(math.isfinite, scores.values())):
            raise UnparsableError
        gap = scores[last] - scores[cheap]
        sure = 1 / (1 + math.exp(-min(abs(gap), 700.0)))
        return Pick(last if gap > 0 else cheap, self.signal, gap == 0, sure, scores)


def by_rule(query: Query, answers: Mapping[str, Completion], max_chars: int) -> Pick | None:
    """Return the pick that no model is asked for; None where one is.

    Of two answers of which one breaks the shape that the request declares, or says nothing, the other is picked; of
    two equal texts the cheaper. Raises NoPickError for answers that nobody reads as text, or that are too long.
    """
    (cheap, one), (last, other) = answers.items()
    for answer in (one, other):
        if (why := why_not_judged(query, answer, max_chars)) is not None:
            raise NoPickError(why)
    if one.text.strip() == other.text.strip():
        if not one.text.strip():
            raise NoPickError("no text")
        return Pick(cheap, BY_TEXT, True, 0.5)
    faults = {tier: fault for tier, answer in answers.items() if (fault := _fault(query, answer)) is not None}
    if len(faults) == 1:
        return Pick(last if cheap in faults else cheap, BY_RULE, False, 1.0, faults)
    if len(conversation_text(query)) + len(one.text) + len(other.text) > max_chars:
        raise NoPickError("too long")
    return None


def _fault(query: Query, answer: Completion) -> str | None:
    if not answer.text.strip():
        return "an answer without text"
    return read_answer(query, answer).fault if declares_shape(query) else None
