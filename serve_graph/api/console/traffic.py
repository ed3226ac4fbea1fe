"""What the decision store says of a window of time: counted in SQL over an index, or read from a bounded sample."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal_column, select

from router_models.types import DecisionRecord
from serve_graph.learning.labelled import up_for_labelling
from serve_graph.records.feedback import Feedback, counted
from serve_graph.records.schema import DECISIONS, FEEDBACK
from serve_graph.records.store import PICO, DecisionStore, record_from_json

_D = DECISIONS.c
HOUR: ColumnElement[str] = literal_column("substr(created_at, 1, 13)")
"""As the index `decisions_by_hour` has it."""
MINUTE: ColumnElement[str] = literal_column("substr(created_at, 1, 16)")
MOST_SAMPLED = 1_000
MOST_LABELS = 20_000
_IN_SAMPLE = ("id", "created_at", "tier", "outcome", "version", "status", "calls", "overhead", "cost_usd", "latency_s")


@dataclass(frozen=True, slots=True)
class Window:
    """How far back a page looks, and how long a bar of its picture is."""

    name: str
    words: str
    length: timedelta
    bar: timedelta

    def since(self, now: datetime) -> str:
        """Return the moment it begins, as records write moments."""
        return (now - self.length).isoformat(timespec="milliseconds")


WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        "1h": Window("1h", "last hour", timedelta(hours=1), timedelta(minutes=2)),
        "24h": Window("24h", "last 24 hours", timedelta(days=1), timedelta(hours=1)),
        "7d": Window("7d", "last 7 days", timedelta(days=7), timedelta(hours=6)),
    }
)


@dataclass(frozen=True, slots=True)
class TrafficCount:
    """How many requests of one kind there were within an hour (of a short window, a minute), and what they cost."""

    at: str
    tier: str
    outcome: str
    status: int
    version: str
    n: int
    usd: Decimal


def within(since: str) -> ColumnElement[bool]:
    """Return the condition that a decision was made since a moment, so that `decisions_by_hour` is used."""
    return and_(since[:13] <= HOUR, _D.created_at >= since)


async def traffic(store: DecisionStore, window: Window, now: datetime) -> list[TrafficCount]:
    """Count the requests of a window; raises StoreUnavailableError."""
    step = MINUTE if window.bar < timedelta(hours=1) else HOUR
    kinds = (step, _D.tier, _D.outcome, _D.status, _D.version)
    usd = func.coalesce(func.sum(_D.cost_pico_usd), 0)
    query = select(*kinds, func.count(), usd).where(within(window.since(now))).group_by(*kinds)
    async with store.reading() as connection:
        rows = await connection.execute(query)
        return [
            TrafficCount(at, tier, outcome, status, version, n, Decimal(int(pico)) / PICO)
            for at, tier, outcome, status, version, n, pico in rows
        ]


def over_time(counts: Iterable[TrafficCount], window: Window, now: datetime) -> list[tuple[str, Counter[str]]]:
    """Return how many requests each tier answered in each bar of a window, the earliest first."""
    bar_s = int(window.bar.total_seconds())
    last = int(now.timestamp()) // bar_s
    first = int((now - window.length).timestamp()) // bar_s
    bars: dict[int, Counter[str]] = {at: Counter() for at in range(first, last + 1)}
    for one in counts:
        minute = one.at if len(one.at) > 13 else f"{one.at}:00"
        at = int(datetime.fromisoformat(f"{minute}+00:00").timestamp()) // bar_s
        bars.setdefault(at, Counter())[one.tier] += one.n
    style = "%H:%M" if window.length <= timedelta(days=1) else "%a %d %H:%M"
    return [(datetime.fromtimestamp(at * bar_s, UTC).strftime(style), bars[at]) for at in sorted(bars)]


async def sampled(store: DecisionStore, since: str, requests: int) -> list[DecisionRecord]:
    """Read a random sample of the decisions since a moment, all where they are MOST_SAMPLED or fewer.

    Ids are random, so those between two of them are a random sample; the same ones for an hour. Texts, metadata and
    evidence are not read. `requests`: how many there are.
    """
    chosen = within(since)
    if requests > MOST_SAMPLED:
        span = int(2**32 * MOST_SAMPLED / requests)
        start = zlib.crc32(since[:13].encode()) % (2**32 - span)
        # Not by the key's index: that would read those of all time.
        name = func.coalesce(_D.id, "")
        chosen &= (name >= f"dec-{start:08x}") & (name < f"dec-{start + span:08x}")
    async with store.reading() as connection:
        ids = [row[0] for row in await connection.execute(select(_D.id).where(chosen).limit(2 * MOST_SAMPLED))]
        found: list[dict[str, Any]] = []
        for at in range(0, len(ids), 500):
            columns = [_D[name] for name in _IN_SAMPLE]
            rows = await connection.execute(select(*columns).where(_D.id.in_(ids[at : at + 500])))
            found += [dict(row) for row in rows.mappings()]
    return [_record(row) for row in found]


def _record(row: Mapping[str, Any]) -> DecisionRecord:
    lists = {name: json.loads(row[name]) if row[name] else [] for name in ("calls", "overhead")}
    unread = {
        "requested_model": "", "stream": False, "prompt_sha256": "", "prompt_chars": 0, "route_reason": "",
        "p_cheap_ok": None, "distance": None, "verdict_reason": None, "p_answer_ok": None, "arm": row["version"],
        "metadata": {}, "propensity": 1.0,
    }  # fmt: skip
    return record_from_json({**unread, **row, **lists})


async def labels_within(store: DecisionStore, since: str, share: float) -> list[Feedback]:
    """Read the newest labels on decisions since a moment that are of the random share which is labelled."""
    of_labels = (FEEDBACK.c.kind == "label") & (FEEDBACK.c.first_at >= since) & FEEDBACK.c.value.is_not(None)
    query = counted().where(of_labels & (_D.created_at >= since)).order_by(None)
    async with store.reading() as connection:
        rows = await connection.execute(query.order_by(FEEDBACK.c.first_at.desc()).limit(MOST_LABELS))
        names = [name for name in Feedback.__dataclass_fields__ if name not in ("replays", "detail", "text")]
        said = [Feedback(**{name: row._mapping[FEEDBACK.c[name]] for name in names}) for row in rows]
    return [one for one in said if up_for_labelling(one.decision, share)]


def tiers_in_order(counts: Sequence[TrafficCount], ladder: Sequence[str]) -> list[str]:
    """Return the tiers of a window: those of the ladder first, then others that answered."""
    return [*ladder, *sorted({one.tier for one in counts} - set(ladder))]
