"""The calls a request makes (router, tier, verifier) and what goes on the bill for each. Every one gives an event."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from router_models.estimators.verifiers.checks.formats import declares_shape, read_answer
from router_models.types import Action, Attempt, Completion, Decision, Query, Verdict
from serve_graph.cascade.asked import AskedCall, asked_calls, first_asked, with_first_signals, with_signals
from serve_graph.cascade.billing import answered, charged_attempts, timed, unanswered
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.steps import (
    Answered,
    CascadeEvent,
    Decided,
    Do,
    Judged,
    PolicyFailed,
    RequestState,
    Rules,
    Started,
    Step,
    StreamTerms,
    TierFailed,
)
from serve_graph.errors import EngineError, PolicyUnavailableError
from serve_graph.protocol.chunks import each_choice
from serve_graph.protocol.responses import usage_of

MAY_BE_LONGER = "an answer that may be longer than any certified one is judged whole"


def start(
    context: CascadeContext,
    query: Query,
    forced: str | None,
    stream: StreamTerms | None = None,
    judged_whole: str | None = None,
) -> Started:
    """The first event of a request with this context; `stream` None where its answer is wanted whole."""
    left_s, policy, deadline = time_left(context), context.policy, context.deadline
    rules = Rules(
        policy,
        policy.top,
        policy.judges_top,
        context.safe_tier,
        forced,
        stream,
        judged_whole or (None if context.longest_answer is None else MAY_BE_LONGER),
        context.forbids_abstaining,
        context.quality_floor is not None,
        deadline.seconds,
        deadline.reserve_s,
        context.longest_answer,
        declares_shape(query),
        context.ensemble is not None,
    )
    return Started(rules, left_s)


async def perform(context: CascadeContext, query: Query, step: Step, state: RequestState) -> CascadeEvent:
    """Make the call that a step asks for: of the router, the verifier, or a tier for a whole answer.

    Raises whatever means neither that a tier failed nor that router or verifier is down.
    """
    if step.do is Do.CALL:
        try:
            return await _call_tier(context, query, step, state)
        except EngineError as error:
            return tier_failed(context, error, state)
    if step.do is Do.ASK_BOTH:
        assert context.ensemble is not None, "two tiers are asked where somebody asks them"
        return await context.ensemble.answer(context, query, state)
    try:
        if step.do is Do.ASK_ROUTER:
            return Decided(await _decide(context, query, state), time_left(context))
        return Judged(await _judge(context, query, step, state), time_left(context))
    except PolicyUnavailableError as error:
        return PolicyFailed(error, time_left(context))


async def _decide(context: CascadeContext, query: Query, state: RequestState) -> Decision:
    """The router's decision, its time billed, as the request's constraints leave it.

    Raises CertificateVoidError once the version's certificate has ended.
    """
    constraints = context.constraints
    if constraints is not None and (known := constraints.without_router()) is not None:
        return known
    query = await with_first_signals(context, query, state)
    started = time.perf_counter()
    try:
        with state.trace.router() as span:
            context.certificate.check()
            decision = await context.decider.decide(query)
            span.decided(decision)
    finally:
        seconds = time.perf_counter() - started
        state.overhead.append(timed("router", "routing", seconds, context.router_usd_per_s))
    return decision if constraints is None else constraints.apply(decision, query)


def time_left(context: CascadeContext) -> float:
    """Seconds left of the request's deadline; infinite without one."""
    return math.inf if context.deadline.seconds == math.inf else context.deadline.left_s


async def _call_tier(context: CascadeContext, query: Query, step: Step, state: RequestState) -> Answered:
    made = state.made.pop(step.tier, None)
    if isinstance(made, EngineError):
        raise made
    if made is None:
        made = await call_tier(context, query, step.tier, step.action, step.timeout_s, state)
    return answered_event(context, query, step, made)


async def call_tier(
    context: CascadeContext, query: Query, tier: str, action: Action, timeout_s: float, state: RequestState
) -> Completion:
    """Have a tier answer whole, on the bill however it ends; raises what the tier raises."""
    started = time.perf_counter()
    try:
        with state.trace.tier(tier, str(action), query) as span:
            completion = await context.engines[tier].generate(query, timeout_s)
            span.answered(completion)
    except BaseException as error:
        bill_unanswered(context, tier, time.perf_counter() - started, error, state)
        raise
    bill_answer(context, tier, completion, time.perf_counter() - started, state)
    return completion


def answered_event(context: CascadeContext, query: Query, step: Step, completion: Completion) -> Answered:
    """A tier's whole answer as an event: with what any of its choices breaks of the request, where that is checked."""
    if not step.checked:
        return Answered(completion)
    several = len(completion.payload.get("choices") or ()) > 1
    faults = (read_answer(query, one).fault for one in (each_choice(completion) if several else [completion]))
    return Answered(completion, next((fault for fault in faults if fault is not None), None), time_left(context))


def bill_answer(
    context: CascadeContext, tier: str, completion: Completion, seconds: float, state: RequestState
) -> None:
    """Put a tier's whole answer on the bill, with the calls among its deployments that it took."""
    record_attempts(context, tier, completion.attempts, state)
    line = answered(context.prices, tier, completion, seconds)
    state.calls.append(line)
    state.unmetered |= not line.metered


def routing_calls(context: CascadeContext, query: Query) -> list[AskedCall]:
    """The calls that the choice of a tier takes: none where the request's constraints leave nothing to choose."""
    constraints = context.constraints
    is_chosen = constraints is not None and constraints.without_router() is not None
    return [] if is_chosen else first_asked(context.asked, query)


