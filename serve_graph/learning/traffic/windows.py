"""Windows of a version's routed decisions, in their order in the store, and the first of them, which is kept apart.

The first window is what all later ones are compared with, for as long as the version is served. It is written down
once, without anything that names a request, a session or a prompt: decisions are deleted after `records.keep_days`,
and a replica that starts then must find the same first window, and the same place to go on from, as those before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import func, select

from router_models.monitoring.traffic_changes import ServedDecision, first_of_units
from router_models.types import Action
from serve_graph.learning.watch_states import WatchStates
from serve_graph.records.schema import DECISIONS
from serve_graph.records.store import DecisionStore

DECIDED_OUTCOMES = tuple(
    str(action) for action in (Action.ROUTED, Action.ACCEPTED, Action.ESCALATED, Action.ABSTAINED)
)
"""Outcomes of requests that the version decided: neither those forced by name nor those that fell back."""
SHARED = '%"share": %'
"""In the evidence of requests that went by a share: who answered them says nothing of the traffic. Inside a text
quotes are escaped, so that it matches the name alone.
"""
_KEPT = tuple(field.name for field in fields(ServedDecision) if field.name != "units")


@dataclass(frozen=True, slots=True)
class TrafficWindow:
    """Decisions one after the other, and when the last of them was made."""

    decisions: Sequence[ServedDecision]
    ends: str


class ServedTraffic:
    """What a version's routed decisions show without a label, in their order in the store."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def count(self, version: str, since: str) -> int:
        """How many there are, after a moment."""
        async with self.store.reading() as connection:
            found = await connection.execute(
                select(func.count()).select_from(DECISIONS).where(_routed(version, since))
            )
            return int(found.scalar_one())

    async def window(self, version: str, since: str, start: int, size: int) -> TrafficWindow | None:
        """Those from a place on; None where there are not so many. Raises StoreUnavailableError."""
        names = ("tier", "outcome", "p_cheap_ok", "p_answer_ok", "distance", "session", "prompt_sha256", "evidence")
        columns = [DECISIONS.c[name] for name in (*names, "created_at")]
        chosen = select(*columns).where(_routed(version, since)).order_by(DECISIONS.c.created_at, DECISIONS.c.id)
        async with self.store.reading() as connection:
            rows = (await connection.execute(chosen.offset(start).limit(size))).mappings().all()
        if len(rows) < size:
            return None
        return TrafficWindow([served_decision(row) for row in rows], str(rows[-1]["created_at"]))


def _routed(version: str, since: str) -> Any:
    of_version = (DECISIONS.c.version == version) & (DECISIONS.c.created_at > since)
    of_version &= DECISIONS.c.evidence.is_(None) | DECISIONS.c.evidence.not_like(SHARED)
    return of_version & (DECISIONS.c.status == 200) & DECISIONS.c.outcome.in_(DECIDED_OUTCOMES)


def served_decision(row: Mapping[Any, Any]) -> ServedDecision:
    """What a row of the decision store shows without a label."""
    evidence = json.loads(row["evidence"] or "{}")
    signals, outcome = evidence.get("signals", {}), row["outcome"]
    tried = outcome in (Action.ACCEPTED, Action.ESCALATED)
    units = [("prompt", row["prompt_sha256"])] + [("session", row["session"])] * (row["session"] is not None)
    return ServedDecision(
        row["tier"],
        row["p_cheap_ok"],
        row["p_answer_ok"],
        row["distance"],
        outcome == Action.ESCALATED if tried else None,
        bool(signals.get("refuses")) if signals else None,
        bool(signals.get("hedges")) if signals else None,
        "uncovered" in evidence,
        tuple(units),
    )


class KeptWindows:
    """What is written down of a version's windows since the last ticket was closed: the first, and where they are."""

    def __init__(self, store: DecisionStore) -> None:
        self.states = WatchStates(store)

    async def first(self, version: str, since: str, size: int) -> TrafficWindow | None:
        """The first window; None where none was written down."""
        kept = (await self.states.read(window_name(version, since, size))).state
        if not kept:
            return None
        rows = [dict(zip(kept["names"], row, strict=True)) for row in kept["rows"]]
        known = [{name: value for name, value in row.items() if name in _KEPT} for row in rows]
        return TrafficWindow([ServedDecision(**row) for row in known], kept["ends"])

    async def keep_first(self, version: str, since: str, size: int, window: TrafficWindow) -> TrafficWindow:
        """Write the first window down, unless another replica has, and return what is written."""
        decisions = first_of_units(window.decisions)
        rows = [[getattr(decision, name) for name in _KEPT] for decision in decisions]
        row = await self.states.read(name := window_name(version, since, size))
        if not row.state:
            await self.states.write(row, state={"names": _KEPT, "rows": rows, "ends": window.ends})
        found = await self.first(version, since, size)
        if found is None:
            raise RuntimeError(f"{name} was not written")
        return found

    async def compared(self, version: str, since: str, size: int) -> str:
        """The end of the newest window that was compared; empty where none was."""
        return str((await self.states.read(window_name(version, since, size, "at"))).state.get("ends", ""))

    async def note_compared(self, version: str, since: str, size: int, ends: str) -> None:
        """Write down that a window was compared; a replica that is behind changes nothing."""
        row = await self.states.read(window_name(version, since, size, "at"))
        if row.state.get("ends", "") < ends:
            await self.states.write(row, state={"ends": ends})


def window_name(version: str, since: str, size: int, part: str = "first") -> str:
    """The row of the store that a part of a version's windows is kept in."""
    of = hashlib.sha256(repr((version, since, size)).encode("utf-8", "replace")).hexdigest()[:32]
    return f"traffic {of} {part}"
