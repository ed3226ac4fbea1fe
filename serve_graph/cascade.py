"""The product on one screen: decide, generate, judge, then accept, escalate once or abstain.

`answer` returns an answer whole; `streaming` walks the same steps and forwards it piece by piece. Router, verifier or
a tier down: the safe tier answers, marked `fallback`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from router_models.policy import Policy, worst
from router_models.types import Action, Attempt, Call, Completion, Decision, Query, Verdict
from serve_graph.billing import Prices, answered
from serve_graph.chunks import each_choice
from serve_graph.errors import EngineError, EngineRequestError, PolicyUnavailableError
from serve_graph.openai_api import usage_of
from serve_graph.seams import Decider, Embedder, Engine, Judge, StreamingEngine


@dataclass(frozen=True, slots=True)
class Graph:
    """What the cascade works with. `policy` is the served version's thresholds, for what needs no score."""

    engines: Mapping[str, Engine]
    streams: Mapping[str, StreamingEngine]
    decider: Decider
    judge: Judge
    policy: Policy
    prices: Prices
    safe_tier: str
    version: str
    router_usd_per_s: Decimal = Decimal(0)
    verifier_usd_per_s: Decimal = Decimal(0)
    embedders: Mapping[str, Embedder] = field(default_factory=dict)


@dataclass(slots=True)
class Trail:
    """What happened to one request so far: written down as it happens, so that a failure has its record too.

    `held` is the tier its conversation began on: kept in place of the router's choice; verdicts still count.
    """

    tier: str = ""
    action: Action = Action.ROUTED
    decision: Decision | None = None
    verdict: Verdict | None = None
    calls: list[Call] = field(default_factory=list)
    overhead: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    completion: Completion | None = None
    held: str | None = None

    def go(self, tier: str, action: Action, note: str = "") -> None:
        self.tier, self.action = tier, action
        if note:
            self.notes.append(note)


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
        trail.go(graph.safe_tier, Action.FALLBACK, f"router unavailable: {error}")
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
        trail.completion = completion if graph.safe_tier == trail.tier else None
        return trail.go(graph.safe_tier, Action.FALLBACK, f"verifier unavailable: {error}")
    verdict = trail.verdict = worst(verdicts)
    escalated = verdict.action is Action.ESCALATED
    trail.completion = None if escalated else completion
    return trail.go(graph.policy.top if escalated else trail.tier, verdict.action)


def fall_back(graph: Graph, trail: Trail, error: EngineError) -> None:
    """Name who answers in a failed tier's place, once; raises the failure where the policy knows nobody."""
    failed, rejected = trail.tier, trail.decision.tier if trail.decision else None
    spare = graph.safe_tier if graph.safe_tier != failed else graph.policy.top
    if trail.action in (Action.FORCED, Action.FALLBACK) or spare in (failed, rejected):
        raise error
    trail.go(spare, Action.FALLBACK, f"{failed} failed: {error}")


async def finish(graph: Graph, query: Query, trail: Trail) -> Completion:
    """Make the settled tier's call. Abstain where the policy says so; a verifier that is down changes nothing here."""
    try:
        trail.completion = await call(graph, trail.tier, query, trail)
    except EngineRequestError:
        raise
    except EngineError as error:
        fall_back(graph, trail, error)
        trail.completion = await call(graph, trail.tier, query, trail)
    if graph.policy.judges_top and trail.action in (Action.ROUTED, Action.ESCALATED):
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


async def call(graph: Graph, tier: str, query: Query, trail: Trail) -> Completion:
    """Make one engine call and put it on the bill; raises what the engine raises."""
    started = time.perf_counter()
    try:
        completion = await graph.engines[tier].generate(query)
    except EngineError as error:
        tell(graph, tier, error.attempts, trail)
        raise
    tell(graph, tier, completion.attempts, trail)
    trail.calls.append(charge(graph, tier, completion, time.perf_counter() - started))
    return completion


def charge(graph: Graph, tier: str, completion: Completion, latency_s: float) -> Call:
    """Price one completion at its tier's rates."""
    return answered(graph.prices, tier, completion, latency_s)


def tell(graph: Graph, tier: str, attempts: Sequence[Attempt], trail: Trail) -> None:
    """Note the calls a tier took among its deployments, and bill those that failed and were charged all the same.

    What an API said stays out of the record: it may quote the prompt.
    """
    if attempts:
        steps = ", ".join(f"{a.deployment} ({a.status} after {a.latency_s:.2f} s)" for a in attempts)
        trail.notes.append(f"{tier} called {steps}")
    for attempt in attempts:
        if attempt.usage:
            failed = Completion("", usage=usage_of(attempt.usage))
            trail.calls.append(charge(graph, tier, failed, attempt.latency_s))
