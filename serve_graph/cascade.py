"""The product on one screen: decide, generate, judge, then accept, escalate once or abstain.

`settle` does everything up to the last engine call; `answer` makes that call and returns it whole, `streaming`
forwards it piece by piece. Router or verifier down: the safe tier answers, marked `fallback`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from router_models.policy import Policy
from router_models.types import Action, Attempt, Call, Completion, Decision, Query, Verdict
from serve_graph.billing import Prices, answered
from serve_graph.errors import EngineError, PolicyUnavailableError
from serve_graph.openai_api import usage_of
from serve_graph.seams import Decider, Engine, Judge, StreamingEngine


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


@dataclass(slots=True)
class Trail:
    """What happened to one request so far: written down as it happens, so that a failure has its record too."""

    tier: str = ""
    action: Action = Action.ROUTED
    decision: Decision | None = None
    verdict: Verdict | None = None
    calls: list[Call] = field(default_factory=list)
    overhead: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    completion: Completion | None = None
    broken: Exception | None = None

    def go(self, tier: str, action: Action, note: str = "") -> None:
        self.tier, self.action = tier, action
        if note:
            self.notes.append(note)


async def settle(graph: Graph, query: Query, forced: str | None, trail: Trail) -> None:
    """Decide which tier answers for good; leaves its completion in the trail where it exists already."""
    if forced is not None:
        return trail.go(forced, Action.FORCED)
    try:
        decision = trail.decision = await graph.decider.decide(query)
    except PolicyUnavailableError as error:
        return trail.go(graph.safe_tier, Action.FALLBACK, f"router unavailable: {error}")
    trail.go(decision.tier, Action.ROUTED)
    if decision.tier == graph.policy.top:
        return None
    try:
        completion = await call(graph, decision.tier, query, trail)
    except EngineError as error:
        spare = graph.safe_tier if graph.safe_tier != decision.tier else graph.policy.top
        return trail.go(spare, Action.FALLBACK, f"{decision.tier} failed: {error}")
    try:
        verdict = trail.verdict = await graph.judge.judge(query, completion, decision)
    except PolicyUnavailableError as error:
        trail.completion = completion if graph.safe_tier == decision.tier else None
        return trail.go(graph.safe_tier, Action.FALLBACK, f"verifier unavailable: {error}")
    if verdict.action is Action.ESCALATED:
        return trail.go(graph.policy.top, Action.ESCALATED)
    trail.go(decision.tier, verdict.action)
    trail.completion = completion
    return None


async def answer(graph: Graph, query: Query, forced: str | None, trail: Trail) -> Completion:
    """Answer a query whole. Raises EngineError where no tier that may answer can."""
    await settle(graph, query, forced, trail)
    return trail.completion or await finish(graph, query, trail)


async def finish(graph: Graph, query: Query, trail: Trail) -> Completion:
    """Make the settled tier's call. Abstain where the policy says so; a verifier that is down changes nothing here."""
    may_abstain = graph.policy.judges_top and trail.action in (Action.ROUTED, Action.ESCALATED)
    trail.completion = await call(graph, trail.tier, query, trail)
    if may_abstain:
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
