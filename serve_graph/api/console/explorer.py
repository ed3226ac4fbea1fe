"""Decisions, found and explained: which tier answered a request and why, and what other thresholds would have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from fastapi import Request, Response
from sqlalchemy import and_, func, or_, select

from router_models.types import Action, DecisionRecord
from serve_graph.api.audit import note_reading
from serve_graph.api.console.pages import PageReply, page
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.console.signing_in import form_values
from serve_graph.api.console.traffic import within
from serve_graph.errors import NotFoundError, RequestError
from serve_graph.records.audit import moment_of
from serve_graph.records.explanation import explained
from serve_graph.records.schema import DECISIONS
from serve_graph.records.store import DecisionStore

_D = DECISIONS.c
ROWS = 50
REACHES = {"1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days", "30d": "last 30 days"}
LENGTHS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
STATUS_WORDS = {"200": "answered", "4xx": "4xx: refused", "5xx": "5xx: failed"}
_LISTED = ("id", "created_at", "tier", "outcome", "version", "status", "cost_usd", "latency_s", "key", "error")


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions to list: those that agree with everything that is given.

    `reach` is a name of REACHES, counted back from now; `status` one of STATUS_WORDS or a number; `before` the moment
    and the id of the last decision of the page before, with a space between them.
    """

    reach: str = "24h"
    tier: str = ""
    outcome: str = ""
    version: str = ""
    status: str = ""
    before: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> DecisionFilter:
        """Read a page's parameters; raises RequestError naming what is wrong."""
        given = {name: asked[name].strip() for name in cls.__slots__ if asked.get(name, "").strip()}
        if any(not value.isprintable() or len(value) > 300 for value in given.values()):
            raise RequestError("a filter holds what no decision has")
        found = cls(**given)
        if found.reach not in REACHES:
            raise RequestError(f"reach is one of {', '.join(REACHES)}", "reach")
        is_number = found.status.isascii() and found.status.isdigit() and len(found.status) == 3
        if found.status and found.status not in STATUS_WORDS and not is_number:
            raise RequestError("status is a number, 4xx or 5xx", "status")
        if found.before:
            moment, _, name = found.before.partition(" ")
            try:
                moment_of(moment)
            except (ValueError, OverflowError):
                raise RequestError("before is a moment and an id", "before") from None
            return replace(found, before=f"{moment} {name}")
        return found

    @property
    def asked(self) -> dict[str, str]:
        """What differs from the default, as parameters."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) != getattr(_ANY, name)}


_ANY = DecisionFilter()


@dataclass(frozen=True, slots=True)
class OtherThresholds:
    """What other thresholds would have done with a request.

    `change` says which, `then` what would have happened, `usd` what that costs (None: not known), `certain` whether
    all of it is known, or the price is an estimate or the answer was never made.
    """

    change: str
    then: str
    usd: Decimal | None
    certain: bool = False


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """A score beside its threshold, both in [0, 1]; None where there was none."""

    name: str
    score: float | None
    threshold: float | None
    passes: str
    fails: str
    below: float | None = None
    notes: tuple[str, ...] = field(default=())


async def find_decisions(store: DecisionStore, chosen: DecisionFilter, now: datetime) -> list[dict[str, Any]]:
    """List the newest decisions first, one more than a page holds where there are more; no texts are read.

    Raises StoreUnavailableError.
    """
    where = [within((now - LENGTHS[chosen.reach]).isoformat(timespec="milliseconds"))]
    where += [_D[name] == value for name in ("tier", "outcome", "version") if (value := getattr(chosen, name))]
    if chosen.status:
        first = int(chosen.status.replace("x", "0"))
        where.append(_D.status.between(first, first + 99) if "x" in chosen.status else _D.status == first)
    if chosen.before:
        moment, _, name = chosen.before.partition(" ")
        where.append(or_(_D.created_at < moment, and_(_D.created_at == moment, _D.id < name)))
    # With filters the index that has all of them is read, not every row by time until enough agree.
    is_filtered = any((chosen.tier, chosen.outcome, chosen.version, chosen.status))
    moment_order = func.coalesce(_D.created_at, "") if is_filtered else _D.created_at
    names = select(_D.id).where(*where).order_by(moment_order.desc(), _D.id.desc()).limit(ROWS + 1)
    async with store.reading() as connection:
        ids = [row[0] for row in await connection.execute(names)]
        rows = await connection.execute(select(*(_D[name] for name in _LISTED)).where(_D.id.in_(ids)))
        return sorted((dict(row) for row in rows.mappings()), key=lambda row: (row["created_at"], row["id"]))[::-1]


async def show_decisions(request: Request, parts: ConsoleParts) -> Response:
    """The list, of what the filters name; an id leads to its decision."""
    if wanted := request.query_params.get("id", "").strip():
        return await show_decision(request, parts, wanted)
    chosen = DecisionFilter.of(request.query_params)
    await note_reading(parts.audit, "decisions.list", "decisions", dict(chosen.asked))
    rows = await find_decisions(parts.store, chosen, parts.now())
    more, shown = rows[ROWS:], rows[:ROWS]
    older = replace(chosen, before=f"{shown[-1]['created_at']} {shown[-1]['id']}").asked if more else None
    for row in shown:
        row["usd"] = Decimal(row["cost_usd"])
    values = {
        "rows": shown,
        "chosen": chosen,
        "older": older,
        "reaches": REACHES,
        "statuses": STATUS_WORDS,
        "tiers": parts.service.context.policy.tiers,
        "outcomes": [str(action) for action in Action],
        "versions": sorted({row["version"] for row in shown} | {parts.served().name}),
    }
    return PageReply(page("decisions", "/console/decisions", **values, **form_values(request, parts)))


async def show_decision(request: Request, parts: ConsoleParts, name: str | None = None) -> Response:
    """One decision: the sentences of `decisions show`, scores beside thresholds, the bill, feedback."""
    decision = request.path_params["decision_id"] if name is None else name
    found = await parts.store.get(decision) if decision.isprintable() and len(decision) <= 64 else None
    if found is None:
        raise NotFoundError(f"no decision {decision[:80]!r} (records appear within a second of the reply)", "id")
    await note_reading(parts.audit, "decisions.read", found.id, {"key": found.key})
    said = [] if parts.feedback is None else await parts.feedback.said_of(found.id)
    context = parts.service.context
    told = explained(found, context.prices, context.policy.tiers)
    values = {
        "record": found,
        "sentences": told["explanation"],
        "scales": score_scales(found),
        "others": other_thresholds(found, told["other_branch"], context.policy.tiers),
        "said": said,
        "texts": {name: found.evidence.get(name) for name in ("answer",)} | {"prompt": found.prompt},
        "local": datetime.fromisoformat(found.created_at).astimezone(UTC),
    }
    return PageReply(page("decision", "/console/decisions", **values, **form_values(request, parts)))


def score_scales(record: DecisionRecord) -> list[ScoreScale]:
    """Return the scores that a request was decided by beside the thresholds of that moment, where they are kept.

    A record has one score of the router and one of the verifier: with several tiers that are tried, whose they are is
    said by the reasons alone, and no threshold stands beside them.
    """
    points = record.evidence.get("thresholds", {})
    point = next(iter(points.values())) if len(points) == 1 and "share" not in record.evidence else {}
    tier = next(iter(points)) if len(points) == 1 else "a cheaper tier"
    scales = []
    if record.p_cheap_ok is not None:
        tried, not_tried = f"{tier} is tried", f"{tier} is not tried"
        at = _number(point.get("route_at"))
        scales.append(ScoreScale("Router, before the answer", record.p_cheap_ok, at, tried, not_tried))
    if record.p_answer_ok is not None:
        kept, not_kept = "its answer is accepted", "it is escalated"
        at, below = _number(point.get("accept_at")), _number(point.get("abstain_below"))
        scales.append(ScoreScale("Verifier, of the answer", record.p_answer_ok, at, kept, not_kept, below))
    return scales


def other_thresholds(
    record: DecisionRecord, other: Mapping[str, Any] | None, tiers: Sequence[str]
) -> list[OtherThresholds]:
    """Return what is known of the request under other thresholds: with one cheaper tier that thresholds decided of.

    An answer that was never made is not known, and whoever named a tier, was not covered, or was one of a share, was
    not decided by thresholds.
    """
    below = [tier for tier in record.evidence.get("thresholds", {}) if tier != tiers[-1]]
    by_scores = record.outcome in (Action.ROUTED, Action.ACCEPTED, Action.ESCALATED) and record.status == 200
    if len(below) != 1 or not by_scores or record.p_cheap_ok is None:
        return []
    if not record.evidence.keys().isdisjoint(("uncovered", "share")):
        return []
    tier, top, routed = below[0], tiers[-1], record.p_cheap_ok
    other_usd = None if other is None else Decimal(other["usd"])
    billed = other is not None and not other.get("estimated", True)
    if record.outcome == Action.ROUTED and record.tier == top:
        then = f"{tier} is tried first; whether its answer is accepted is not known, as it was never made"
        return [OtherThresholds(f"{tier} tried from {routed:.3f} or lower", then, other_usd)]
    found = [OtherThresholds(f"{tier} tried from above {routed:.3f}", f"{top} alone answers", other_usd, billed)]
    if record.p_answer_ok is not None and record.outcome == Action.ACCEPTED:
        usd = None if other_usd is None else record.cost_usd + other_usd
        change = f"{tier} accepted from above {record.p_answer_ok:.3f}"
        found.append(OtherThresholds(change, f"escalated: {top} answers as well", usd))
    if record.p_answer_ok is not None and record.outcome == Action.ESCALATED:
        paid = [line.cost_usd for line in record.bill if line.tier != top]
        change = f"{tier} accepted from {record.p_answer_ok:.3f} or lower"
        found.append(OtherThresholds(change, f"{tier}'s answer is delivered", sum(paid, Decimal(0)), certain=True))
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None
