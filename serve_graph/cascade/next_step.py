"""What comes next for one request. Pure: every rule of the cascade is here, and nothing waits, reads a clock or calls.

    Started ─▶ ASK_ROUTER ─ Decided ─▶ CALL the last tier ─ Answered ─▶ REPLY (or JUDGE it, where it may abstain)
                                ├────▶ CALL a tier below that is pre-routed, or has its share ─ Answered ─▶ REPLY
                                └────▶ CALL a tier below, on trial ─ Answered ─▶ JUDGE ─ accepted, abstained ─▶ REPLY
                                                                                   └─ escalated ─▶ CALL the last tier,
                                                                or in a chain the next one, on trial as the one before
    Started ─▶ ASK_BOTH ─ Picked ─▶ REPLY; NotPicked ─▶ ASK_ROUTER, as above, with what both said at hand

A tier that fails is replaced once (`_tier_failed`); router or verifier down: the safe tier answers (`_policy_failed`);
the last tier full: a rejected answer that is certified for that may be served. A stream adds COMMIT: from there on
the tier never changes (docs/guides/streaming.md).
"""

from __future__ import annotations

import math
from dataclasses import replace

from router_models.types import Action, Completion, Verdict
from router_models.versions.policy import worst
from serve_graph.cascade.steps import (
    Answered,
    BudgetSpent,
    CascadeEvent,
    CommitPolicy,
    Decided,
    Delivery,
    Do,
    FirstPiece,
    Judged,
    NotPicked,
    Picked,
    PolicyFailed,
    PrefixReady,
    RequestState,
    Rules,
    Started,
    Step,
    StreamMode,
    StreamTerms,
    TierFailed,
)
from serve_graph.errors import CertificateVoidError, DeadlineError, EngineRequestError, SaturatedError

SHORT = "an answer too short for its prefix verdict, which was certified only together with longer ones"
"""Said of every verdict on a whole answer in a stream of the mode `prefix`: nothing is promised of these alone."""


def next_step(state: RequestState, event: CascadeEvent) -> Step:
    """What to do about `event`, which answers the state's last step. Changes nothing: `advance` does.

    Raises TypeError for an event that the last step cannot end in.
    """
    if isinstance(event, Started):
        return _started(state, event)
    rules, last = state.rules, state.step
    if rules is None or last is None:
        raise TypeError("a request begins with Started")
    match event, last.do:
        case Picked(), Do.ASK_BOTH:
            return Step(Do.REPLY, event.tier, Action.ENSEMBLE, f"picked by {event.by}", completion=event.completion)
        case NotPicked(), Do.ASK_BOTH:  # a stream has nothing to show early where the answers are there already
            rules = replace(rules, stream=None) if event.has_answers else rules
            return Step(Do.ASK_ROUTER, state.tier, state.action, f"not an ensemble: {event.why}", rules=rules)
        case Decided(), Do.ASK_ROUTER:
            return _decided(rules, event)
        case PolicyFailed(), Do.ASK_ROUTER | Do.JUDGE:
            return _policy_failed(rules, state, last, event)
        case Judged(), Do.JUDGE:
            return _judged(rules, state, last, event)
        case Answered(), Do.CALL | Do.READ | Do.COMMIT:
            return _answered(rules, state, last, event)
        case TierFailed(), Do.CALL | Do.READ | Do.COMMIT:
            return _tier_failed(rules, state, last, event)
        case FirstPiece(), Do.CALL | Do.READ if last.delivery is not Delivery.WHOLE:
            may_show = last.delivery is Delivery.LIVE or last.commit_policy.commits_unjudged
            return replace(last, do=Do.COMMIT if may_show else Do.READ, note="", decision=None, verdict=None)
        case PrefixReady(), Do.CALL | Do.READ if last.commit_policy.prefix_tokens is not None:
            return replace(last, do=Do.JUDGE, note="", completion=event.prefix)
        case BudgetSpent(), Do.CALL | Do.READ if last.commit_policy.budget_s is not None:
            return _budget_spent(rules, state, last, event)
    raise TypeError(f"{type(event).__name__} does not answer {last.do.name}")


