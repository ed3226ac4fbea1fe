"""Rules that may move a router's decision, one function each: tool loop, latency budget, session, coverage. Pure.

None of them ever moves a request to a cheaper tier than the router chose: what is certified is the router's word
that the cheap tier may be tried, never anybody else's. The exception is `by_share`, of which nothing is promised. An
intent of a catalogue has spoken before: where it sends a request, that is the router's choice here.
`raised` is the one place where a decision is moved up (`context_length` and `capabilities` use it too).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from router_models.metrics.score_shares import ScoreShares
from router_models.pricing.prices import Price
from router_models.pricing.session_cost import Conversation, session_cost
from router_models.types import Decision, IntentMatch
from router_models.types.coverage import Uncovered
from serve_graph.config.policy import WhenUncovered
from serve_graph.gateway.sessions import Session


def raised(decision: Decision, tier: str, why: str, ladder: Sequence[str]) -> Decision:
    """The decision for another tier, which says so; as it was where that tier is cheaper, or not in the ladder.

    `ladder` are the policy's tiers, cheapest first: the later one is the dearer one, whatever its price.
    """
    if tier == decision.tier or tier not in ladder or ladder.index(tier) < ladder.index(decision.tier):
        return decision
    reason = f"{decision.reason}; {tier} instead: {why}"
    return replace(decision, tier=tier, reason=reason, moved=why, layer="rule", then=())


def without_links(decision: Decision, usable: Callable[[str], bool]) -> Decision:
    """The decision without those later tiers of its chain that cannot be used for the request."""
    then = tuple(link for link in decision.then if usable(link[0]))
    if then == decision.then:
        return decision
    out = ", ".join(tier for tier, _ in decision.then if not usable(tier))
    why = f"the chain goes past {out}, which cannot take it now"
    return replace(decision, then=then, reason=f"{decision.reason}; {why}", moved=decision.moved or why)


def by_share(decision: Decision, share: float, scores: ScoreShares, ladder: Sequence[str]) -> Decision:
    """Go to the last tier with this share of the requests, those of the lowest estimates, else to the cheapest.

    Nothing is promised, nobody judges the answer, and coverage does not count. Without an estimate: the last tier.
    """
    said = f"a share of {share:g} to {ladder[-1]}, not a promise"
    if decision.p_cheap_ok is None and share > 0:
        tier, why = ladder[-1], "no estimate"
    else:
        estimate, least = decision.p_cheap_ok, scores.threshold(share)
        tier = ladder[0] if estimate is None or estimate >= least else ladder[-1]
        known = "not estimated" if estimate is None else f"estimated {estimate:.3f}"
        why = known if share in (0, 1) else f"{known} {'≥' if tier == ladder[0] else '<'} {least:.3f}"
    shared = replace(decision, tier=tier, reason=f"{said}: {why}, so {tier}", moved=said, layer="share")
    return replace(shared, promised=False, uncovered=None, then=())


def sends(intent: IntentMatch | None) -> bool:
    """Whether an intent sends the request to a tier."""
    return intent is not None and intent.tier is not None


def keep_floor(decision: Decision, ladder: Sequence[str], floor: float) -> Decision:
    """Go to the last tier where a catalogue of intents leaves nothing promised of a request with a quality floor."""
    intent, top = decision.intent, ladder[-1]
    if intent is None or decision.tier == top or (intent.not_promised is None and decision.moved is None):
        return decision
    why = f"quality floor {floor:g}: nothing is certified of this request; {intent.not_promised or decision.moved}"
    return replace(raised(decision, top, why, ladder), promised=False)


def hold_tool_loop(decision: Decision, began: str, ladder: Sequence[str]) -> Decision:
    """Keep a tool loop on the tier that began it, unless the router now asks for a dearer one."""
    if began == decision.tier:
        return replace(decision, reason=f"{decision.reason}; {began} began the tool loop")
    held = raised(decision, began, f"{began} began the tool loop", ladder)
    return replace(held, reason=f"{held.reason}; not held on {began}, which began it") if held is decision else held


def within_latency(
    decision: Decision,
    budget_s: float,
    expected_s: Mapping[str, float | None],
    ladder: Sequence[str],
    may_escalate: bool = True,
) -> Decision:
    """Go straight to the last tier where that fits the budget and a cheap try that is escalated would not.

    Where neither fits, or a tier's latency is not known yet, the router's choice stands: a budget never lowers the
    promised quality. The reason then says that it may be missed.
    """
    top = ladder[-1]
    cheap, last = expected_s.get(decision.tier), expected_s.get(top)
    if cheap is None or last is None:
        why = "no latencies known yet"
    elif decision.tier == top:
        why = "" if last <= budget_s else f"{top} may take {last:.2f} s, and no cheaper tier replaces it"
    elif cheap + (last if may_escalate and decision.promised else 0.0) <= budget_s:
        why = ""
    elif last <= budget_s:
        why = f"{decision.tier} and then {top} may take {cheap + last:.2f} s, {top} alone {last:.2f} s"
        return raised(decision, top, f"latency budget {budget_s:g} s: {why}", ladder)
    else:
        why = f"{top} alone may miss it too"
    return replace(decision, reason=f"{decision.reason}; latency budget {budget_s:g} s: {why}") if why else decision


def keep_promised(
    decision: Decision, found: Uncovered, ladder: Sequence[str], floor: float | None, when_uncovered: WhenUncovered
) -> Decision:
    """Go to the last tier with a request that the certificate does not cover, and promise nothing of it.

    Where that is to be routed all the same, and the caller has no quality floor, the tier stays and is judged as ever.
    """
    if decision.uncovered is not None and floor is None and (when_uncovered == "route" or decision.tier == ladder[-1]):
        return decision  # the router's own word
    if found.reason == "novelty" and sends(decision.intent) and floor is None:
        return replace(decision, uncovered=found)  # of what is novel to the router an intent decides
    why = f"uncovered: {found.why}"
    if floor is not None:
        why = f"quality floor {floor:g}: nothing is certified of this request; {why}"
    elif when_uncovered == "route":
        return replace(decision, reason=f"{decision.reason}; {why}", uncovered=found)
    moved = raised(decision, ladder[-1], why, ladder)
    reason = f"{decision.reason}; {why}" if moved is decision else moved.reason
    return replace(moved, reason=reason, promised=False, uncovered=found, layer="coverage")


@dataclass(frozen=True, slots=True)
class Expectations:
    """What is assumed of conversations: turns still to come (this one included), new prompt tokens in each."""

    turns: float = 3.0
    turn_tokens: int = 200


def keep_session(
    decision: Decision,
    session: Session,
    prices: Mapping[str, Price],
    ladder: Sequence[str],
    expected: Expectations,
    may_escalate: bool = True,
) -> Decision:
    """Stay on the last tier while its cached prefix is worth more than moving to the cheaper tier now chosen.

    A conversation that was answered by any other tier is not held there: only moves up are allowed.
    """
    top = ladder[-1]
    if session.tier != top or decision.tier == top:
        return decision
    p_escalate = (
        0.0
        if not (may_escalate and decision.promised)
        else 0.5
        if decision.p_cheap_ok is None
        else min(max(1.0 - decision.p_cheap_ok, 0.0), 1.0)
    )
    talk = Conversation(
        session.prefix_tokens,
        session.prefix_tokens,
        expected.turn_tokens,
        session.answer_tokens,
        expected.turns,
        p_escalate,
    )
    found = session_cost(talk, prices[top], prices[decision.tier])
    if found.stay:
        return raised(decision, top, found.reason, ladder)
    return replace(decision, reason=f"{decision.reason}; {found.reason}")
