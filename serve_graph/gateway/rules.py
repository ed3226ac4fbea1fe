"""Rules that may move a router's decision, one function each: context length, latency budget, session. Pure.

None of them ever moves a request to a cheaper tier than the router chose: what is certified is the router's word
that the cheap tier may be tried, never anybody else's. The one exception is a prompt that fits nowhere above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from router_models.pricing.prices import Price
from router_models.pricing.session_cost import Conversation, session_cost
from router_models.types import Decision, Query
from serve_graph.gateway.sessions import Session

BYTES_PER_TOKEN = 2.5  # English has about 4, code 3, Chinese and Arabic 2 to 3: short, so that a prompt fits after all
TOKENS_PER_MESSAGE = 8


@dataclass(frozen=True, slots=True)
class Room:
    """A tier's context and the answer tokens it leaves where a request does not say."""

    context_tokens: int
    default_max_tokens: int


def prompt_tokens(query: Query) -> int:
    """How many tokens the whole conversation takes at most, all but surely. An estimate: nobody is refused by it."""
    texts = [message.content for message in query.messages]
    extra = query.parameters.get("tools"), query.parameters.get("response_format")
    size = sum(len(text.encode("utf-8", "replace")) for text in texts) + sum(len(str(x)) for x in extra if x)
    return math.ceil(size / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(texts)


def fit_context(decision: Decision, query: Query, rooms: Mapping[str, Room], tiers: Sequence[str]) -> Decision:
    """Move a prompt that does not fit the chosen tier up to the first that it fits, else to the largest.

    `tiers` are the ladder, cheapest first. The engine has the last word: it counts, and refuses what does not fit.
    """
    tokens = prompt_tokens(query)
    asked = query.parameters.get("max_tokens")

    def fits(tier: str) -> bool:
        room = rooms[tier]
        return tokens + int(asked or room.default_max_tokens) <= room.context_tokens

    if fits(decision.tier):
        return decision
    above = tiers[tiers.index(decision.tier) :]
    tier = next((t for t in above if fits(t)), max(tiers, key=lambda t: rooms[t].context_tokens))
    if tier == decision.tier:
        return decision
    why = f"about {tokens} prompt tokens may not fit {decision.tier}'s {rooms[decision.tier].context_tokens}"
    return moved(decision, tier, why)


def within_latency(decision: Decision, budget_s: float, expected_s: Mapping[str, float | None], top: str) -> Decision:
    """Go straight to the last tier where that fits the budget and a cheap try that is escalated would not.

    Where neither fits, or a tier's latency is not known yet, the router's choice stands: a budget never lowers the
    promised quality.
    """
    if decision.tier == top:
        return decision
    cheap, last = expected_s.get(decision.tier), expected_s.get(top)
    if cheap is None or last is None:
        return replace(decision, reason=f"{decision.reason}; latency budget: no latencies known yet")
    if cheap + last <= budget_s:
        return decision
    if last <= budget_s:
        why = f"{decision.tier} and then {top} may take {cheap + last:.2f} s, {top} alone {last:.2f} s"
        return moved(decision, top, f"latency budget {budget_s:g} s: {why}")
    return replace(decision, reason=f"{decision.reason}; latency budget {budget_s:g} s: {top} alone may miss it too")


@dataclass(frozen=True, slots=True)
class Expectations:
    """What is assumed of conversations: turns still to come (this one included), new prompt tokens in each."""

    turns: float = 3.0
    turn_tokens: int = 200


def keep_session(
    decision: Decision, session: Session, prices: Mapping[str, Price], top: str, expected: Expectations
) -> Decision:
    """Stay on the last tier while its cached prefix is worth more than moving to the cheaper tier now chosen."""
    if session.tier != top or decision.tier == top:
        return decision
    p_escalate = 0.5 if decision.p_cheap_ok is None else min(max(1.0 - decision.p_cheap_ok, 0.0), 1.0)
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
        return moved(decision, top, found.reason)
    return replace(decision, reason=f"{decision.reason}; {found.reason}")


def moved(decision: Decision, tier: str, why: str) -> Decision:
    """A decision for another tier, which says so."""
    return replace(decision, tier=tier, reason=f"{decision.reason}; {tier} instead: {why}")
