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
from serve_graph.cascade.context import Graph, Trail
from serve_graph.cascade.deadline import NEVER, Deadline
from serve_graph.cascade.interfaces import Decider, Engine, Judge, StreamingEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.options import Wishes
from serve_graph.gateway.rules import Expectations, Room, fit_context, keep_session, within_latency
from serve_graph.gateway.sessions import Sessions
from serve_graph.policy.validity import Standing


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
class Bearings:
    """What steering goes by. `certified`: the promised share of right answers among accepted cheap ones, None = none.

    `joint`: it is the share among all answers, the thresholds having been certified together. `rooms` empty: nothing
    is known of the tiers' contexts. `standing`: whether what was certified holds now.
    """

    certified: float | None = None
    joint: bool = False
    rooms: Mapping[str, Room] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=lambda: Sessions({}, 1))
    latencies: Latencies = field(default_factory=Latencies)
    expectations: Expectations = field(default_factory=Expectations)
    standing: Standing = field(default_factory=Standing)

    @property
    def promised(self) -> float | None:
        """What is promised now: nothing once the certificate has ended."""
        return None if "answers" in self.standing.faults() else self.certified

    def promised_to(self, policy: Policy, *, stream: bool, forbids_abstaining: bool) -> float | None:
        """What is promised now of a request under this policy.

        Thresholds that were certified together count on their abstentions: nothing is promised where somebody forbids
        them, nor of a stream whose last tier would be judged, since that is shown as it speaks.
        """
        is_mute = (forbids_abstaining and policy.abstains) or (stream and policy.judges_top)
        return None if self.joint and is_mute else self.promised

    def may_spill(self, tier: str, policy: Policy, floor: float | None) -> bool:
        """Whether a rejected answer of this tier may be shown now to somebody with this quality floor."""
        point = self.standing.policy(policy).spills.get(tier)
        return point is not None and (floor is None or floor <= point.promised)

    def note(self, record: DecisionRecord, query: Query) -> None:
        """Learn from a finished request."""
        self.latencies.note(record)
        self.sessions.note(record, query)


def view_for(
    graph: Graph, wishes: Wishes, bearings: Bearings, trail: Trail, deadline: Deadline = NEVER, *, stream: bool = False
) -> Graph:
    """The graph as this request is to see it."""
    usual_s = bearings.latencies.expected_s(graph.policy.top)
    deadline = replace(deadline, reserve_s=usual_s or 0.0)
    policy = bearings.standing.policy(graph.policy)
    if wishes.forbids_abstaining:
        policy = policy.without_abstention()
    return replace(
        graph,
        engines={tier: BilledEngine(tier, engine, graph, trail, deadline) for tier, engine in graph.engines.items()},
        streams={tier: PunctualStream(stream, deadline) for tier, stream in graph.streams.items()},
        decider=SteeredDecider(graph, wishes, bearings, trail, deadline, stream),
        judge=TimedJudge(graph, trail, wishes.forbids_abstaining),
        policy=policy,
        safe_tier=graph.policy.top if wishes.quality_floor is not None else graph.safe_tier,
        deadline=deadline,
        may_spill=lambda tier: bearings.may_spill(tier, policy, wishes.quality_floor),
    )


@dataclass(frozen=True, slots=True)
class BilledEngine:
    """An Engine whose broken calls are on the bill too. It has the time that is left; a cheap try not all of it."""

    tier: str
    engine: Engine
    graph: Graph
    trail: Trail
    deadline: Deadline

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        is_try = self.trail.action is Action.ROUTED and self.tier != self.graph.policy.top
        left_s = min(left_s, self.deadline.try_s() if is_try else self.deadline.check())
        started = time.perf_counter()
        try:
            return await self.engine.generate(query, left_s)
        except BaseException as error:
            seconds = time.perf_counter() - started
            self.trail.overhead.append(unanswered(self.graph.prices, self.tier, seconds, error))
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
class SteeredDecider:
    """The router's decision, then what the wishes, the context lengths and the session make of it."""

    graph: Graph
    wishes: Wishes
    bearings: Bearings
    trail: Trail
    deadline: Deadline
    stream: bool = False

    async def decide(self, query: Query) -> Decision:
        top, wishes, bearings = self.graph.policy.top, self.wishes, self.bearings
        floor, forbids = wishes.quality_floor, wishes.forbids_abstaining
        promised = bearings.promised_to(self.graph.policy, stream=self.stream, forbids_abstaining=forbids)
        if floor is not None and (promised is None or floor > promised):
            known = "nothing is certified" if promised is None else f"{promised:g} is certified"
            return Decision(top, f"quality floor {floor:g}: {known} of cheaper tiers, so {top}")
        decider: Decider = self.graph.decider
        with timed(self.trail.overhead, "router", "routing", self.graph.router_usd_per_s):
            decision = await decider.decide(query)
        budget_s = min(wishes.latency_budget_s or math.inf, self.deadline.left_s)
        if math.isfinite(budget_s):
            expected = {tier: bearings.latencies.expected_s(tier) for tier in self.graph.engines}
            decision = within_latency(decision, budget_s, expected, top)
        session = bearings.sessions.get(wishes.session, query) if wishes.session else None
        if session is not None:
            now = datetime.now(UTC)
            prices = {tier: prices.at(now) for tier, prices in self.graph.prices.items()}
            decision = keep_session(decision, session, prices, top, bearings.expectations)
        if bearings.rooms:
            decision = fit_context(decision, query, bearings.rooms, self.graph.policy.tiers)
        return decision


@dataclass(frozen=True, slots=True)
class TimedJudge:
    """The verifier, its time billed; an abstention that this request forbids becomes what it stands in for."""

    graph: Graph
    trail: Trail
    forbids_abstaining: bool

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        judge: Judge = self.graph.judge
        with timed(self.trail.overhead, "verifier", "judging", self.graph.verifier_usd_per_s):
            verdict = await judge.judge(query, completion, decision)
        if verdict.action is not Action.ABSTAINED or not self.forbids_abstaining:
            return verdict
        action = Action.ACCEPTED if decision.tier == self.graph.policy.top else Action.ESCALATED
        return replace(verdict, action=action, reason=f"{verdict.reason}; forbidden: {action}")


def bearings_of(config: GraphConfig, certified: float | None, standing: Standing, *, joint: bool = False) -> Bearings:
    """What a configuration says about steering, for a version that stands as it does."""
    sessions = config.sessions
    return Bearings(
        certified,
        joint,
        {tier.name: Room(tier.context_tokens, tier.default_max_tokens) for tier in config.tiers},
        Sessions({tier.name: min(sessions.ttl_s, tier.prompt_cache_s) for tier in config.tiers}, sessions.most),
        expectations=Expectations(sessions.expected_turns, sessions.turn_tokens),
        standing=standing,
    )
