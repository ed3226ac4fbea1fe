"""Explain one request: its evidence in numbers and sentences, and what the alternative would have cost.

The evidence is stored in the record (`gateway.request`); `explained` is the page. For administrators only: thresholds
and scores reveal how to circumvent a policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from router_models.errors import by_number
from router_models.pricing.prices import plain_decimal
from router_models.pricing.savings import answering_call, would_have_cost
from router_models.types import Call, DecisionRecord
from serve_graph.cascade.billing import Prices
from serve_graph.records.store import record_to_json


def explained(record: DecisionRecord, prices: Prices, tiers: Sequence[str]) -> dict[str, Any]:
    """Return the record as JSON-able data with `explanation` (sentences) and `other_branch`."""
    other = other_branch(record, prices, tiers)
    return record_to_json(record) | {"explanation": sentences(record, other), "other_branch": other}


def other_branch(record: DecisionRecord, prices: Prices, tiers: Sequence[str]) -> dict[str, Any] | None:
    """Return what the alternative would have cost: the last tier alone, or the cheapest tier tried first.

    Always an estimate from the tokens of the delivered answer; None if there was none.
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
    way = f"{other} alone" if other == top else f"{other}, if its answer had been accepted"
    return {
        "way": way,
        "tier": other,
        "usd": str(usd),
        "difference_usd": str(record.cost_usd - usd),
        "estimated": other != record.tier,
        "basis": "prompt and completion tokens of the delivered answer, at that tier's price at the time",
    }


def sentences(record: DecisionRecord, other: Mapping[str, Any] | None) -> list[str]:
    """Return the decision as sentences, in order."""
    lines = [
        f"{record.created_at}: model {record.requested_model!r} was requested; {record.tier} answered "
        f"({record.outcome}, status {record.status}{f', {record.error}' if record.error else ''}) "
        f"in {record.latency_s:.2f} s",
        f"Routing: {record.route_reason}.",
    ]
    if layer := record.evidence.get("layer"):
        lines.append(f"Decided by: {layer} (pattern {record.evidence.get('pattern')}).")
    if record.distance is not None:
        lines.append(f"Distance of the prompt from the training data: {record.distance:.3f} (0: typical).")
    lines.append(f"Verdict: {record.verdict_reason}." if record.verdict_reason else "Verdict: none was needed.")
    stored = record.evidence
    if request_id := stored.get("request_id"):
        lines.append(f"Request id: {request_id}.")
    if trace := stored.get("trace"):
        lines.append(f"Trace: {trace}.")
    if deadline_s := stored.get("deadline_s"):
        lines.append(f"Deadline: {deadline_s:g} s in total.")
    if resolved := stored.get("wishes"):
        lines.append("Request options: " + ", ".join(f"{name} {value}" for name, value in resolved.items()) + ".")
    lines += [
        f"Thresholds of {tier}: "
        + (
            f"answers, unjudged, from {_shown(t['route_at'])} (pre-route)."
            if t["accept_at"] == "-inf" and t["abstain_below"] is None
            else f"tried from {_shown(t['route_at'])}, accepted from {_shown(t['accept_at'])}, "
            f"abstains below {_shown(t['abstain_below'])}."
        )
        for tier, t in stored.get("thresholds", {}).items()
    ]
    promised = stored.get("promised")
    subject, _, said = stored.get("promised_of", "accepted cheap answers").partition(", ")
    to_be = said or "to be correct"
    proven = "nothing certified" if promised is None else f"{promised:.1%} of {subject} certified {to_be}"
    if why := stored.get("not_promised"):
        proven = f"nothing promised of this answer: {why}"
    lines.append(f"Version {record.version}: {proven}.")
    if (intent := stored.get("intent")) and "intent" in intent:
        sent = f"sent to {intent['tier']}" if intent["tier"] else "left to the router"
        lines.append(
            f"Layer: {intent['layer']}, intent: {intent['intent']}, cosine {intent['cosine']:.2f} "
            f"(from {intent['floor']:.2f} on), {sent}; catalogue {intent['catalogue']}."
        )
    if rollout := stored.get("rollout"):
        lines.append(
            f"Rollout {rollout['id']}: answered by the {rollout['arm']} version, the candidate having "
            f"{rollout['weight']:.3g} of the traffic."
        )
    if ensemble := stored.get("ensemble"):
        lines.append(_ensemble_line(ensemble))
    if overload := stored.get("spilled"):
        share = overload["promised"]
        certified = "nothing" if share is None else f"{share:.1%} of such answers"
        lines.append(f"Served on overload of the last tier: {certified} certified {to_be}.")
    if signals := stored.get("signals"):
        lines.append("Answer: " + ", ".join(f"{name} {_shown(value)}" for name, value in signals.items()) + ".")
    if asked := stored.get("asked_signals"):
        lines.append("Asked for: " + ", ".join(f"{name} {_shown(value)}" for name, value in asked.items()) + ".")
    lines += [_line(line) for line in record.bill]
    unmetered = sum(not line.metered for line in record.bill)
    short = f", excluding the tokens of {unmetered} call(s) without usage data" if unmetered else ""
    lines.append(f"Bill: ${plain_decimal(record.cost_usd)}{short}.")
    if other is not None:
        kind = "estimated from the tokens" if other["estimated"] else "billed"
        lines.append(f"The alternative, {other['way']}: ${plain_decimal(Decimal(other['usd']))} ({kind}).")
    return lines


def _ensemble_line(found: Mapping[str, Any]) -> str:
    how = "asked for" if found.get("asked_for") else f"drawn at {found.get('share', 0):g}"
    if "picked" not in found:
        return f"Ensemble ({how}): nothing was picked: {found.get('why_not')}."
    said = ", ".join(f"{tier} {_shown(value)}" for tier, value in found["said"].items())
    tie = " (a tie: the cheaper one)" if found["tie"] else ""
    return (
        f"Ensemble ({how}) of {' and '.join(found['tiers'])}: {found['by']} picked {found['picked']}{tie}, "
        f"sure {found['sure']:.2f}{f'; {said}' if said else ''}."
    )


def _line(line: Call) -> str:
    used = line.usage
    tokens = f"{used.prompt_tokens} + {used.completion_tokens} tokens"
    cached = f" ({used.cached_tokens} from the cache)" if used.cached_tokens else ""
    uncounted = (
        f", {used.completion_tokens} {by_number(used.completion_tokens, 'token')} received"
        if used.completion_tokens
        else ", tokens unknown"
    )
    counted = f", {tokens}{cached}" if line.metered and used.prompt_tokens else "" if line.metered else uncounted
    return f"Paid: {line.what} by {line.tier}{counted}, {line.latency_s:.3f} s: ${plain_decimal(line.cost_usd)}."


def _shown(value: Any) -> str:
    return "never" if value is None or value == "inf" else f"{value:.3f}" if isinstance(value, float) else str(value)
