"""Answering a dataset with engines of the run's own, in passes: nothing has to be running."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_models.errors import by_number
from serve_graph.cli.batch.answering import RunProgress, RunTotals
from serve_graph.cli.batch.asking import RowAsk
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.passes.pass_run import PassRun
from serve_graph.cli.batch.passes.under_way import RowsUnderWay
from serve_graph.cli.batch.providers.provider_ledger import (
    ProviderLedger,
    lines_sent,
    most_for_lines,
    paid_for_lines,
    unread_text,
)
from serve_graph.cli.batch.quality.foretold import Proof, proof_of
from serve_graph.cluster.batches.passes.passes import Passes
from serve_graph.cluster.batches.passes.plan import checked_plan
from serve_graph.cluster.batches.passes.row_cascade import PassesPlan
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ServeGraphError
from serve_graph.records.store import DecisionStore, record_from_json

if TYPE_CHECKING:
    from serve_graph.cli.batch.passes.provider_passes import BatchedPassTerms

MakePasses = Callable[[PassesPlan], Passes]


class OwnPasses:
    """Passes by the version that a configuration serves, with its tiers' engines, one tier after another.

    `make`: what runs the passes; by default Ray Data, on the cluster at $RAY_ADDRESS or on one that is started here.
    `records`: write decision records to the graph's store, as for requests. `max_num_seqs`: how many rows an engine of
    vLLM computes at a time; None: as it is served. `batches`: hosted tiers are asked by their provider's batches;
    None: call by call.
    """

    tells_all = True

    def __init__(
        self,
        config: GraphConfig,
        settings: Mapping[str, Any],
        scratch: Path,
        batch_rows: int,
        *,
        records: bool = False,
        make: MakePasses | None = None,
        max_num_seqs: int | None = None,
        batches: BatchedPassTerms | None = None,
    ) -> None:
        self.config, self.settings, self.scratch, self.batch_rows = config, settings, scratch, batch_rows
        known = ("auto", *config.tier_names, *config.models.aliases)
        if (model := settings.get("model", "auto")) not in known:
            raise ServeGraphError(f"the model {model!r} does not exist; known: {', '.join(known)}")
        self.checked, self.max_num_seqs = checked_plan(config, max_num_seqs), max_num_seqs
        self.version: str | None = self.checked.version
        self.promise: str | None = self.checked.promise
        self.certificate = self.checked.certificate
        self.records = records
        self.make = make
        self.batches, self.pace = batches, "passes"
        self.provider_batches: dict[str, Any] | None = None
        if batches is not None:
            from serve_graph.cli.batch.passes.provider_passes import checked_terms

            self.batches, self.pace = checked_terms(batches, self.checked.plan, model), "mixed"
            self.certificate += f". {' and '.join(batches.tiers)} answered by batches of their provider"

    def proof(self) -> Proof:
        return proof_of(self.checked.plan.policy, self.checked.plan.revoked)

    def spent(self, journal: Journal) -> Decimal:
        """What was spent before: of rows that have ended, of those between two passes, and for lines of batches."""
        db = journal.connection
        beside = paid_for_lines(db) if self.batches is None else ProviderLedger(db).unaccounted_usd()
        return journal.totals().usd + RowsUnderWay(journal, self.checked.made_under).spent() + beside

    def ask(self, rows: Iterator[RowAsk], journal: Journal, budget: Decimal | None, shown: RunProgress) -> RunTotals:
        if self.make is not None:
            return self._mixed(self.make(self.checked.plan), rows, journal, budget, shown)
        from serve_graph.cluster.batches.passes.ray_passes import RayPasses

        cpus = self.config.logical_cpus or max(os.cpu_count() or 1, 4)
        shown.say("starting Ray")
        run = hashlib.sha256(str(journal.path.resolve()).encode()).hexdigest()[:12]  # its journal, which one run has
        address = os.environ.get("RAY_ADDRESS")
        # Ray and vLLM tell this and that on stdout, which is for results.
        with (
            redirect_stdout(sys.stderr),
            RayPasses(self.checked.plan, address, cpus, run, max_num_seqs=self.max_num_seqs) as passes,
        ):
            return self._mixed(passes, rows, journal, budget, shown)

    def _mixed(
        self, passes: Passes, rows: Iterator[RowAsk], journal: Journal, budget: Decimal | None, shown: RunProgress
    ) -> PassRun:
        """Have rows of tiers that have batches of their provider asked by these."""
        db = journal.connection
        for tier, lines in lines_sent(db).items():
            if self.batches is None or tier not in self.batches.tiers:
                shown.say(
                    f"{lines:,} {by_number(lines, 'line')} of {tier} {by_number(lines, 'was', 'were')} sent to "
                    "its provider in batches, which this run does not read: with --provider-batches nothing of it is "
                    "paid again"
                )
        if self.batches is None:
            run, paid, most = self._run(passes, journal, budget), paid_for_lines(db), most_for_lines(db)
            if most:
                shown.say(unread_text(most))
            run.beside = lambda: paid + most
            self._asked(run, rows, shown)
            run.spent += paid
            return run
        from serve_graph.cli.batch.passes.provider_passes import ProviderPasses

        ledger = ProviderLedger(journal.connection)
        with ProviderPasses(passes, ledger, self.batches, shown.say) as mixed:
            run = self._run(mixed, journal, budget, ledger)
            run.beside, run.halted = mixed.beside, mixed.halted
            self._asked(run, rows, shown)
            if run.stopped is None:
                mixed.read_ended()
            self.provider_batches = mixed.told()
            run.spent += ledger.unaccounted_usd()
            return run

    def _run(
        self, passes: Passes, journal: Journal, budget: Decimal | None, ledger: ProviderLedger | None = None
    ) -> PassRun:
        under_way = RowsUnderWay(journal, self.checked.made_under, ledger)
        spent = journal.totals().usd + under_way.spent()
        return PassRun(
            passes, journal, under_way, self.config.tier_names, self.settings, self.scratch, self.batch_rows,
            tuple(model.name for model in self.config.verifiers), budget, spent,
        )  # fmt: skip

    def _asked(self, run: PassRun, rows: Iterator[RowAsk], shown: RunProgress) -> PassRun:
        run.say = shown.say
        run.advance = lambda: shown.show(run.asked, run.tokens, run.spent)
        if not self.records:
            run.run(rows)
            return run
        store = DecisionStore(self.config.records_url)
        with asyncio.Runner() as loop:

            def keep(found: list[dict[str, Any]]) -> None:
                loop.run(store.write_many([record_from_json(record) for record in found]))

            loop.run(store.open())
            run.keep_records = keep
            try:
                run.run(rows)
            finally:
                loop.run(store.close())
        return run
