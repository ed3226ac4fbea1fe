"""`batch run --provider-batches`: what answers the rows, and at which prices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from serve_graph.cli.batch.answering import COVERED, RunProgress, RunTotals
from serve_graph.cli.batch.asking import RowAsk, RowAsker
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.providers.provider_ledger import paid_for_lines
from serve_graph.cli.batch.quality.foretold import Proof, proof_of
from serve_graph.cli.batch.row_records import read_records

if TYPE_CHECKING:
    from router_models.pricing.prices import Price
    from serve_graph.cli.batch.providers.graph_in_process import GraphInProcess
    from serve_graph.cli.batch.running import BatchOptions
    from serve_graph.config.graph import GraphConfig


class ProviderBatches:
    """The cascade of the served version in this process, with batches of their providers for hosted tiers.

    Raises ServeGraphError where the configuration has no version that may serve, or no tier that has batches.
    """

    tells_all = False
    pace = "batches"

    def __init__(self, options: BatchOptions, tell: Callable[[str], None]) -> None:
        from serve_graph.policy.served_version import ServedVersion
        from serve_graph.policy.serving_version import serving_version

        self.options, self.tell, self.config = options, tell, _config(options)
        version = ServedVersion.of(serving_version(self.config), self.config)
        self.version: str | None = version.name
        self.promise: str | None = version.policy.promise
        self.policy = version.policy
        self.certificate = COVERED.replace("the running graph itself answers them", "its own cascade answers them")
        self.provider_batches: dict[str, Any] | None = None

    def proof(self) -> Proof:
        return proof_of(self.policy)

    def spent(self, journal: Journal) -> Decimal:
        return journal.totals().usd + paid_for_lines(journal.connection)

    def ask(self, rows: Iterator[RowAsk], journal: Journal, budget: Decimal | None, shown: RunProgress) -> RunTotals:
        return asyncio.run(self._asked(rows, journal, budget, shown))

    async def _asked(
        self, rows: Iterator[RowAsk], journal: Journal, budget: Decimal | None, shown: RunProgress
    ) -> RowAsker:
        async with self._opened(journal, budget) as (graph, asker):
            asker.advance = lambda: shown.show(asker.asked, asker.tokens, asker.spent)
            await asker.run(rows)
            if self.options.records:
                await read_records(asker.client, journal)
            if asker.stopped is None:
                await graph.read_ended()
            asker.spent = self.spent(journal)  # lines that were paid before are on bills of rows by now
            self.provider_batches = graph.told()
            return asker

    @asynccontextmanager
    async def _opened(
        self, journal: Journal, budget: Decimal | None
    ) -> AsyncIterator[tuple[GraphInProcess, RowAsker]]:
        """What asks the rows of a graph in this process. The budget is kept before lines are sent."""
        from serve_graph.cli.batch.providers.graph_in_process import ProviderTerms, graph_in_process, in_process_client

        options = self.options
        terms = ProviderTerms(
            self.config, options.url, budget, options.poll_s, min(2.0, options.poll_s), interactive=options.interactive
        )
        async with graph_in_process(terms, journal, self.tell) as graph, in_process_client(graph) as client:
            asker = RowAsker(client, journal, options.settings, options.concurrency, spent=journal.totals().usd)
            asker.answered, asker.unanswered = graph.ledger.settle_told, graph.ledger.untell
            lost: set[str] = set()
            asker.is_lost = lost.__contains__
            for pool in graph.pools.values():
                pool.on_lost = lost.add

            def stop(reason: str) -> None:
                asker.stopped = asker.stopped or reason
                for pool in graph.pools.values():
                    pool.stop()

            graph.purse.on_stop = stop
            asker.interrupted = lambda: graph.purse.stop("interrupted")
            yield graph, asker


def run_prices(options: BatchOptions) -> dict[str, Price]:
    """What tokens of every tier cost in this run: with providers' batches their part of the price."""
    from serve_graph.policy.bindings import tier_prices

    if not options.provider_batches:
        return tier_prices(_config(options))
    from serve_graph.cli.batch.providers.batched_tiers import batch_prices

    return batch_prices(_config(options), options.interactive)


def _config(options: BatchOptions) -> GraphConfig:
    from serve_graph.config.graph import load_config

    assert options.config is not None, "the command asks for it"
    return load_config(options.config)
