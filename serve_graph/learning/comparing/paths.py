"""The path that a version takes with a request: the cascade itself, over answers that are there already.

A tier that answered the request is not called again: its answer is used, and costs what it cost then. What only the
other version needs is called for, on the comparisons' budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

from router_models.types import Action, Call, Completion, Decision, Query, Verdict
from serve_graph.cascade import cascade
from serve_graph.cascade.billing import Prices, answered, total
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.interfaces import Decider, Judge
from serve_graph.cascade.steps import RequestState, StreamMode, StreamTerms
from serve_graph.errors import (
    DeadlineError,
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    PolicyUnavailableError,
    SaturatedError,
)
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.judging.judge_calls import NotJudgedError
from serve_graph.records.kept_requests import BESIDE, beside_answer

NO_TIER, FAILED = "none", "failed"


@dataclass(frozen=True, slots=True)
class PathTaken:
    """What a version makes of a request. `why_not`: why that is not known to its end; `usd` is estimated then.

    `calls`: the tiers that are asked for an answer, in order.
    """

    tier: str
    action: str
    completion: Completion | None
    usd: Decimal
    why_not: str | None = None
    calls: tuple[str, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether nothing is shown but that nothing is said."""
        return self.action == Action.ABSTAINED


class AnswerCalls(Protocol):
    """Makes answers that nobody has; NotJudgedError says why it does not, EngineError how a tier failed."""

    async def make(self, tier: str, query: Query, what: str) -> tuple[Completion, Decimal]: ...


@dataclass(slots=True)
class TierAnswers:
    """Each tier's answer to one request, and what it cost: those that there are, and those that are asked for.

    `spent_usd`: what was spent on the latter. `likely`: an answer by whose length others' costs are estimated.
    """

    calls: AnswerCalls
    answers: dict[str, Completion]
    usd: dict[str, Decimal]
    likely: tuple[Completion, float] | None = None
    spent_usd: Decimal = field(default_factory=Decimal)

    @classmethod
    def of(cls, request: ComparedRequest, calls: AnswerCalls) -> TierAnswers:
        """The answers that were made for a request."""
        state, found = request.state, dict[str, Completion]()
        if state.tried is not None and state.decision is not None:
            found[state.decision.tier] = state.tried
        if state.completion is not None:
            found[state.tier] = state.completion
        lines: dict[str, Call] = {line.tier: line for line in state.calls}
        usd = {tier: lines[tier].cost_usd for tier in found if tier in lines}
        likely = None
        if state.completion is not None and state.tier in lines:
            likely = state.completion, lines[state.tier].latency_s
        return cls(calls, found, usd, likely)

    async def get(self, tier: str, query: Query) -> Completion:
        """A tier's answer. Raises EngineRequestError where the tier refuses the request, else NotJudgedError."""
        if tier not in self.answers:
            try:
                self.answers[tier], self.usd[tier] = await self.calls.make(tier, query, "answer")
            except EngineRequestError:
                raise
            except SaturatedError as error:
                raise NotJudgedError("busy") from error
            except EngineTimeoutError as error:
                raise NotJudgedError("timeout") from error
            except EngineError as error:
                raise NotJudgedError("tier") from error
            self.spent_usd += self.usd[tier]
        return self.answers[tier]

    def likely_usd(self, tier: str, prices: Prices) -> Decimal:
        """What a tier's answer would cost if it were as long as the one that was given."""
        if tier in self.usd or self.likely is None or tier not in prices:
            return self.usd.get(tier, Decimal(0))
        completion, seconds = self.likely
        return answered(prices, tier, replace(completion, payload={}), seconds).cost_usd


@dataclass(frozen=True, slots=True)
class _KnownEngine:
    """An Engine that gives the answer at hand."""

    tier: str
    answers: TierAnswers

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        return await self.answers.get(self.tier, query)


@dataclass(frozen=True, slots=True)
class _SignalEngine:
    """An Engine that is asked for signals of answers: within the budget of comparisons, and counted there."""

    tier: str
    answers: TierAnswers

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        try:
            completion, usd = await self.answers.calls.make(self.tier, query, "answer")
        except EngineError as error:
            raise NotJudgedError("tier") from error
        self.answers.spent_usd += usd
        return completion


