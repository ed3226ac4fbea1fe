"""What is kept of a row's answer: read from a reply in OpenAI's shape, whoever gave it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from router_models.types.exchange import verifier_of


def row_answer(data: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that was answered, from the reply's body."""
    choice = (data.get("choices") or [{}])[0]
    message, facts, usage = choice.get("message") or {}, data.get("serve_graph") or {}, data.get("usage") or {}
    return {
        "status": 200,
        "answer": message.get("content"),
        "tool_calls": message.get("tool_calls"),
        "finish_reason": choice.get("finish_reason"),
        "decision": facts.get("decision"),
        "tier": facts.get("tier"),
        "outcome": facts.get("outcome"),
        "version": facts.get("version"),
        "cost_usd": _money(facts.get("cost_usd")),
        "prompt_tokens": usage.get("prompt_tokens") or 0,
        "completion_tokens": usage.get("completion_tokens") or 0,
        "tokens": usage.get("total_tokens") or 0,
        "at": time.time(),
    }


def row_failure(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that was refused or failed, from the reply's body."""
    error = body.get("error") or {}
    told = {"error": str(error.get("message"))[:2000], "kind": error.get("type"), "code": error.get("code")}
    return {"status": status, **told}


def said_of(page: Mapping[str, Any]) -> dict[str, Any]:
    """What a decision record, explained, says of its answer: the estimate, the promise, what the last tier costs."""
    evidence, other = page.get("evidence") or {}, page.get("other_branch")
    not_promised = evidence.get("not_promised")
    alone = None if other is None or not str(other["way"]).endswith(" alone") else other["usd"]
    return {
        "p_answer_ok": page.get("p_answer_ok"),
        "promised": not_promised is None and evidence.get("promised") is not None,
        "not_promised": not_promised,
        "uncovered": evidence.get("uncovered"),
        "last_tier_usd": alone if alone is not None else page.get("cost_usd"),
        "signals": signal_sums(page.get("overhead") or ()),
    }


def signal_sums(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The calls for signals among the lines of a record's bill: how many, their tokens and dollars; None for none."""
    from router_models.estimators.asked_signals import ASKED_SIGNALS

    calls = [line for line in lines if line["what"] in ASKED_SIGNALS or verifier_of(line["what"]) is not None]
    if not calls:
        return None
    tokens = sum(line["usage"]["prompt_tokens"] + line["usage"]["completion_tokens"] for line in calls)
    usd = sum((Decimal(line["cost_usd"]) for line in calls), Decimal(0))
    return {"calls": len(calls), "tokens": tokens, "usd": str(usd)}


def _money(value: Any) -> str | None:
    try:
        return None if value is None else str(Decimal(str(value)))
    except InvalidOperation:
        return None
