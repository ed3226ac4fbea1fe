"""One request's view of the graph: its wishes honoured, its bill's clock running. The cascade sees a Graph as ever."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from router_models.types import Action, Completion, Decision, DecisionRecord, Query, Verdict
from router_models.versions.policy import Policy
from serve_graph.cascade.billing import timed, unanswered
from serve_graph.cascade.context import CascadeContext, RequestState
from serve_graph.cascade.deadline import NEVER, Deadline
from serve_graph.cascade.interfaces import Decider, Engine, Judge, StreamingEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.gateway.rules import Expectations, Room, fit_context, keep_session, within_latency
from serve_graph.gateway.sessions import Sessions
from serve_graph.policy.validity import CertificateStatus


class Latencies:
    """How long each tier's calls took lately; nothing is expected before `least` of them."""

    def __init__(self, kept: int = 200, least: int = 10) -> None:
        self.kept = kept
        self.least = least
        self._seen: dict[str, deque[float]] = {}

    def note(self, record: DecisionRecord) -> None:
        for call in record.calls:
            self._seen.setdefault(call.tier, deque(maxlen=self.kept)).append(call.latency_s)

    def expected_s(self, tier: str) -> float | None:
        """The 90th percentile of the last calls; None while there are too few."""
        seen = self._seen.get(tier, deque())
        return statistics.quantiles(seen, n=10)[-1] if len(seen) >= max(self.least, 2) else None


@dataclass(frozen=True, slots=True)
class RoutingContext:
    """What steering goes by. `certified`: the promised share of right answers among accepted cheap ones, None = none.

    `joint`: it is the share among all answers, the thresholds having been certified together. `rooms` empty: nothing
    is known of the tiers' contexts. `certificate_status`: whether what was certified holds now.
    """

    certified: float | None = None
    joint: bool = False
    rooms: Mapping[str, Room] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=lambda: Sessions({}, 1))
    latencies: Latencies = field(default_factory=Latencies)
    expectations: Expectations = field(default_factory=Expectations)
    certificate_status: CertificateStatus = field(default_factory=CertificateStatus)

    @property
    def promised(self) -> float | None:
        """What is promised now: nothing once the certificate has ended."""
        return None if "answers" in self.certificate_status.faults() else self.certified

    def promised_to(self, policy: Policy, *, stream: bool, forbids_abstaining: bool) -> float | None:
        """What is promised now of a request under this policy.

        Thresholds that were certified together count on their abstentions: nothing is promised where somebody forbids
        them, nor of a stream whose last tier would be judged, since that is shown as it speaks.
        """
        is_mute = (forbids_abstaining and policy.abstains) or (stream and policy.judges_top)
        return None if self.joint and is_mute else self.promised

    def may_serve_on_overload(self, tier: str, policy: Policy, floor: float | None) -> bool:
        """Whether a rejected answer of this tier may be shown now to somebody with this quality floor."""
        point = self.certificate_status.policy(policy).overload_points.get(tier)
        return point is not None and (floor is None or floor <= point.promised)

    def note(self, record: DecisionRecord, query: Query) -> None:
        """Learn from a finished request."""
        self.latencies.note(record)
        self.sessions.note(record, query)


def request_context(
    context: CascadeContext,
    resolved: ResolvedOptions,
    routing: RoutingContext,
    state: RequestState,
    deadline: Deadline = NEVER,
    *,
    stream: bool = False,
) -> CascadeContext:
    """The graph as this request is to see it."""
    usual_s = routing.latencies.expected_s(context.policy.top)
    deadline = replace(deadline, reserve_s=usual_s or 0.0)
    policy = routing.certificate_status.policy(context.policy)
    if resolved.forbids_abstaining:
        policy = policy.without_abstention()
    return replace(
        context,
        engines={
            tier: BilledEngine(tier, engine, context, state, deadline) for tier, engine in context.engines.items()
        },
        streams={tier: PunctualStream(stream, deadline) for tier, stream in context.streams.items()},
        decider=ConstrainedRouter(context, resolved, routing, state, deadline, stream),
        judge=TimedJudge(context, state, resolved.forbids_abstaining),
        policy=policy,
        safe_tier=context.policy.top if resolved.quality_floor is not None else context.safe_tier,
        deadline=deadline,
        may_serve_on_overload=lambda tier: routing.may_serve_on_overload(tier, policy, resolved.quality_floor),
    )


