"""What was promised of one delivered answer. Pure; the record, the explanation and the quality floor go by it.

A certificate is a statement about a set of answers: those that the certified policy alone, looking at the request and
its answer, lets out. An answer is promised only where it belongs to that set. Two things can take it out:

- the *request* is not answered as the certified rows were, by what it asks or by what is in force (`set_apart`). That
  is known before anything is generated, and holds of all such requests, whatever becomes of each: what is left of a
  set once some are taken out by anything that may go with being wrong is bounded by ε/(1 - share taken out) alone;
- its *way* was another than the certified one (`answer_promise`): unjudged, a fallback, another tier's.

docs/concepts/certificate.md has the table, path by path.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from router_models.estimators.verifiers.checks.formats import CALLS_NOT_MEASURED
from router_models.types import Action
from router_models.types.coverage import Uncovered
from router_models.versions.policy import Policy
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.steps import RequestState, StreamMode, StreamTerms
from serve_graph.policy.served_policy import counts_on_abstaining

OF_ALL, OF_ACCEPTED, OF_OVERLOAD = "answers", "accepted cheap answers", "answers served on overload"
OF_PRE_ROUTED = "answers of prompts routed to a cheap tier"
OF_PREFIX = "cheap answers accepted by their first tokens"
BOTH_ASKED = "two tiers were asked, and one answer was to be picked: it is not the certified policy's"
OR_NO_WORSE = ", to be right or no worse than the last tier's"
"""What is promised of a set where wrong answers count only where the last tier's is right (harm)."""


