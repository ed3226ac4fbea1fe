"""What one request's options, its session and what is known of the tiers make of the router's decision."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from router_models.metrics.score_shares import ScoreShares
from router_models.types import Decision, DecisionRecord, Query
from router_models.types.conditions import conditions_of
from router_models.types.coverage import Coverage, Uncovered
from serve_graph.cascade.calls import MAY_BE_LONGER
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.deadline import NEVER, Deadline
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.cascade.streaming import judged_whole
from serve_graph.config.graph import GraphConfig
from serve_graph.config.policy import WhenUncovered
from serve_graph.errors import RequestError
from serve_graph.gateway.capabilities import AsleepTiers, CapableTiers, capabilities_of, needs_of
from serve_graph.gateway.context_length import Room, crowded, fit_context
from serve_graph.gateway.options import ResolvedOptions, is_plain_text
from serve_graph.gateway.promise import AnswerPromise, CertifiedShares, RequestFacts, answer_promise, set_apart
from serve_graph.gateway.rules import (
    Expectations,
    by_share,
    hold_tool_loop,
    keep_floor,
    keep_promised,
    keep_session,
    sends,
    within_latency,
)
from serve_graph.gateway.sessions import Session, Sessions
from serve_graph.policy.labels import LabelRule
from serve_graph.policy.served_policy import ServedPolicy, whole_try_s
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
    """What routing goes by. `certified`: the promised share of right answers among accepted cheap ones, None = none.

    `joint`: it is the share among all answers, the thresholds having been certified together. `rooms` empty: nothing
    is known of the tiers' contexts. `certificate_status`: whether what was certified holds now. `forbids_abstaining`:
    the configuration does, for every request. `judges_calls`: of these tiers' tool calls the certificate speaks too.
    `capabilities`: what the tiers declare to take; empty: everything. `prefixes`: the promised share by tier of
    answers accepted by their first tokens. `whole_try_s`: the longest that a cheap try takes, router and verdict
    included. `labels`: those that the version decides by. `coverage`: the requests that the certificate speaks of,
    None: not checked; `sampling`: each tier's default settings, its length included, by which requests are compared;
    `when_uncovered`: who answers any others. `longest_prompt`: bytes of the longest that was certified, None: not
    known. `harm`: what is promised of answers is to be right, or no worse than the last tier's. `asleep`: the tiers
    that have no replica now. `share`: that of requests which go to the last tier, None: as certified; `score_shares`:
    which estimates lie below it. `pre_routed`: it is the share among all answers of prompts that the router sends to a
    cheaper tier. `shares`: all that is certified, together.
    """

    certified: float | None = None
    joint: bool = False
    rooms: Mapping[str, Room] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=lambda: Sessions({}, 1))
    latencies: Latencies = field(default_factory=Latencies)
    expectations: Expectations = field(default_factory=Expectations)
    certificate_status: CertificateStatus = field(default_factory=CertificateStatus)
    forbids_abstaining: bool = False
    judges_calls: tuple[str, ...] = ()
    capabilities: Mapping[str, frozenset[str]] = field(default_factory=dict)
    prefixes: Mapping[str, float] = field(default_factory=dict)
    whole_try_s: float = math.inf
    labels: LabelRule | None = None
    coverage: Coverage | None = None
    sampling: tuple[Mapping[str, Any], ...] = ({},)
    when_uncovered: WhenUncovered = "last_tier"
    longest_prompt: int | None = None
    harm: bool = False
    asleep: AsleepTiers = field(default_factory=AsleepTiers)
    share: float | None = None
    score_shares: ScoreShares = field(default_factory=ScoreShares)
    pre_routed: bool = False
    shares: CertifiedShares = field(init=False)

    def __post_init__(self) -> None:
        shares = CertifiedShares(
            self.certified, self.joint, self.prefixes, self.judges_calls, self.harm, self.pre_routed
        )
        object.__setattr__(self, "shares", shares)

    def share_of(self, resolved: ResolvedOptions) -> float | None:
        """The share of requests like this one that go to the last tier; None where it is answered as certified.

        Raises RequestError where the request asks for a share, and the served version does not know its scores.
        """
        if resolved.forced is not None or resolved.quality_floor is not None:
            return None
        if resolved.cost_quality is None:
            return self.share if self.score_shares.quantiles else None
        if not self.score_shares.quantiles:
            message = "the served version does not know how its scores are distributed, so that it has no cost_quality"
            raise RequestError(message, "serve_graph")
        return resolved.cost_quality

    def note(self, record: DecisionRecord, query: Query) -> None:
        """Learn from a finished request."""
        self.latencies.note(record)
        if record.session is not None:
            self.sessions.note(record, query)


def request_context(
    context: CascadeContext,
    resolved: ResolvedOptions,
    routing: RoutingContext,
    top: str,
    deadline: Deadline = NEVER,
    *,
    query: Query | None = None,
    stream: StreamTerms | None = None,
    began: str | None = None,
) -> CascadeContext:
    """The context that all requests share, as one request is to see it: its options, its deadline, what holds now.

    Its policy has only the tiers that take the request. `stream`: when it may be shown, None where it is wanted whole.
    `began` is the tier that began the tool loop it belongs to.
    Raises RequestError where no tier takes the request, or the one that was asked for does not.
    """
    capable, safe_tier, unmeasured = None, context.safe_tier, None
    is_plain = query is None or is_plain_text(query)
    certificate, policy = routing.certificate_status.snapshot(), context.policy
    if certificate.faults:
        policy = certificate.policy(policy)
    if resolved.forbids_abstaining:
        policy = policy.without_abstention()
    if query is not None and not is_plain:
        capable = CapableTiers(policy.tiers, routing.capabilities, needs_of(query))
        policy, unmeasured = capable.only(policy, resolved), capable.needs.unmeasured
        top = policy.top
        safe_tier = safe_tier if safe_tier in policy.tiers else top
    usual_s = routing.latencies.expected_s(top) if math.isfinite(deadline.seconds) else None
    if deadline.reserve_s != (reserve_s := usual_s or 0.0):
        deadline = replace(deadline, reserve_s=reserve_s)
    session = routing.sessions.get(resolved.session, query) if resolved.session and query is not None else None
    forbids_abstaining = resolved.forbids_abstaining or routing.forbids_abstaining
    apart, uncovered, longest, coverage = None, None, None, routing.coverage
    share = routing.share_of(resolved)
    if share is None and coverage is not None and query is not None and resolved.forced is None:
        asked = conditions_of(query)
        uncovered = coverage.uncovered(asked, defaults=routing.sampling)
        longest = coverage.longest_answer(asked, routing.sampling) if uncovered is None else None
        if longest is not None and routing.joint:
            why = f"longer answers are permitted than {longest} tokens, and no longer ones were certified"
            uncovered, longest = Uncovered("max_tokens", why), None
    if routing.certified is not None:
        facts = RequestFacts(
            choices=1 if query is None else int(query.parameters.get("n") or 1),
            forced=resolved.forced,
            share=share,
            tool_loop=began,
            is_continued=session is not None,
            has_latency_budget=resolved.latency_budget_s is not None,
            has_own_deadline=resolved.deadline_s is not None,
            deadline_s=deadline.seconds,
            reserve_s=deadline.reserve_s,
            whole_try_s=routing.whole_try_s,
            stream=stream,
            forbids_abstaining=forbids_abstaining,
            asks_quality=resolved.quality_floor is not None,
            unproven_label=None
            if routing.labels is None or query is None
            else routing.labels.unproven(query.metadata, resolved.fixed),
            crowded=None
            if query is None or routing.longest_prompt is None or not routing.rooms
            else crowded(query, routing.longest_prompt, routing.rooms, context.policy.tiers[:-1]),
            judged_whole=None
            if query is None or not policy.prefixes or not stream or stream.mode is not StreamMode.PREFIX
            else MAY_BE_LONGER
            if longest is not None
            else None
            if is_plain
            else judged_whole(query),
        )
        apart = set_apart(facts, routing.joint, context.policy)

    def rules(promise: AnswerPromise | None = None) -> RequestConstraints:
        return RequestConstraints(
            context, resolved, routing, top, deadline, promise, began, capable, session, uncovered, share
        )

    floor = resolved.quality_floor
    made = replace(
        context,
        constraints=None if floor is not None else rules(),
        policy=policy,
        safe_tier=top if floor is not None else safe_tier,
        deadline=deadline,
        certificate=certificate,
        quality_floor=floor,
        forbids_abstaining=forbids_abstaining,
        unmeasured=unmeasured,
        uncovered=uncovered,
        set_apart=apart,
        longest_answer=longest,
    )
    if floor is None:
        return made
    promise = answer_promise(routing.shares, made, mode=None if stream is None else stream.mode)
    return replace(made, constraints=rules(promise))


@dataclass(frozen=True, slots=True)
class RequestConstraints:
    """What one request's options, its tool loop, its session and the context lengths make of the router's decision.

    Whatever they are, the tier is never below the router's choice in the policy's ladder. `promise`: what is promised
    of the request before anything is generated, where it has a quality floor. `share`: that of requests which go to
    the last tier instead.
    """

    context: CascadeContext
    resolved: ResolvedOptions
    routing: RoutingContext
    top: str
    deadline: Deadline
    promise: AnswerPromise | None = None
    began: str | None = None
    capable: CapableTiers | None = None
    session: Session | None = None
    uncovered: Uncovered | None = None
    share: float | None = None

    def without_router(self) -> Decision | None:
        """The last tier, where the quality that was asked for is not promised of any other, or where the certificate
        does not cover the request and the configuration sends such there; else None.
        """
        floor, promise, found = self.resolved.quality_floor, self.promise, self.uncovered
        if floor is not None and promise is not None and (promise.share is None or floor > promise.share):
            known = f"{promise.share:g} is certified of {promise.of}" if promise.why_not is None else promise.why_not
            why = f"quality floor {floor:g}: {known}"
            reason = f"{why}; so {self.top}"
            return Decision(self.top, reason, promised=found is None, moved=why, uncovered=found, layer="rule")
        if found is not None and self.routing.when_uncovered == "last_tier":
            reason = f"uncovered: {found.why}; so {self.top}"
            return Decision(self.top, reason, promised=False, uncovered=found, layer="coverage")
        return None

    def apply(self, decision: Decision, query: Query) -> Decision:
        """The decision as what the request needs, its tool loop, its time, its session and its length leave it."""
        context, resolved, routing, ladder = self.context, self.resolved, self.routing, self.context.policy.tiers
        if self.share is not None and not sends(decision.intent):
            decision = by_share(decision, self.share, routing.score_shares, ladder)
        if self.capable is not None:
            decision = self.capable.apply(decision)
            ladder = self.capable.able
        if self.began is not None:
            decision = hold_tool_loop(decision, self.began, ladder)
        budget_s = resolved.latency_budget_s or math.inf
        if math.isfinite(self.deadline.seconds):
            budget_s = min(budget_s, self.deadline.left_s)
        if math.isfinite(budget_s):
            expected = {tier: routing.latencies.expected_s(tier) for tier in context.engines}
            decision = within_latency(decision, budget_s, expected, ladder, context.policy.sends_on(decision))
        if (session := self.session) is not None:
            now = datetime.now(UTC)
            prices = {tier: prices.at(now) for tier, prices in context.prices.items()}
            may_escalate = context.policy.sends_on(decision)
            decision = keep_session(decision, session, prices, ladder, routing.expectations, may_escalate)
        if routing.asleep.tiers:
            decision = routing.asleep.apply(decision, ladder)
        if routing.rooms:
            decision = fit_context(decision, query, routing.rooms, ladder)
        found, coverage = self.uncovered or decision.uncovered, None if self.share is not None else routing.coverage
        if found is None and coverage is not None and decision.distance is not None:
            found = coverage.novel(decision.distance)
        if found is not None:
            decision = keep_promised(decision, found, ladder, resolved.quality_floor, routing.when_uncovered)
        if resolved.quality_floor is not None:
            decision = keep_floor(decision, ladder, resolved.quality_floor)
        return routing.asleep.apply(decision, ladder) if routing.asleep.tiers else decision


def routing_context_for(
    config: GraphConfig, served: ServedPolicy, certificate_status: CertificateStatus
) -> RoutingContext:
    """What a configuration says about routing, for the policy that is served."""
    sessions = config.sessions
    sampling: list[dict[str, Any]] = [{**t.decoding, "max_tokens": t.default_max_tokens} for t in config.tiers]
    return RoutingContext(
        served.promised,
        served.joint,
        {tier.name: Room(tier.context_limit, tier.default_max_tokens) for tier in config.tiers},
        Sessions({tier.name: min(sessions.ttl_s, tier.prompt_cache_s) for tier in config.tiers}, sessions.most),
        expectations=Expectations(sessions.expected_turns, sessions.turn_tokens),
        certificate_status=certificate_status,
        forbids_abstaining=served.forbids_abstaining,
        judges_calls=served.judges_calls,
        capabilities=capabilities_of(config.tiers),
        prefixes=served.prefix_shares,
        labels=served.labels,
        harm=served.harm,
        whole_try_s=whole_try_s(
            config,
            joint=served.joint,
            asks=bool(served.asked),
            asks_first=bool(served.asked_first),
            chain=served.policy.chain,
        ),
        coverage=served.coverage,
        sampling=tuple(own for i, own in enumerate(sampling) if own not in sampling[:i]),
        when_uncovered=config.policy.uncovered,
        longest_prompt=served.longest_prompt,
        share=config.policy.share,
        score_shares=served.score_shares,
        pre_routed=served.pre_routed,
    )