def advance(state: RequestState, event: CascadeEvent) -> Step:
    """The next step, written down in the state."""
    step, judged = next_step(state, event), state.step
    is_first = state.decision is None or state.tier == state.decision.tier
    if judged is not None and judged.do is Do.JUDGE and step.action is Action.ESCALATED and is_first:
        state.tried = judged.completion if judged.commit_policy.prefix_tokens is None else None
    if judged is not None and judged.checked and isinstance(event, Answered) and step.action is Action.ESCALATED:
        state.tried = event.completion
    state.step, state.tier, state.action = step, step.tier, step.action
    state.asked = (*state.asked, step.tier) if step.do is Do.CALL else state.asked
    if step.note:
        state.notes.append(step.note)
    state.rules = step.rules or state.rules
    state.decision = step.decision or state.decision
    state.verdict = step.verdict or state.verdict
    state.rejected = step.rejected or state.rejected
    state.by_prefix, state.unjudged = state.by_prefix or step.by_prefix, state.unjudged or step.unjudged
    if step.do is Do.REPLY:
        state.completion, state.served_on_overload = step.completion, step.serves_rejected
    return step


def _started(state: RequestState, event: Started) -> Step:
    rules, terms = event.rules, event.rules.stream
    if terms is not None and rules.asks_quality:
        mode = StreamMode.VERIFY if terms.mode is StreamMode.ROUTE else terms.mode
        rules = replace(rules, stream=replace(terms, mode=mode, at_first_token="escalate"))
    if rules.asks_quality:  # nothing is promised of an answer that is picked
        rules = replace(rules, asks_both=False)
    if rules.forced is not None:
        return replace(_call(rules, rules.forced, Action.FORCED, event.left_s), rules=rules)
    return Step(Do.ASK_BOTH if rules.asks_both else Do.ASK_ROUTER, state.tier, state.action, rules=rules)


def _decided(rules: Rules, event: Decided) -> Step:
    decision = event.decision
    if rules.asks_quality and not decision.promised and decision.tier != rules.top:
        decision = replace(decision, tier=rules.top, reason=f"{decision.reason}; a quality floor: {rules.top}")
    call = _call(rules, decision.tier, Action.ROUTED, event.left_s)
    if call.do is Do.CALL and decision.tier != rules.top:
        call = _try(rules, call) if rules.policy.sends_on(decision) else _checked(rules, call)
    return replace(call, decision=decision)


def _checked(rules: Rules, call: Step) -> Step:
    """Have a tier below the last answer unjudged: at once, or whole where a rule has to look at the answer first."""
    if not rules.shaped and rules.longest_answer is None:
        return call
    return replace(call, checked=True, delivery=Delivery.WHOLE)


def _try(rules: Rules, call: Step) -> Step:
    """Have a tier below the last make an answer that needs a verdict, unless the stream's mode is route."""
    left_s, terms = call.timeout_s, rules.stream
    try_s = left_s - rules.reserve_s if rules.reserve_s < left_s else left_s
    if terms is None:
        return replace(call, on_trial=True, timeout_s=try_s)
    if terms.mode is StreamMode.ROUTE:
        return replace(call, note="streamed at once, unjudged")
    early, why = _commit_policy(rules, terms, call.tier, try_s)
    is_buffered = early.prefix_tokens is not None or early.budget_s is not None
    delivery = Delivery.BUFFERED if is_buffered else Delivery.WHOLE
    note = "; ".join(filter(None, (call.note, why)))
    return replace(call, note=note, on_trial=True, delivery=delivery, commit_policy=early)


def _commit_policy(rules: Rules, terms: StreamTerms, tier: str, try_s: float) -> tuple[CommitPolicy, str]:
    """What may commit this tier's stream before its end, and a note where a prefix verdict cannot."""
    budget_s, at_budget, tokens, why = terms.first_token_s, terms.at_first_token, None, ""
    if terms.mode is StreamMode.PREFIX:
        point = rules.policy.prefixes.get(tier)
        why = f"{tier} has no certified prefix verdict" if point is None else rules.judged_whole or ""
        tokens = None if point is None or why else point.tokens
    if try_s < (budget_s or math.inf):  # what the last tier needs of the deadline must be left to it
        budget_s, at_budget = try_s, "escalate"
    return CommitPolicy(tokens, budget_s, at_budget), f"prefix asked for, but {why}: verify" if why else ""