@dataclass(frozen=True, slots=True)
class AnswerPromise:
    """The share of right answers promised of the set `of`, to which this answer belongs; else None and `why_not`."""

    share: float | None
    of: str
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class CertifiedShares:
    """What is certified of a version: `answers`, the share of right ones in `of`; None = nothing is.

    `joint`: of all answers, the thresholds having been certified together. `prefixes`: the share by tier of answers
    accepted by their first tokens. `judges_calls`: the tiers of whose tool calls it speaks too. `harm`: of each set
    the share is that of answers that are right or no worse than the last tier's. `pre_routed`: of all answers of
    prompts that the router sends to a cheaper tier, judged by nobody.
    """

    answers: float | None = None
    joint: bool = False
    prefixes: Mapping[str, float] = field(default_factory=dict)
    judges_calls: Collection[str] = ()
    harm: bool = False
    pre_routed: bool = False

    @property
    def of(self) -> str:
        """Which answers the share is of."""
        return self.said(OF_PRE_ROUTED if self.pre_routed else OF_ALL if self.joint else OF_ACCEPTED)

    def said(self, answers: str) -> str:
        """What the share of a set of answers is of, in full."""
        return answers + OR_NO_WORSE if self.harm else answers


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What of a request and of what is in force for it may set it apart from the certified rows, before generation.

    `tool_loop`: the tier that a tool loop is held on. `is_continued`: it belongs to a conversation that is remembered.
    `deadline_s` leaves a cheap try all it could take where that is at least `whole_try_s` (router and verdict
    included) and what the last tier usually takes (`reserve_s`). `asks_quality`: the caller has a quality floor, and
    is shown nothing unjudged. `unproven_label`: why the labels that decide are not those of the certified rows.
    `judged_whole`: why its answer is judged whole in a stream in which others are judged by their first tokens.
    `crowded`: why some of the certified prompts would not fit a tier if they were asked as this one is. `share`: that
    of requests which go to the last tier, where it was set instead of what is certified.
    """

    choices: int = 1
    forced: str | None = None
    tool_loop: str | None = None
    is_continued: bool = False
    has_latency_budget: bool = False
    has_own_deadline: bool = False
    deadline_s: float = math.inf
    reserve_s: float = 0.0
    whole_try_s: float = math.inf
    stream: StreamTerms | None = None
    forbids_abstaining: bool = False
    asks_quality: bool = False
    unproven_label: str | None = None
    judged_whole: str | None = None
    crowded: str | None = None
    share: float | None = None


def set_apart(facts: RequestFacts, joint: bool, policy: Policy) -> str | None:
    """Why a request is not answered as the certified rows were; None where it is.

    Each is a rule that looks at more than they had, or that takes out some answers and not others.
    """
    stream = facts.stream
    waits = policy.pattern != "pre-route"  # else a stream shows what it has as it comes, within any limit
    limit_s = math.inf if stream is None or stream.first_token_s is None or not waits else stream.first_token_s
    if facts.forced is not None:
        return f"{facts.forced} was asked for by name"
    if facts.share is not None:
        return f"a share of requests is set: {facts.share:g} go to the last tier, and nothing is promised of any"
    if facts.choices > 1:
        return f"{facts.choices} answers at once: one by one they are certified, not that all are right"
    if facts.unproven_label is not None:
        return facts.unproven_label
    if facts.judged_whole is not None:
        return f"{facts.judged_whole} where others are by their first tokens: certified only together with these"
    if facts.crowded is not None:
        return facts.crowded
    if facts.tool_loop is not None:
        return f"{facts.tool_loop} began the tool loop, and holds it whatever the router says"
    if facts.is_continued:
        return "a conversation that is remembered: where it was answered before decides with the router"
    if facts.has_latency_budget:
        return "a latency budget decides with the router"
    if facts.has_own_deadline:
        return "a deadline of the request's own, which takes out slow answers"
    if facts.deadline_s < facts.whole_try_s + facts.reserve_s:
        return f"a deadline of {facts.deadline_s:g} s, which may take out slow answers"
    if limit_s < facts.whole_try_s:
        return f"a stream that shows something within {limit_s:g} s, which takes out slow answers"
    if stream is not None and stream.mode is StreamMode.ROUTE and waits and not facts.asks_quality:
        return "a stream that is shown unjudged (route)"
    if joint and counts_on_abstaining(policy, forbids_abstaining=facts.forbids_abstaining, stream=stream is not None):
        return "abstentions were counted on, and this request has none"
    return None


def answer_promise(
    shares: CertifiedShares,
    context: CascadeContext,
    end: RequestState | None = None,
    *,
    failed: bool = False,
    mode: StreamMode | None = None,
) -> AnswerPromise:
    """What is promised of a request's answer.

    Parameters
    ----------
    shares
        What is certified of the version.
    context
        As the request is answered: its policy, its certificate, and why it may not be covered.
    end
        How it ended; None before anything is generated: what is promised then if it goes the certified way.
    failed
        It ended with an error.
    mode
        How its stream commits, for what is not generated yet: what is shown early has a share of its own.
    """
    if shares.answers is None:
        return AnswerPromise(None, shares.of, "nothing is certified")
    why = context.certificate.fault() or context.unmeasured or _not_covered(context, end) or context.set_apart
    if why is None and end is None and mode is StreamMode.PREFIX:
        return AnswerPromise(min((shares.answers, *shares.prefixes.values())), shares.of)
    if why is not None or end is None:
        return AnswerPromise(None if why else shares.answers, shares.of, why)
    if failed or end.completion is None:
        return AnswerPromise(None, shares.of, "no answer was given in full")
    why = _off_the_way(shares, context.policy, end)
    if end.served_on_overload:
        point, fault = context.policy.overload_points.get(end.tier), context.certificate.fault(f"spill:{end.tier}")
        why = why or fault or (None if point else f"{end.tier} has no certified overload point")
        return AnswerPromise(None if why or point is None else point.promised, shares.said(OF_OVERLOAD), why)
    if end.by_prefix:
        why = why or context.certificate.fault(f"prefix:{end.tier}")
        share = shares.prefixes.get(end.tier)
        why = why or (None if share is not None else f"nothing is certified of {end.tier}'s first tokens")
        return AnswerPromise(None if why else share, shares.said(OF_PREFIX), why)
    return AnswerPromise(None if why else shares.answers, shares.of, why)


def uncovered(context: CascadeContext, end: RequestState | None) -> Uncovered | None:
    """How a request lies outside what was certified, by itself or by its decision; None where it does not."""
    decision = None if end is None else end.decision
    return context.uncovered or (None if decision is None else decision.uncovered)


def _not_covered(context: CascadeContext, end: RequestState | None) -> str | None:
    found = uncovered(context, end)
    return None if found is None else f"the certificate does not cover this request: {found.why}"


def _off_the_way(shares: CertifiedShares, policy: Policy, end: RequestState) -> str | None:
    """Why an answer went another way than the certified one, by its steps in order; None where it did not."""
    decision, verdict, tier, top = end.decision, end.verdict, end.tier, policy.top
    if decision is None or end.action is Action.FORCED:
        return f"the answer of {tier} was not routed"
    if end.rules is not None and end.rules.asks_both:
        return BOTH_ASKED
    if not decision.promised:
        return decision.reason
    if decision.intent is not None and decision.intent.not_promised is not None:
        return decision.intent.not_promised
    if decision.moved is not None:
        return f"not where the router sent it: {decision.moved}"
    if end.action is Action.FALLBACK and not end.served_on_overload:
        return f"{tier} answered as a fallback"
    if end.action is Action.ABSTAINED:
        return "no answer was shown"
    if shares.joint and (end.by_prefix or end.served_on_overload):
        return "shown early or on overload, of which nothing was certified together"
    if end.completion is not None and len(end.completion.payload.get("choices") or ()) > 1:
        return "several answers at once"
    if end.unjudged:
        return f"the answer of {tier} was not judged"
    if verdict is not None and not verdict.promised and (end.action is not Action.ESCALATED or shares.joint):
        return verdict.reason
    if end.completion is not None and end.completion.tool_calls and tier not in shares.judges_calls:
        return CALLS_NOT_MEASURED
    if end.action is Action.ESCALATED and (verdict is None or verdict.action is Action.ACCEPTED):
        return "sent on without a verdict"
    if tier != top:
        is_judged = verdict is not None and (end.action is Action.ACCEPTED or end.served_on_overload)
        is_judged |= end.action is Action.ROUTED and tier == decision.tier and policy.pre_routes(tier)
        is_judged |= end.action is Action.ESCALATED and policy.chain and policy.pre_routes(tier)
        return None if is_judged else f"the answer of {tier} was not judged"
    return None if shares.joint else f"{top}, the last tier, answered: only of cheap answers something is certified"
