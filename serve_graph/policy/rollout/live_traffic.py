"""What live traffic shows of tiers and of a candidate: calls, how long they take, and what its tries came to."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, select

from router_models.pricing.break_even import CallTotals, Tries
from router_models.types import DECIDED_BY_NO_VERSION
from serve_graph.policy.rollout.capacity import LiveLoad
from serve_graph.policy.rollout.outcomes import moment_before
from serve_graph.records.schema import DECISIONS
from serve_graph.records.store import DecisionStore

WINDOW_S = 300.0
MOST_ROWS = 1000


async def live_load(store: DecisionStore, now: datetime) -> LiveLoad:
    """What the tiers did in the last minutes, by the newest records at most; raises StoreUnavailableError."""
    recent = DECISIONS.c.created_at >= moment_before(now, WINDOW_S)
    rows = await _rows(store, _CALLED.where(recent))
    calls, busy_s = Counter[str](), defaultdict[str, float](float)
    for row in rows:
        for line in json.loads(row["calls"] or "[]"):
            calls[line["tier"]] += 1
            busy_s[line["tier"]] += float(line["latency_s"])
    decided = sum(_is_decided(row) for row in rows)
    first = min((datetime.fromisoformat(row["created_at"]) for row in rows), default=now)
    return LiveLoad((now - first) / timedelta(seconds=1), decided, calls, busy_s)


def _is_decided(row: Mapping[Any, Any]) -> bool:
    """Whether a version decided a request: none does where it names a tier, two answered, or it wants embeddings."""
    return str(row["outcome"]) not in DECIDED_BY_NO_VERSION and str(row["route_reason"]) != "embeddings"


async def live_tries(store: DecisionStore, version: str, last: str, since: str) -> tuple[Tries, float]:
    """What became of a version's tries lately, and what router and verifier cost a request, in US dollars.

    What was spared is taken for calls like those that the last tier had, whichever version sent them. Raises
    StoreUnavailableError.
    """
    routed = DECISIONS.c.outcome.not_in(DECIDED_BY_NO_VERSION)
    answered = (DECISIONS.c.created_at >= since) & (DECISIONS.c.status == 200) & routed
    rows = await _rows(store, _CALLED.where(answered & (DECISIONS.c.version == version)))
    spent, overhead = dict[str, list[Mapping[str, Any]]](), 0.0
    tried = repeated = 0
    for row in rows:
        lines = json.loads(row["calls"] or "[]")
        below = [line for line in lines if line["tier"] != last]
        tried += bool(below)
        repeated += bool(below) and len(below) < len(lines)
        for line in below:
            spent.setdefault(line["tier"], []).append(line)
        overhead += sum(float(line["cost_usd"]) for line in json.loads(row["overhead"] or "[]"))
    others = await _rows(store, _CALLED.where(answered))
    made = [line for row in others for line in json.loads(row["calls"] or "[]") if line["tier"] == last]
    asked = [line for line in made if line.get("what") not in ("failed", "cancelled")]
    totals = {tier: _totals(lines) for tier, lines in spent.items()}
    tries = Tries(len(rows), tried, repeated, last, totals, _totals(asked))
    return tries, overhead / max(len(rows), 1)


_CALLED = select(*(DECISIONS.c[name] for name in ("created_at", "outcome", "route_reason", "calls", "overhead")))


async def _rows(store: DecisionStore, chosen: Select[Any]) -> list[Mapping[Any, Any]]:
    async with store.reading() as connection:
        newest = chosen.order_by(DECISIONS.c.created_at.desc()).limit(MOST_ROWS)
        return list((await connection.execute(newest)).mappings())


def _totals(lines: list[Mapping[str, Any]]) -> CallTotals:
    tokens = [line["usage"] for line in lines]
    sent, made = (float(sum(one[name] for one in tokens)) for name in ("prompt_tokens", "completion_tokens"))
    return CallTotals(len(lines), sent, made, sum(float(line["latency_s"]) for line in lines))
