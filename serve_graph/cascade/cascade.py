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
from serve_graph.cascade.context import Graph, Trail
from serve_graph.cascade.overload import kept_back, spilled
from serve_graph.errors import CertificateVoidError, EngineError, EngineRequestError, PolicyUnavailableError
from serve_graph.protocol.chunks import each_choice


async def answer(graph: Graph, query: Query, forced: str | None, trail: Trail) -> Completion:
    """Answer a query whole. Raises EngineError where no tier that may answer can."""
    if await decide(graph, query, forced, trail):
        await attempt(graph, query, trail)
    return trail.completion or await finish(graph, query, trail)


async def decide(graph: Graph, query: Query, forced: str | None, trail: Trail) -> bool:
    """Choose the tier; True where nobody may see its answer before a verdict."""
    if forced is not None:
        trail.go(forced, Action.FORCED)
        return False
    try:
        decision = await graph.decider.decide(query)
    except PolicyUnavailableError as error:
        go_without(graph, trail, "router", error)
        return False
    if trail.held is not None:
        decision = replace(decision, tier=trail.held, reason=f"{decision.reason}; held: {trail.held} began it")
    trail.decision = decision
    trail.go(decision.tier, Action.ROUTED)
    return decision.tier != graph.policy.top


async def attempt(graph: Graph, query: Query, trail: Trail) -> None:
    """Try a cheap tier; its completion stays in the trail where it may be shown, else another tier's name does."""
    try:
        completion = await call(graph, trail.tier, query, trail)
    except EngineError as error:
        return fall_back(graph, trail, error)
    return await weigh(graph, query, completion, trail)


async def weigh(graph: Graph, query: Query, completion: Completion, trail: Trail) -> None:
    """Put a cheap completion to its verdict: accept, escalate once, or abstain; of n choices the worst counts."""
    choices = each_choice(completion)
    decision = trail.decision or Decision(trail.tier, "not decided")
    try:
        verdicts = await asyncio.gather(*(graph.judge.judge(query, choice, decision) for choice in choices))
    except PolicyUnavailableError as error:
        go_without(graph, trail, "verifier", error)
        trail.completion = completion if trail.tier == decision.tier else None
        return None
    verdict = trail.verdict = worst(verdicts)
    escalated = verdict.action is Action.ESCALATED
    trail.completion = None if escalated else completion
    kept_back(completion, trail)
    return trail.go(graph.policy.top if escalated else trail.tier, verdict.action)


def go_without(graph: Graph, trail: Trail, who: str, error: PolicyUnavailableError) -> None:
    """Go to the safe tier while router or verifier is down; to the last one once nothing is certified any more."""
    if isinstance(error, CertificateVoidError):
        return trail.go(graph.policy.top, Action.FALLBACK, str(error))
    return trail.go(graph.safe_tier, Action.FALLBACK, f"{who} unavailable: {error}")


def fall_back(graph: Graph, trail: Trail, error: EngineError) -> None:
    """Name who answers in a failed tier's place, once; raises the failure where the policy knows nobody."""
    failed, rejected = trail.tier, trail.decision.tier if trail.decision else None
    spare = graph.safe_tier if graph.safe_tier != failed else graph.policy.top
    if trail.action in (Action.FORCED, Action.FALLBACK) or spare in (failed, rejected):
        raise error
    trail.go(spare, Action.FALLBACK, f"{failed} failed: {error.recordable}")


async def finish(graph: Graph, query: Query, trail: Trail) -> Completion:
    """Make the settled tier's call. Abstain where the policy says so; a verifier that is down changes nothing here."""
    try:
        trail.completion = await call(graph, trail.tier, query, trail)
    except EngineRequestError:
        raise
    except EngineError as error:
        if (answer := spilled(graph, trail, error)) is not None:
            return answer
        fall_back(graph, trail, error)
        trail.completion = await call(graph, trail.tier, query, trail)
    is_promised = trail.decision is None or trail.decision.promised  # else nobody abstains, whatever a verdict says
    if graph.policy.judges_top and is_promised and trail.action in (Action.ROUTED, Action.ESCALATED):
        await _judge_last(graph, query, trail, trail.completion)
    return trail.completion


async def _judge_last(graph: Graph, query: Query, trail: Trail, completion: Completion) -> None:
    estimate = trail.decision.p_cheap_ok if trail.decision else None
    try:
        verdict = await graph.judge.judge(query, completion, Decision(trail.tier, "last tier", estimate))
    except PolicyUnavailableError as error:
        trail.notes.append(f"the last answer was not judged: {error}")
        return
    if verdict.action is Action.ABSTAINED:
        trail.verdict = verdict
        trail.go(trail.tier, Action.ABSTAINED)
