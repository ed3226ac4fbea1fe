"""One request explained: what it was decided on, in plain words and numbers, and what the other way would have cost.

`evidence` is what a record keeps for that; `explained` is the page. For administrators only: thresholds and scores
tell how to get round a policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from router_models.data.features import logprob_summary
from router_models.pricing.prices import plain_decimal
from router_models.pricing.savings import answering_call, would_have_cost
from router_models.types import Call, DecisionRecord
from serve_graph.cascade.billing import Prices
from serve_graph.cascade.context import CascadeContext, RequestState
from serve_graph.records.store import record_to_json


def evidence(
    context: CascadeContext,
    state: RequestState,
    resolved: Mapping[str, Any],
    promised: float | None,
    joint: bool = False,
) -> dict[str, Any]:
    """What the record keeps: thresholds in force, the promise, the wishes, and what was measured of the answer."""
    found: dict[str, Any] = {
        "thresholds": {
            tier: {
                "route_at": _plain(point.route_at),
                "accept_at": _plain(point.accept_at),
                "abstain_below": point.abstain_below,
            }
            for tier, point in context.policy.points.items()
        },
        "promised": promised,
        "promised_of": "answers" if joint else "accepted cheap answers",
        "safe_tier": context.safe_tier,
    }
    if math.isfinite(context.deadline.seconds):
        found["deadline_s"] = context.deadline.seconds
    if state.served_on_overload:
        point = context.policy.overload_points[state.tier]
        found["spilled"] = {"spill_at": _plain(point.serve_at), "promised": point.promised}
    if resolved:
        found["wishes"] = dict(resolved)
    if state.completion is not None:
        answer = state.completion
        found["signals"] = {"finish_reason": answer.finish_reason, "answer_chars": len(answer.text)}
        if answer.token_logprobs:
            found["signals"] |= logprob_summary(answer.token_logprobs)
    return found


def explained(record: DecisionRecord, prices: Prices, tiers: Sequence[str]) -> dict[str, Any]:
    """The record as JSON-able data with `explanation` (sentences) and `other_branch` beside it."""
    other = other_branch(record, prices, tiers)
    return record_to_json(record) | {"explanation": sentences(record, other), "other_branch": other}


def other_branch(record: DecisionRecord, prices: Prices, tiers: Sequence[str]) -> dict[str, Any] | None:
    """What the way not taken would have cost: straight to the last tier, or the cheapest tier tried first.

    Always an estimate from the tokens of the answer that was shown; None where nothing was answered.
    """
    top = tiers[-1]
    answer = answering_call(record, record.tier)
    if answer is None or len(tiers) < 2:
        return None
    tried = {call.tier for call in record.calls}
    other = top if tried - {top} else tiers[0]
    usd = would_have_cost(record, other, prices) if other in prices else None
    if usd is None:
        return None
    way = f"{other} alone" if other == top else f"{other}, had its answer been accepted"
    return {
        "way": way,
        "tier": other,
        "usd": str(usd),
        "difference_usd": str(record.cost_usd - usd),
        "estimated": other != record.tier,
        "basis": "the prompt and answer tokens of the answer that was shown, at that tier's price of the time",
    }


def sentences(record: DecisionRecord, other: Mapping[str, Any] | None) -> list[str]:
    """The decision told in order."""
    told = [
        f"{record.created_at}: {record.requested_model!r} was asked for; {record.tier} answered ({record.outcome}, "
        f"status {record.status}{f', {record.error}' if record.error else ''}) in {record.latency_s:.2f} s",
        f"Routing: {record.route_reason}.",
    ]
    if record.distance is not None:
        told.append(f"The prompt lies {record.distance:.3f} from what the router was trained on (0: typical).")
    told.append(f"Verdict: {record.verdict_reason}." if record.verdict_reason else "Verdict: none was asked for.")
    seen = record.evidence
    if deadline_s := seen.get("deadline_s"):
        told.append(f"Deadline: {deadline_s:g} s for everything.")
    if resolved := seen.get("wishes"):
        told.append("Wishes: " + ", ".join(f"{name} {value}" for name, value in resolved.items()) + ".")
    told += [
        f"Thresholds of {tier}: tried from {_shown(t['route_at'])}, accepted from {_shown(t['accept_at'])}, "
        f"abstains below {_shown(t['abstain_below'])}."
        for tier, t in seen.get("thresholds", {}).items()
    ]
    promised = seen.get("promised")
    whose = seen.get("promised_of", "accepted cheap answers")
    proven = "nothing certified" if promised is None else f"{promised:.1%} of {whose} certified to be right"
    told.append(f"Version {record.version}: {proven}.")
    if spill := seen.get("spilled"):
        told.append(
            f"Spilled, the last tier being full: {spill['promised']:.1%} of such answers certified to be right."
        )
    if signals := seen.get("signals"):
        told.append("Answer: " + ", ".join(f"{name} {_shown(value)}" for name, value in signals.items()) + ".")
    told += [_line(line) for line in record.bill]
    unmetered = sum(not line.metered for line in record.bill)
    short = f", without the tokens of {unmetered} call(s) that nobody counted" if unmetered else ""
    told.append(f"Bill: ${plain_decimal(record.cost_usd)}{short}.")
    if other is not None:
        kind = "estimated from the tokens" if other["estimated"] else "billed"
        told.append(f"The other way, {other['way']}: ${plain_decimal(Decimal(other['usd']))} ({kind}).")
    return told


def _line(line: Call) -> str:
    used = line.usage
    tokens = f"{used.prompt_tokens} + {used.completion_tokens} tokens"
    cached = f" ({used.cached_tokens} from the cache)" if used.cached_tokens else ""
    uncounted = f", {used.completion_tokens} tokens named" if used.completion_tokens else ", tokens unknown"
    counted = f", {tokens}{cached}" if line.metered and used.prompt_tokens else "" if line.metered else uncounted
    return f"Paid: {line.what} by {line.tier}{counted}, {line.latency_s:.3f} s: ${plain_decimal(line.cost_usd)}."


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _shown(value: Any) -> str:
    return "never" if value is None or value == "inf" else f"{value:.3f}" if isinstance(value, float) else str(value)
