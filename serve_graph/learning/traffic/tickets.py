"""Tickets: changes in a version's traffic that show without a label. They are told, and change nothing that is served.

Every complete window of a version's routed decisions is compared with its first (`monitoring.traffic_changes`). Which
decisions a window holds follows from their order in the store, so that all ingress replicas find the same, and a
ticket is written, told and audited once. It is open until somebody closes it; then traffic is counted anew. The first
window is kept when it is complete; a replica that begins goes on after the newest window that was compared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router_models.monitoring.traffic_changes import TrafficChange, TrafficLimits, compare_traffic
from router_models.types import FloatArray
from serve_graph.config.learning import TicketsConfig
from serve_graph.learning.alarm_table import TICKET, Alarm, AlarmTable
from serve_graph.learning.alarms import Announce
from serve_graph.learning.traffic.embedding_sums import EmbeddingSums
from serve_graph.learning.traffic.windows import KeptWindows, ServedTraffic, TrafficWindow, window_name
from serve_graph.records.audit import AuditEntry
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)
Windows = tuple[FloatArray, FloatArray]
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
        self.kept = KeptWindows(store)
        self.sums = None if config.window is None else EmbeddingSums(store, config.window)
        self._first: TrafficWindow | None = None
        self._next = ("", "", "")  # version, since, and what its next window begins after
        self._telling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look every `poll_s` seconds, for ever; without a window only at tickets that others open."""
        adding = [] if self.sums is None else [self.sums.run()]
        await asyncio.gather(self._look_on(), *adding, return_exceptions=True)  # over with the last, not the first

    async def _look_on(self) -> None:
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
            self.changes = await self._compared(newest, await self._embeddings(version, since, size))
            if found := [self._ticket(version, since, change) for change in self.changes if change.is_reported]:
                await self._tell(await self.table.raise_all(found))
                tickets = await self.table.all(version)
            self._next = version, since, newest.ends
            await self.kept.note_compared(version, since, size, newest.ends)
            newest = await self._newest(version, since, size)
        self.open = [ticket for ticket in tickets if ticket.lifted_at is None]

    async def _newest(self, version: str, since: str, size: int) -> TrafficWindow | None:
        """The next complete window: after the newest one that any replica has compared, when this one begins."""
        if self._next[:2] == (version, since):
            return await self.traffic.window(version, self._next[2], 0, size)
        self.changes = ()
        self._first = await self.kept.first(version, since, size)
        if self._first is not None:
            self._next = version, since, await self.kept.compared(version, since, size) or self._first.ends
            return await self.traffic.window(version, self._next[2], 0, size)
        complete = await self.traffic.count(version, since) // size
        if not complete:
            return None
        first = await self.traffic.window(version, since, 0, size)
        if first is None:
            return None
        self._first = await self.kept.keep_first(version, since, size, first)
        return self._first if complete == 1 else await self.traffic.window(version, since, (complete - 1) * size, size)

    async def _compared(self, newest: TrafficWindow, embeddings: Windows | None) -> Sequence[TrafficChange]:
        limits = TrafficLimits(self.config.false_share, self.config.escalation_at_most)
        first = () if self._first is None or newest is self._first else self._first.decisions
        return await asyncio.to_thread(compare_traffic, first, newest.decisions, limits, embeddings=embeddings)

    async def _embeddings(self, version: str, since: str, size: int) -> Windows | None:
        """The first and the newest window of embeddings; None where there are not two."""
        if self.sums is None:
            return None
        return await self.sums.windows(version, since, window_name(version, since, size, "embeddings"))

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
    if change.figure == "embedding":
        apart = f"windows are {change.now:.3g} apart, {change.before:.3g} where nothing changes"
        return f"prompts' embeddings shifted: {apart} ({sure})"
    what = f"the share of {change.tier}" if change.figure == "tiers" else _NAMES[change.figure]
    if change.figure in ("router_score", "answer_score", "distance"):
        return (
            f"the distribution of {what.removeprefix('the ')} changed: {change.before:.3g} → {change.now:.3g} ({sure})"
        )
    return f"{what} changed: {change.before:.3g} → {change.now:.3g} ({sure})"
