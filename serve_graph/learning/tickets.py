"""Tickets: changes in a version's traffic that show without a label. They are told, and change nothing that is served.

Every complete window of a version's routed decisions is compared with its first (`monitoring.traffic_changes`). Which
decisions a window holds follows from their order in the store, so that all ingress replicas find the same, and a
ticket is written, told and audited once. It is open until somebody closes it; then traffic is counted anew. All of a
version's decisions are counted once, when a replica begins; from then on each is read once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from router_models.monitoring.traffic_changes import ServedDecision, TrafficChange, TrafficLimits, compare_traffic
from router_models.types import Action
from serve_graph.config.learning import TicketsConfig
from serve_graph.learning.alarm_table import TICKET, Alarm, AlarmTable
from serve_graph.learning.alarms import Announce
from serve_graph.records.audit import AuditEntry
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.schema import DECISIONS
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)
DECIDED_OUTCOMES = tuple(
    str(action) for action in (Action.ROUTED, Action.ACCEPTED, Action.ESCALATED, Action.ABSTAINED)
)
"""Outcomes of requests that the version decided: neither those forced by name nor those that fell back."""
CLOSES = "`serve-graph alarms close` closes it"


class TicketWatch(Collector):
    """Look at the served version's traffic, again and again, and open tickets.

    Parameters
    ----------
    store : DecisionStore
        Where decisions and tickets are.
    config : TicketsConfig
        How long windows are, and what is reported.
    version : callable
        The name of the version that is served now.
    announce : callable, optional
        Called with an event and the tickets it is about: of each ticket by one replica only.
    """

    def __init__(
        self,
        store: DecisionStore,
        config: TicketsConfig,
        version: Callable[[], str],
        announce: Announce | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.config = config
        self.version = version
        self.announce = announce
        self.now = now
        self.open: list[Alarm] = []
        self.changes: Sequence[TrafficChange] = ()
        self.table = AlarmTable(store, tickets=True)
        self.traffic = ServedTraffic(store)
        self.audit = AuditLog(store)
        self._first: TrafficWindow | None = None
        self._next: tuple[str, str, str] = (
            "",
            "",
            "",
        )  # version, since, and what its next window begins after
        self._telling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look every `poll_s` seconds, for ever; without a window only at tickets that others open."""
        while True:
            await asyncio.sleep(self.config.poll_s)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 (whatever a driver raises: traffic is looked at again)
                logger.warning("traffic cannot be compared: %s", error)

    async def look(self) -> None:
        """Compare every window that is complete and was not compared yet; raises StoreUnavailableError."""
        version, size = self.version(), self.config.window
        tickets = await self.table.all(version)
        if size is None:
            self.open = [ticket for ticket in tickets if ticket.lifted_at is None]
            return
        since = max((ticket.lifted_at for ticket in tickets if ticket.lifted_at), default="")
        newest = await self._newest(version, since, size)
        while newest is not None:
            self.changes = await self._compared(newest)
            if found := [self._ticket(version, since, change) for change in self.changes if change.is_reported]:
                await self._tell(await self.table.raise_all(found))
                tickets = await self.table.all(version)
            self._next = version, since, newest.ends
            newest = await self._newest(version, since, size)
        self.open = [ticket for ticket in tickets if ticket.lifted_at is None]

    async def _newest(self, version: str, since: str, size: int) -> TrafficWindow | None:
        """The next complete window; at first, the last one that is complete. Windows in between are not read again."""
        if self._next[:2] == (version, since):
            return await self.traffic.window(version, self._next[2], 0, size)
        self._first, self.changes = None, ()
        complete = await self.traffic.count(version, since) // size
        if not complete:
            return None
        self._first = await self.traffic.window(version, since, 0, size)
        return self._first if complete == 1 else await self.traffic.window(version, since, (complete - 1) * size, size)

    async def _compared(self, newest: TrafficWindow) -> Sequence[TrafficChange]:
        limits = TrafficLimits(self.config.false_share, self.config.escalation_at_most)
        first = () if self._first is None or newest is self._first else self._first.decisions
        return await asyncio.to_thread(compare_traffic, first, newest.decisions, limits)

    def _ticket(self, version: str, since: str, change: TrafficChange) -> Alarm:
        at = self.now().isoformat(timespec="milliseconds")
        return Alarm(version, TICKET, change.figure, at, ticket_reason(change), False, change.to_json(), since=since)

    async def _tell(self, tickets: Sequence[Alarm]) -> None:
        if not tickets:
            return
        for ticket in tickets:
            logger.warning("%s: %s", ticket.version, ticket.reason)
        if self.announce is not None:
            task = asyncio.ensure_future(self.announce("ticket.opened", tickets))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        await self.audit.write(
            [
                AuditEntry("graph", "tickets.open", t.version, t.reason, {**t.detail, "figure": t.scope})
                for t in tickets
            ]
        )

    def facts(self) -> list[dict[str, Any]]:
        """The open tickets, for `/readyz`."""
        return [{"figure": t.scope, "raised_at": t.raised_at, "reason": t.reason} for t in self.open]

    def collect(self) -> Iterator[Metric]:
        """Yield the open tickets and the figures of the last comparison as metric families."""
        tickets = GaugeMetricFamily("serve_graph_tickets_open", "Open tickets, by figure.", labels=["figure"])
        for ticket in self.open:
            tickets.add_metric([ticket.scope], 1.0)
        yield tickets
        figures = GaugeMetricFamily(
            "serve_graph_traffic_figure",
            "Figures of the served version's first and newest window of traffic.",
            labels=["figure", "window"],
        )
        for change in self.changes:
            figures.add_metric([change.figure, "first"], change.before)
            figures.add_metric([change.figure, "newest"], change.now)
        yield figures


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


_NAMES = {
    "router_score": "the router's mean estimate",
    "answer_score": "the verifier's mean estimate",
    "distance": "the mean distance from the training data",
    "escalation": "the share of tried cheap answers that were rejected",
    "refusals": "the share of answers that refuse",
    "hedging": "the share of answers that hedge",
    "uncovered": "the share of requests that are not covered",
}


def ticket_reason(change: TrafficChange) -> str:
    """One line: what changed, from what to what, on how many requests, and how surely."""
    sure = f"{change.n} requests, adjusted p {change.adjusted:.2g}; {CLOSES}"
    if change.figure == "escalation_ceiling":
        what = _NAMES["escalation"]
        return f"{what} is {change.now:.3g}, more than {change.before:g} ({sure})"
    what = f"the share of {change.tier}" if change.figure == "tiers" else _NAMES[change.figure]
    if change.figure in ("router_score", "answer_score", "distance"):
        return (
            f"the distribution of {what.removeprefix('the ')} changed: {change.before:.3g} → {change.now:.3g} ({sure})"
        )
    return f"{what} changed: {change.before:.3g} → {change.now:.3g} ({sure})"