def _answered(rules: Rules, state: RequestState, last: Step, event: Answered) -> Step:
    completion = event.completion
    if last.checked and (fault := event.fault or _longer(rules, last.tier, completion)) is not None:
        verdict = Verdict(Action.ESCALATED, fault, layer="check")
        return replace(_escalate(rules, state, last.tier, event.left_s), verdict=verdict)
    if last.do is not Do.COMMIT:
        promised = state.decision is None or state.decision.promised  # else nobody abstains, whatever a verdict says
        may_abstain = rules.judges_top and promised and state.tier == rules.top
        may_abstain = may_abstain and state.action in (Action.ROUTED, Action.ESCALATED)
        if last.on_trial or (may_abstain and last.delivery is Delivery.WHOLE):
            is_short = last.commit_policy.prefix_tokens is not None
            judged = CommitPolicy()
            return replace(last, do=Do.JUDGE, note="", completion=completion, commit_policy=judged, is_short=is_short)
    return Step(Do.REPLY, state.tier, state.action, completion=completion)


def _judged(rules: Rules, state: RequestState, last: Step, event: Judged) -> Step:
    tier, completion = state.tier, last.completion
    said = event.verdicts
    if last.is_short:
        said = [replace(verdict, promised=False, reason=f"{verdict.reason}; {SHORT}") for verdict in said]
    said = [_of_covered_length(rules, tier, completion, verdict) for verdict in said]
    verdicts = [_permitted(rules, tier, verdict) for verdict in said]
    verdict = verdicts[0] if len(verdicts) == 1 else worst(verdicts)
    if not last.on_trial:
        if verdict.action is Action.ABSTAINED:
            return Step(Do.REPLY, tier, Action.ABSTAINED, verdict=verdict, completion=completion)
        return Step(Do.REPLY, tier, state.action, completion=completion)
    is_prefix = last.commit_policy.prefix_tokens is not None
    if verdict.action is Action.ESCALATED or (is_prefix and verdict.action is not Action.ACCEPTED):
        may_serve = verdict.may_serve_on_overload and not is_prefix and (verdict.promised or not rules.asks_quality)
        rejected = (tier, completion) if completion and may_serve else None
        goes_on = verdict.promised and not is_prefix  # what could not be judged has the last word's tier at once
        call = _escalate(rules, state, tier if goes_on else None, event.left_s)
        return replace(call, verdict=verdict, rejected=rejected)
    if is_prefix:
        return replace(last, do=Do.COMMIT, action=verdict.action, verdict=verdict, by_prefix=True)
    return Step(Do.REPLY, tier, verdict.action, verdict=verdict, completion=completion)


def _escalate(rules: Rules, state: RequestState, rejected: str | None, left_s: float) -> Step:
    """Have the chain's next tier answer after `rejected`, on trial; without one, or time for it, the last tier.

    A stream that has to show something soon has no time for it.
    """
    following = None if rejected is None or state.decision is None else state.decision.after(rejected)
    in_time = rules.reserve_s < left_s and (rules.stream is None or rules.stream.first_token_s is None)
    if following is None or not in_time:
        return _call(rules, rules.top, Action.ESCALATED, left_s)
    call = _call(rules, following, Action.ESCALATED, left_s, f"{rejected}'s answer was rejected: {following}")
    return _checked(rules, call) if rules.policy.pre_routes(following) else _try(rules, call)


def _of_covered_length(rules: Rules, tier: str, completion: Completion | None, verdict: Verdict) -> Verdict:
    """The verdict; where an answer below the last tier is longer than any that was certified, it is not accepted."""
    why = None if completion is None or verdict.action is not Action.ACCEPTED else _longer(rules, tier, completion)
    return (
        verdict
        if why is None
        else replace(verdict, action=Action.ESCALATED, reason=f"{verdict.reason}; {why}", layer="check")
    )


def _longer(rules: Rules, tier: str, completion: Completion) -> str | None:
    """Why an answer below the last tier is longer than any that was certified; None where it is not."""
    longest, tokens = rules.longest_answer, completion.usage.completion_tokens
    if longest is None or tier == rules.top or tokens <= longest:
        return None
    return f"{tokens} tokens, and no answer longer than {longest} was certified: escalate"


