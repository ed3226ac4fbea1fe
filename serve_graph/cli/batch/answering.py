"""Who answers a dataset's rows: a running graph, over HTTP; `passes.own_engines` is the other way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import httpx

from router_models.errors import by_number
from serve_graph.cli.batch.asking import RowAsk, RowAsker
from serve_graph.cli.batch.journal import Journal, JournalTotals
from serve_graph.cli.batch.providers.provider_ledger import most_for_lines, paid_for_lines, unread_text
from serve_graph.cli.batch.quality.foretold import Proof, configured_proof
from serve_graph.cli.batch.row_records import read_records
from serve_graph.cli.client.api_key import key_headers
from serve_graph.cli.client.readiness import read_readiness

SHOWN_EVERY_S = 5.0
COVERED = (
    "its certificate holds of these rows as of any request, since the running graph itself answers them; what it does "
    "not cover is answered as policy.uncovered says"
)


@dataclass(slots=True)
class RunProgress:
    """Says every few seconds how far a run is. `before`: what earlier runs with this journal did."""

    before: JournalTotals
    rows: int
    say: Callable[[str], None]
    shown_at: float = field(default_factory=time.monotonic)

    def show(self, asked: int, tokens: int, spent: Decimal) -> None:
        """`asked`, `tokens`: of this run; `spent`: of all runs."""
        if time.monotonic() - self.shown_at < SHOWN_EVERY_S:
            return
        self.shown_at = time.monotonic()
        ended = self.before.answered + asked
        forecast = f"${spent / ended * self.rows:.4f} forecast" if ended else "no forecast before rows have ended"
        self.say(
            f"{ended + self.before.failed:,} of {self.rows:,} {by_number(self.rows, 'row')}, "
            f"{self.before.tokens + tokens:,} {by_number(self.before.tokens + tokens, 'token')}, "
            f"${spent:.4f} spent, {forecast}"
        )


class RunTotals(Protocol):
    """What a run did: rows that came to an end, dollars of all runs with its journal, why it stopped early.

    `once_s`: seconds that more rows would not have made longer.
    """

    @property
    def asked(self) -> int: ...
    @property
    def spent(self) -> Decimal: ...
    @property
    def stopped(self) -> str | None: ...
    @property
    def once_s(self) -> float: ...


class Answering(Protocol):
    """Answers rows. `certificate`: whether the promise holds of them; `tells_all`: what records say is in the rows;
    `provider_batches`: of which tiers calls were sent in batches of their provider, how many, at which part of prices.
    `pace`: what its time grows by, as `foretold_time` has it: `rows`, `passes` or `batches`.
    """

    version: str | None
    promise: str | None
    certificate: str
    tells_all: bool
    provider_batches: dict[str, Any] | None
    pace: str

    def proof(self) -> Proof:
        """The certificate that holds of the answers; None, and why."""

    def spent(self, journal: Journal) -> Decimal:
        """Dollars that were spent before, by all runs with a journal."""

    def ask(self, rows: Iterator[RowAsk], journal: Journal, budget: Decimal | None, shown: RunProgress) -> RunTotals:
        """Answer rows, each noted in the journal, as far as a budget in dollars goes."""


class RunningGraph:
    """The graph at a URL. Raises ServeGraphError where none answers there."""

    tells_all = False
    provider_batches: dict[str, Any] | None = None
    pace = "rows"

    def __init__(
        self,
        url: str,
        settings: Mapping[str, Any],
        concurrency: int,
        background: bool,
        records: bool,
        timeout_s: float,
        config: Path | None = None,
    ) -> None:
        state = read_readiness(url)
        self.version: str | None = state.get("version")
        self.promise: str | None = state.get("promise")
        self.certificate = COVERED
        self.config, self.certified = config, state.get("certified")
        self.url, self.settings, self.concurrency = url, settings, concurrency
        self.records, self.timeout_s = records, timeout_s
        self.headers = key_headers() | ({"x-serve-graph-background": "1"} if background else {})

    def proof(self) -> Proof:
        return configured_proof(self.config, self.version, self.certified)

    def spent(self, journal: Journal) -> Decimal:
        return journal.totals().usd + paid_for_lines(journal.connection)

    def ask(self, rows: Iterator[RowAsk], journal: Journal, budget: Decimal | None, shown: RunProgress) -> RunTotals:
        return asyncio.run(self._asked(rows, journal, budget, shown))

    async def _asked(
        self, rows: Iterator[RowAsk], journal: Journal, budget: Decimal | None, shown: RunProgress
    ) -> RowAsker:
        limits = httpx.Limits(max_connections=self.concurrency)
        async with httpx.AsyncClient(
            base_url=self.url, headers=self.headers, timeout=self.timeout_s, limits=limits
        ) as client:
            asker = RowAsker(client, journal, self.settings, self.concurrency, budget, spent=self.spent(journal))
            asker.dearest, asker.held = journal.dearest(), most_for_lines(journal.connection)
            if asker.held:
                shown.say(unread_text(asker.held))
            asker.advance = lambda: shown.show(asker.asked, asker.tokens, asker.spent)
            await asker.run(rows)
            if self.records:
                await read_records(client, journal)
            return asker
