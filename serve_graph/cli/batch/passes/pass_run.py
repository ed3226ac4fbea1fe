"""Passes over a dataset, from the first row to the last: route all, then one pass for each tier that has rows.

A version that asks for signals has a pass of its own for each tier, or verifier model, that is asked: of answers
(`about`), or of requests before a tier is chosen for them (`before`).
"""

from __future__ import annotations

import glob
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from router_models.errors import by_number
from serve_graph.cli.batch.asking import RowAsk, request_bytes
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.passes.under_way import RowsUnderWay
from serve_graph.cluster.batches.passes.pass_rows import (
    PassRow,
    RowPieces,
    RowProgress,
    about,
    before,
    error_reply,
    is_for_calls,
    tier_at,
)
from serve_graph.cluster.batches.passes.passes import Passes
from serve_graph.cluster.batches.passes.row_story import RowStory
from serve_graph.errors import ServeGraphError

ROUTED_AT_ONCE = 16
"""How many batches of rows make a piece that is routed: no tier is called for these."""
NONE_CAME = "the log of its workers says why; what was answered before is kept, and nothing is noted of these rows"
DIED = "its worker died on it: the engine's log says why"


@dataclass
class PassRun:
    """Takes rows through passes, and notes each where it stands after each.

    `budget`: dollars of all runs with this journal, those of rows under way included. A pass begins no row that might
    exceed it if it were as dear at its tier as the dearest so far. `verifiers`: the verifier models that may be asked.
    `beside`: dollars that are spent, or held, for what is not noted of a row yet; `halted`: why no tier is asked any
    more, if that is so.
    """

    passes: Passes
    journal: Journal
    under_way: RowsUnderWay
    tiers: tuple[str, ...]
    settings: Mapping[str, Any]
    scratch: Path
    batch_rows: int = 64
    verifiers: tuple[str, ...] = ()
    budget: Decimal | None = None
    spent: Decimal = Decimal(0)
    advance: Callable[[], None] = lambda: None
    say: Callable[[str], None] = lambda _: None
    asked: int = 0
    tokens: int = 0
    dearest: Decimal = Decimal(0)
    stopped: str | None = None
    once_s: float = 0.0
    keep_records: Callable[[list[dict[str, Any]]], None] | None = None
    beside: Callable[[], Decimal] = lambda: Decimal(0)
    halted: Callable[[], str | None] = lambda: None

    def run(self, rows: Iterable[RowAsk]) -> None:
        """Answer the rows, as far as the budget goes."""
        mine = f".{self.journal.path.name}.passes-"
        for left in self.scratch.glob(f"{glob.escape(mine)}*"):  # of a run that was killed: the journal is ours now
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=mine, dir=self.scratch))
        try:
            if dropped := self.under_way.forget_others():
                what = by_number(dropped, "row was begun", "rows were begun")
                self.say(f"{dropped:,} {what} under another version or graph: begun again")
            self._route(folder, self.under_way.ask(self._bodies(rows)))
            while self.stopped is None and (waiting := self.under_way.counts()):
                place = next(name for name in self._places() if name in waiting)
                self._tier_pass(folder, place, waiting[place])
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _places(self) -> list[str]:
        """Where rows may wait, in the order of the passes: what the last tier says of answers decides what it gets."""
        *below, last = self.tiers
        answers = [place for tier in below for place in (tier, about(tier))]
        return [*map(before, self.tiers), *answers, about(last), *map(about, self.verifiers), last]

    def _bodies(self, rows: Iterable[RowAsk]) -> Iterator[PassRow]:
        for key, messages in rows:
            try:
                body = request_bytes({**self.settings, "messages": messages}).decode("utf-8", "surrogatepass")
                body.encode("utf-8")
            except (TypeError, ValueError, RecursionError) as error:
                told = {"status": 0, "error": f"the row is no JSON ({error})", "kind": "malformed"}
                self._note([RowProgress(key, "0", result=told)])
                continue
            yield PassRow(key, body)

    def _route(self, folder: Path, rows: Iterator[PassRow]) -> None:
        """Take every row to its first tier. What is left of a worker that died is routed row by row."""
        place = folder / "route"
        chunks = RowPieces.write(place, rows, self.batch_rows * ROUTED_AT_ONCE)
        if chunks.count:
            self.say(f"routing, in {chunks.count:,} pieces")
            if self._routed(chunks) < chunks.rows:
                every = (row for number in range(chunks.count) for row in chunks.read(number))
                left = (row for row in every if not self.under_way.is_noted(row.key))
                singles = RowPieces.write(folder / "singles", left, 1, alone=True)
                self._routed(singles)
                every = (row for number in range(singles.count) for row in singles.read(number))
                self._note(_died(row) for row in every if not self.under_way.is_noted(row.key))
        shutil.rmtree(place, ignore_errors=True)

    def _routed(self, chunks: RowPieces) -> int:
        came, began = 0, time.monotonic()
        for progress in self.passes.route(chunks) if chunks.count else ():
            self._waited(began, came)
            came += len(progress)
            self.spent += sum(self._costs(progress), Decimal(0))
            self._note(progress)
        return came

    def _costs(self, progress: Iterable[RowProgress]) -> list[Decimal]:
        """What rows cost in this pass."""
        return [max(Decimal(0), Decimal(row.cost_usd) - self.under_way.cost(row.key)) for row in progress]

    def _tier_pass(self, folder: Path, place: str, rows: int) -> None:
        """Have a tier answer all rows that wait for it; those whose worker died are tried alone, and then fail.

        Raises ServeGraphError where not one of several rows came back: that is no row's fault.
        """
        self.say(f"a pass of {rows:,} {by_number(rows, 'row')} at {_named(place)}")
        came = self._pass(folder, place, self.batch_rows)
        if not self._left(place) or self._has_to_stop(place):
            return
        left = self._left(place)
        what = f"{left:,} {by_number(left, 'row')} at {_named(place)} {by_number(left, 'is', 'are')}"
        self.say(f"{what} tried one by one: the worker of the batch died")
        for _ in range(2):  # one may have been given to a worker whose death was not known yet
            came += self._pass(folder, place, 1)
            if not self._left(place) or self._has_to_stop(place):
                return
        if came == 0 and rows > 1:
            raise ServeGraphError(f"not one of {rows:,} rows came back from {_named(place)}: {NONE_CAME}")
        if is_for_calls(place):
            self._go_on_without(folder, tier_at(place), self.under_way.waiting(place))
        else:
            self._note(_died(row) for row in self.under_way.waiting(place))

    def _go_on_without(self, folder: Path, tier: str, rows: Iterable[PassRow]) -> None:
        """Have rows routed or judged without what killed a tier's worker: as where a tier that is asked fails."""

        def failed(row: PassRow) -> PassRow:
            story = RowStory.from_json(row.story)
            assert story.pending is not None, "it waits for a tier's word"
            story.pending.failed(tier, error_reply(DIED, 500))
            return replace(row, story=story.to_json())

        self._routed(RowPieces.write(folder / f"{tier}-without", map(failed, list(rows)), 1, alone=True))

    def _pass(self, folder: Path, place: str, size: int) -> int:
        """Have a tier answer what waits for it, in pieces of a size; returns how many rows came back."""
        tier, is_about = tier_at(place), is_for_calls(place)
        scratch, self.dearest = folder / f"{tier}-{size}{'-about' * is_about}", Decimal(0)
        beside = self.beside()
        purse = self.passes.purse(tier, size, self.budget, self.spent + beside)
        waiting = self.under_way.waiting(place)
        first = None if self.budget is None else 1  # little is known of their cost yet
        about_tier = tier if is_about else None
        chunks = RowPieces.write(scratch, waiting, size, purse, alone=size == 1, about=about_tier, first=first)
        came, began = 0, time.monotonic()
        for progress in self.passes.answer(tier, chunks):
            self._waited(began, came)
            costs = self._costs(progress)
            came += len(progress)
            self._note(progress, tier)
            total, dearest = sum(costs, Decimal(0)), max(costs, default=Decimal(0))
            self.spent, self.dearest = self.spent + total, max(dearest, self.dearest)
            if purse is not None:
                purse.ended(len(progress), self.spent + beside, self.dearest)
        shutil.rmtree(scratch, ignore_errors=True)
        return came

    def _waited(self, began: float, came: int) -> None:
        """Count what a pass waited for its first rows: an engine's start is in that."""
        self.once_s += 0.0 if came else time.monotonic() - began

    def _left(self, place: str) -> int:
        return self.under_way.counts().get(place, 0)

    def _has_to_stop(self, place: str) -> bool:
        why, spent = self.halted(), self.spent + self.beside()
        if why is None:
            if self.budget is None or spent + self.dearest <= self.budget > spent:
                return False
            why = f"the budget of ${self.budget} has no room for another row at {_named(place)} (${spent:.6f} spent)"
        left = self._left(place)
        self.stopped = f"{why}; {left:,} {by_number(left, 'row waits', 'rows wait')} at {_named(place)}"
        return True

    def _note(self, progress: Iterable[RowProgress], tier: str | None = None) -> None:
        found = list(progress)
        if self.keep_records is None:  # nobody finds a decision by its id
            found = [row if row.tier is not None else _unrecorded(row) for row in found]
        for row in found:  # what a row had cost before it failed was paid
            if row.tier is not None or row.result.get("cost_usd") is not None:
                continue
            if paid := self.under_way.cost(row.key) + self.under_way.paid(row.key, tier):
                row.result["cost_usd"] = str(paid)
        self.under_way.keep(found, tier)
        ended = [row for row in found if row.tier is None]
        self.asked += len(ended)
        self.tokens += sum(int(row.result.get("tokens") or 0) for row in ended)
        if self.keep_records is not None:
            self.keep_records([row.record for row in ended if row.record is not None])
        self.advance()


def _named(place: str) -> str:
    tier = tier_at(place)
    return {about(tier): f"{tier}, about answers", before(tier): f"{tier}, before routing"}.get(place, tier)


def _unrecorded(row: RowProgress) -> RowProgress:
    return replace(row, result={**row.result, "decision": None})


def _died(row: PassRow) -> RowProgress:
    return RowProgress(row.key, "0", result={"status": 500, "error": DIED, "kind": "server_error"})