@dataclass(frozen=True, slots=True)
class BilledEngine:
    """An Engine whose broken calls are on the bill too. It has the time that is left; a cheap try not all of it."""

    tier: str
    engine: Engine
    context: CascadeContext
    state: RequestState
    deadline: Deadline

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        is_try = self.state.action is Action.ROUTED and self.tier != self.context.policy.top
        left_s = min(left_s, self.deadline.try_s() if is_try else self.deadline.check())
        started = time.perf_counter()
        try:
            return await self.engine.generate(query, left_s)
        except BaseException as error:
            seconds = time.perf_counter() - started
            self.state.overhead.append(unanswered(self.context.prices, self.tier, seconds, error))
            raise


@dataclass(frozen=True, slots=True)
class PunctualStream:
    """A StreamingEngine that has the request's time. How long a cheap one may stay unseen, `streaming` knows."""

    engine: StreamingEngine
    deadline: Deadline

    async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
        async with aclosing(self.engine.stream(query, min(left_s, self.deadline.check()))) as chunks:
            async for chunk in chunks:
                yield chunk


@dataclass(frozen=True, slots=True)
class ConstrainedRouter:
    """The router's decision, then what the wishes, the context lengths and the session make of it."""

    context: CascadeContext
    resolved: ResolvedOptions
    routing: RoutingContext
    state: RequestState
    deadline: Deadline
    stream: bool = False

    async def decide(self, query: Query) -> Decision:
        top, resolved, routing = self.context.policy.top, self.resolved, self.routing
        floor, forbids = resolved.quality_floor, resolved.forbids_abstaining
        promised = routing.promised_to(self.context.policy, stream=self.stream, forbids_abstaining=forbids)
        if floor is not None and (promised is None or floor > promised):
            known = "nothing is certified" if promised is None else f"{promised:g} is certified"
            return Decision(top, f"quality floor {floor:g}: {known} of cheaper tiers, so {top}")
        decider: Decider = self.context.decider
        with timed(self.state.overhead, "router", "routing", self.context.router_usd_per_s):
            decision = await decider.decide(query)
        budget_s = min(resolved.latency_budget_s or math.inf, self.deadline.left_s)
        if math.isfinite(budget_s):
            expected = {tier: routing.latencies.expected_s(tier) for tier in self.context.engines}
            decision = within_latency(decision, budget_s, expected, top)
        session = routing.sessions.get(resolved.session, query) if resolved.session else None
        if session is not None:
            now = datetime.now(UTC)
            prices = {tier: prices.at(now) for tier, prices in self.context.prices.items()}
            decision = keep_session(decision, session, prices, top, routing.expectations)
        if routing.rooms:
            decision = fit_context(decision, query, routing.rooms, self.context.policy.tiers)
        return decision


@dataclass(frozen=True, slots=True)
class TimedJudge:
    """The verifier, its time billed; an abstention that this request forbids becomes what it stands in for."""

    context: CascadeContext
    state: RequestState
    forbids_abstaining: bool

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        judge: Judge = self.context.judge
        with timed(self.state.overhead, "verifier", "judging", self.context.verifier_usd_per_s):
            verdict = await judge.judge(query, completion, decision)
        if verdict.action is not Action.ABSTAINED or not self.forbids_abstaining:
            return verdict
        action = Action.ACCEPTED if decision.tier == self.context.policy.top else Action.ESCALATED
        return replace(verdict, action=action, reason=f"{verdict.reason}; forbidden: {action}")


def routing_context_for(
    config: GraphConfig, certified: float | None, certificate_status: CertificateStatus, *, joint: bool = False
) -> RoutingContext:
    """What a configuration says about steering, for a version that stands as it does."""
    sessions = config.sessions
    return RoutingContext(
        certified,
        joint,
        {tier.name: Room(tier.context_tokens, tier.default_max_tokens) for tier in config.tiers},
        Sessions({tier.name: min(sessions.ttl_s, tier.prompt_cache_s) for tier in config.tiers}, sessions.most),
        expectations=Expectations(sessions.expected_turns, sessions.turn_tokens),
        certificate_status=certificate_status,
    )