def _permitted(rules: Rules, tier: str, verdict: Verdict) -> Verdict:
    """The verdict; where abstaining is forbidden, an abstention becomes what it stands in for.

    Whoever has a quality floor gets no answer of a tier below the last that nothing is promised of.
    """
    if verdict.action is Action.ACCEPTED and not verdict.promised and rules.asks_quality and tier != rules.top:
        return replace(verdict, action=Action.ESCALATED, reason=f"{verdict.reason}; a quality floor: {rules.top}")
    if verdict.action is not Action.ABSTAINED or not rules.forbids_abstaining:
        return verdict
    action = Action.ACCEPTED if tier == rules.top else Action.ESCALATED
    return replace(verdict, action=action, reason=f"{verdict.reason}; forbidden: {action}")


def _policy_failed(rules: Rules, state: RequestState, last: Step, event: PolicyFailed) -> Step:
    """Go to the safe tier while router or verifier is down; to the last one once nothing is certified any more."""
    if last.do is Do.JUDGE and not last.on_trial:
        note = f"the last answer was not judged: {event.error}"
        return Step(Do.REPLY, state.tier, state.action, note, completion=last.completion, unjudged=True)
    who = "router" if last.do is Do.ASK_ROUTER else "verifier"
    tier, note = rules.safe_tier, f"{who} unavailable: {event.error}"
    if isinstance(event.error, CertificateVoidError):
        tier, note = rules.top, str(event.error)
    if tier != state.tier and tier in state.asked:  # by a chain, and what it said was rejected
        tier = rules.top
    if last.do is Do.JUDGE and tier == state.tier:  # it has answered already
        do = Do.COMMIT if last.commit_policy.prefix_tokens is not None else Do.REPLY
        return replace(last, do=do, action=Action.FALLBACK, note=note)
    return _call(rules, tier, Action.FALLBACK, event.left_s, note)


def _tier_failed(rules: Rules, state: RequestState, last: Step, event: TierFailed) -> Step:
    error = event.error
    fail = Step(Do.FAIL, state.tier, state.action, error=error)
    decided = state.decision if state.action is Action.ROUTED else None
    unmeasured = decided is not None and (not decided.promised or rules.policy.pre_routes(state.tier))
    is_trial = last.on_trial or (unmeasured and state.tier != rules.top)  # the last one may take what it refused
    if last.do is Do.COMMIT or (isinstance(error, EngineRequestError) and not is_trial):
        return fail
    is_full = isinstance(error, SaturatedError) and state.action is Action.ESCALATED
    if is_full and state.rejected is not None and event.may_serve_rejected:
        tier, completion = state.rejected
        note = f"served on overload: {state.tier} has no room now"
        return Step(Do.REPLY, tier, Action.FALLBACK, note, completion=completion, serves_rejected=True)
    is_link = last.on_trial and state.action is Action.ESCALATED  # a tier of a chain that was not asked first
    spare = rules.top if is_link or rules.safe_tier == state.tier else rules.safe_tier
    if state.action in (Action.FORCED, Action.FALLBACK) or spare in state.asked:
        return fail
    return _call(rules, spare, Action.FALLBACK, event.left_s, f"{state.tier} failed: {error.recordable}")


def _budget_spent(rules: Rules, state: RequestState, last: Step, event: BudgetSpent) -> Step:
    why = f"nothing shown within {last.commit_policy.budget_s:.3g} s"
    if last.commit_policy.at_budget == "escalate":
        return _call(rules, rules.top, Action.ESCALATED, event.left_s, f"{why}: escalated unjudged")
    commit_policy = CommitPolicy(commits_unjudged=True)
    do = Do.COMMIT if event.has_pieces else Do.READ
    return replace(last, do=do, commit_policy=commit_policy, note=f"{why}: committed unjudged")


def _call(rules: Rules, tier: str, action: Action, left_s: float, note: str = "") -> Step:
    """Have a tier answer for good: nobody judges it first. Without any time left the request has failed."""
    if left_s <= 0:
        error = DeadlineError(f"no answer within the deadline of {rules.deadline_s:g} s")
        return Step(Do.FAIL, tier, action, note, error=error)
    delivery = Delivery.WHOLE if rules.stream is None else Delivery.LIVE
    return Step(Do.CALL, tier, action, note, delivery=delivery, timeout_s=left_s)
