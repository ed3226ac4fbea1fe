"""The product on one screen: decide, generate, judge, then accept, escalate once or abstain.

`answer` returns an answer whole; `streaming` walks the same steps and forwards it piece by piece. Router, verifier or
a tier down: the safe tier answers, marked `fallback`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from router_models.types import Action, Completion, Decision, Query
from router_models.versions.policy import worst
from serve_graph.cascade.calls import call
from serve_graph.cascade.context import CascadeContext, RequestState
from serve_graph.cascade.overload import hold_for_overload, overload_answer
from serve_graph.errors import CertificateVoidError, EngineError, EngineRequestError, PolicyUnavailableError
from serve_graph.protocol.chunks import each_choice


async def answer(context: CascadeContext, query: Query, forced: str | None, state: RequestState) -> Completion:
    """Answer a query whole. Raises EngineError where no tier that may answer can."""
    if await decide(context, query, forced, state):
        await attempt(context, query, state)
    return state.completion or await finish(context, query, state)


async def decide(context: CascadeContext, query: Query, forced: str | None, state: RequestState) -> bool:
    """Choose the tier; True where nobody may see its answer before a verdict."""
    if forced is not None:
        state.go(forced, Action.FORCED)
        return False
    try:
        decision = await context.decider.decide(query)
    except PolicyUnavailableError as error:
        use_safe_tier(context, state, "router", error)
        return False
    if state.pinned is not None:
        decision = replace(decision, tier=state.pinned, reason=f"{decision.reason}; held: {state.pinned} began it")
    state.decision = decision
    state.go(decision.tier, Action.ROUTED)
    return decision.tier != context.policy.top


async def attempt(context: CascadeContext, query: Query, state: RequestState) -> None:
    """Try a cheap tier; its completion stays in the trail where it may be shown, else another tier's name does."""
    try:
        completion = await call(context, state.tier, query, state)
    except EngineError as error:
        return fall_back(context, state, error)
    return await apply_verdict(context, query, completion, state)


async def apply_verdict(context: CascadeContext, query: Query, completion: Completion, state: RequestState) -> None:
    """Put a cheap completion to its verdict: accept, escalate once, or abstain; of n choices the worst counts."""
    choices = each_choice(completion)
    decision = state.decision or Decision(state.tier, "not decided")
    try:
        verdicts = await asyncio.gather(*(context.judge.judge(query, choice, decision) for choice in choices))
    except PolicyUnavailableError as error:
        use_safe_tier(context, state, "verifier", error)
        state.completion = completion if state.tier == decision.tier else None
        return None
    verdict = state.verdict = worst(verdicts)
    escalated = verdict.action is Action.ESCALATED
    state.completion = None if escalated else completion
    hold_for_overload(completion, state)
    return state.go(context.policy.top if escalated else state.tier, verdict.action)


def use_safe_tier(context: CascadeContext, state: RequestState, who: str, error: PolicyUnavailableError) -> None:
    """Go to the safe tier while router or verifier is down; to the last one once nothing is certified any more."""
    if isinstance(error, CertificateVoidError):
        return state.go(context.policy.top, Action.FALLBACK, str(error))
    return state.go(context.safe_tier, Action.FALLBACK, f"{who} unavailable: {error}")


def fall_back(context: CascadeContext, state: RequestState, error: EngineError) -> None:
    """Name who answers in a failed tier's place, once; raises the failure where the policy knows nobody."""
    failed, rejected = state.tier, state.decision.tier if state.decision else None
    spare = context.safe_tier if context.safe_tier != failed else context.policy.top
    if state.action in (Action.FORCED, Action.FALLBACK) or spare in (failed, rejected):
        raise error
    state.go(spare, Action.FALLBACK, f"{failed} failed: {error.recordable}")


async def finish(context: CascadeContext, query: Query, state: RequestState) -> Completion:
    """Make the settled tier's call. Abstain where the policy says so; a verifier that is down changes nothing here."""
    try:
        state.completion = await call(context, state.tier, query, state)
    except EngineRequestError:
        raise
    except EngineError as error:
        if (answer := overload_answer(context, state, error)) is not None:
            return answer
        fall_back(context, state, error)
        state.completion = await call(context, state.tier, query, state)
    is_promised = state.decision is None or state.decision.promised  # else nobody abstains, whatever a verdict says
    if context.policy.judges_top and is_promised and state.action in (Action.ROUTED, Action.ESCALATED):
        await _judge_last(context, query, state, state.completion)
    return state.completion


async def _judge_last(context: CascadeContext, query: Query, state: RequestState, completion: Completion) -> None:
    estimate = state.decision.p_cheap_ok if state.decision else None
    try:
        verdict = await context.judge.judge(query, completion, Decision(state.tier, "last tier", estimate))
    except PolicyUnavailableError as error:
        state.notes.append(f"the last answer was not judged: {error}")
        return
    if verdict.action is Action.ABSTAINED:
        state.verdict = verdict
        state.go(state.tier, Action.ABSTAINED)