@dataclass(frozen=True, slots=True)
class _StrictPolicy:
    """A Decider and Judge whose failures end the comparison, instead of having the safe tier answer."""

    decider: Decider
    verifier: Judge

    async def decide(self, query: Query) -> Decision:
        try:
            return await self.decider.decide(query)
        except PolicyUnavailableError as error:
            raise NotJudgedError("router") from error

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        try:
            return await self.verifier.judge(query, completion, decision)
        except PolicyUnavailableError as error:
            raise NotJudgedError("verifier") from error


def served_path(request: ComparedRequest) -> PathTaken | None:
    """The path that a request took; None where its version might take another one with a like request.

    That is so of whatever came about because something was away, full or slow, and of answers that were judged by
    their first tokens: both versions' paths are found anew then, by the same rules.
    """
    state, stream = request.state, request.stream
    if state.action is Action.FALLBACK or state.unjudged or state.served_on_overload or state.by_prefix:
        return None
    by_first_tokens = stream is not None and stream.mode is StreamMode.PREFIX
    if by_first_tokens and state.action is not Action.ROUTED:
        return None
    if state.action is Action.ESCALATED and state.tried is None:
        return None
    if stream is not None and stream.first_token_s is not None and _went_out_in_time(request, stream):
        return None
    return PathTaken(state.tier, str(state.action), state.completion, request.usd, calls=_answering(state))


def _went_out_in_time(request: ComparedRequest, stream: StreamTerms) -> bool:
    """Whether an answer below the last tier may have been shown without its verdict, since it was late."""
    state = request.state
    return stream.mode is not StreamMode.ROUTE and state.tier != request.last_tier and state.verdict is None


async def path_of(
    context: CascadeContext, query: Query, stream: StreamTerms | None, answers: TierAnswers
) -> PathTaken:
    """The path that a version takes, its answer made whole. A stream is one of the mode verify, or of route."""
    state = RequestState()
    strict = _StrictPolicy(context.decider, context.judge)
    engines = {tier: _KnownEngine(tier, answers) for tier in context.engines}
    asking = replace(context.asked, engines={tier: _SignalEngine(tier, answers) for tier in context.asked.engines})
    context = replace(context, engines=engines, streams={}, decider=strict, judge=strict, asked=asking)
    if stream is not None:
        mode = StreamMode.VERIFY if stream.mode is StreamMode.PREFIX else stream.mode
        stream = replace(stream, mode=mode, first_token_s=None)
    why, likely = None, Decimal(0)
    try:
        await cascade.answer(context, query, None, state, stream)
    except NotJudgedError as error:
        why = str(error)
        likely = answers.likely_usd(state.tier, context.prices)
    except EngineRequestError:
        return PathTaken(NO_TIER, FAILED, None, _usd(state, answers), "refused")
    except (EngineError, DeadlineError):
        return PathTaken(NO_TIER, FAILED, None, _usd(state, answers), FAILED)
    usd = _usd(state, answers) + likely
    return PathTaken(state.tier or NO_TIER, str(state.action), state.completion, usd, why, _answering(state))


def _answering(state: RequestState) -> tuple[str, ...]:
    return tuple(line.tier for line in state.calls if line.what not in ("failed", "cancelled"))


def _usd(state: RequestState, answers: TierAnswers) -> Decimal:
    """What a path costs: of every answer what it cost when it was made."""
    made = total(answers.usd.get(line.tier, line.cost_usd) for line in state.calls)
    return made + total(line.cost_usd for line in state.overhead)


def beside_of(
    request: ComparedRequest, answers: TierAnswers, keep: Callable[[str], str | None] | None
) -> dict[str, Any]:
    """The answers that were made for a request and not shown, where they are kept (`keep` makes their texts so)."""
    if keep is None:
        return {}
    shown = request.state.tier if request.state.completion is not None else None
    others = [(tier, made) for tier, made in answers.answers.items() if tier != shown]
    return {BESIDE: [beside_answer(tier, made, keep) for tier, made in others]} if others else {}