def judging_calls(context: CascadeContext, query: Query, step: Step) -> list[AskedCall]:
    """The calls that the verdict on an answer with one choice takes, of those that the version asks for."""
    completion = step.completion
    if completion is None or len(completion.payload.get("choices") or ()) > 1:
        return []
    return asked_calls(context.asked, query, completion, step.tier, _asked_of(context, step))


def _asked_of(context: CascadeContext, step: Step) -> Sequence[str]:
    """The signals that are asked for before a step's verdict: of a whole answer on trial."""
    is_whole = step.do is Do.JUDGE and step.on_trial and step.commit_policy.prefix_tokens is None
    return context.asked.by_tier.get(step.tier, ()) if is_whole else ()


async def _judge(context: CascadeContext, query: Query, step: Step, state: RequestState) -> Sequence[Verdict]:
    """The verdict on a completion: of a whole answer on trial, one for each of its choices."""
    completion, decision = step.completion, state.decision
    assert completion is not None, "a JUDGE step names what is judged"
    if not step.on_trial:
        estimate, embedding = (decision.p_cheap_ok, decision.embedding) if decision else (None, None)
        decision = Decision(step.tier, "last tier", estimate, embedding=embedding)
    assert decision is not None, "nothing is on trial that the router did not choose"
    decision = decision.at(step.tier)
    is_prefix = step.commit_policy.prefix_tokens is not None
    asked = _asked_of(context, step)
    if is_prefix or not step.on_trial or len(completion.payload.get("choices") or ()) < 2:
        return [await _verdict(context, query, completion, decision, state, is_prefix, asked)]
    verdicts = [
        asyncio.ensure_future(_verdict(context, query, choice, decision, state, False, asked))
        for choice in each_choice(completion)
    ]
    try:
        return await asyncio.gather(*verdicts)
    finally:  # where one fails the others are of no use: they end, and are on the bill, before the request goes on
        for verdict in verdicts:
            verdict.cancel()
        await asyncio.wait(verdicts)


async def _verdict(
    context: CascadeContext,
    query: Query,
    completion: Completion,
    decision: Decision,
    state: RequestState,
    is_prefix: bool,
    asked: Sequence[str] = (),
) -> Verdict:
    """One verdict, its time billed, on an answer with the signals that are asked for it.

    Raises CertificateVoidError once the version's certificate has ended; where that of the prefix point alone has, the
    verdict is an escalation.
    """
    certificate = context.certificate
    if asked:
        certificate.check()
        reserve_s = 0.0 if state.rules is None else state.rules.reserve_s
        completion = await with_signals(context, query, completion, decision.tier, asked, state, reserve_s)
    started = time.perf_counter()
    try:
        with state.trace.verifier(decision.tier) as span:
            certificate.check()
            verdict = await context.judge.judge(query, completion, decision)
            certificate.check()
            span.judged(verdict)
    finally:
        seconds = time.perf_counter() - started
        state.overhead.append(timed("verifier", "judging", seconds, context.verifier_usd_per_s))
    fault = certificate.fault(f"prefix:{decision.tier}") if is_prefix else None
    return Verdict(Action.ESCALATED, fault, verdict.p_ok) if fault and verdict.action is Action.ACCEPTED else verdict


def tier_failed(context: CascadeContext, error: EngineError, state: RequestState) -> TierFailed:
    """A tier's failure as an event; it says whether an answer that was rejected before may be served now."""
    may_serve = False
    if state.rejected is not None:  # a point that is switched on and certified, now, for this caller's quality floor
        tier, floor = state.rejected[0], context.quality_floor
        point, certificate = context.policy.overload_points.get(tier), context.certificate
        holds = certificate.fault() is None and certificate.fault(f"spill:{tier}") is None
        covered = state.decision is None or state.decision.uncovered is None
        may_serve = point is not None and holds and covered and (floor is None or floor <= point.promised)
    return TierFailed(error, may_serve, time_left(context))


async def embed(context: CascadeContext, body: Mapping[str, Any], state: RequestState) -> dict[str, Any]:
    """Have the state's tier make embeddings and put that on the bill, however it ends; raises what the tier raises."""
    started, tier = time.perf_counter(), state.tier
    try:
        reply = dict(await context.embedders[tier].embed(body))
        usage = usage_of(reply.get("usage"))
    except BaseException as error:
        bill_unanswered(context, tier, time.perf_counter() - started, error, state)
        raise
    line = answered(context.prices, tier, Completion("", usage=usage), time.perf_counter() - started)
    state.calls.append(line)
    state.unmetered |= not line.metered
    return reply


def record_attempts(context: CascadeContext, tier: str, attempts: Sequence[Attempt], state: RequestState) -> None:
    """Note the calls a tier took among its deployments, and bill those that failed and were charged all the same.

    What an API said stays out of the record: it may quote the prompt.
    """
    if attempts:
        steps = ", ".join(f"{a.deployment} ({a.status} after {a.latency_s:.2f} s)" for a in attempts)
        state.notes.append(f"{tier} called {steps}")
    state.calls += charged_attempts(context.prices, tier, attempts)


def bill_unanswered(
    context: CascadeContext, tier: str, seconds: float, error: BaseException, state: RequestState
) -> None:
    """Put a call that gave no answer on the bill, with what its failed attempts were charged."""
    state.overhead.append(unanswered(context.prices, tier, seconds, error))
    if isinstance(error, EngineError):
        record_attempts(context, tier, error.attempts, state)
