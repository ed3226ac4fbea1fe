"""What runs passes; `LocalPasses` does it in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Protocol

from serve_graph.cluster.batches.passes.pass_rows import Columns, ReplyPieces, RowPieces, RowProgress
from serve_graph.cluster.batches.passes.purse import Purse, PurseLike
from serve_graph.cluster.batches.passes.row_cascade import PassesPlan
from serve_graph.cluster.batches.passes.workers import CascadeWorker, TierWorker, progress_of_rows


class Passes(Protocol):
    """Runs passes. What comes back comes in no order, and lacks rows whose worker died or that might not begin."""

    def route(self, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        """Take rows to the first tier that is to answer them."""

    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        """Have a tier answer rows, or the calls for their signals, judge the answers, and take the rows on."""

    def judge(self, tier: str, replies: ReplyPieces) -> Iterator[list[RowProgress]]:
        """Judge what a tier said to rows, or for their signals, whoever asked it, and take the rows on."""

    def purse(self, tier: str, size: int, budget: Decimal | None, spent: Decimal) -> PurseLike | None:
        """What a pass over pieces of a size may begin, which every worker can ask; None: anything."""


class LocalPasses:
    """Passes in this process, one piece after another: for tests, and for few rows of echo and hosted tiers."""

    def __init__(self, plan: PassesPlan) -> None:
        self.plan = plan

    def route(self, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        worker = CascadeWorker(self.plan)
        with asyncio.Runner() as loop:
            for number in range(chunks.count):
                if (rows := chunks.columns(number))["key"]:
                    yield list(progress_of_rows(loop.run(worker(rows))))

    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        worker, engine = CascadeWorker(self.plan, tier), TierWorker(self.plan.config.tier(tier))

        async def done(rows: Columns) -> Columns:
            return await worker(await engine(rows))

        with asyncio.Runner() as loop:
            try:
                for number in range(chunks.count):
                    if (rows := chunks.columns(number))["key"]:
                        yield list(progress_of_rows(loop.run(done(rows))))
            finally:
                loop.run(engine.close())

    def judge(self, tier: str, replies: ReplyPieces) -> Iterator[list[RowProgress]]:
        worker = CascadeWorker(self.plan, tier)
        with asyncio.Runner() as loop:
            for number in range(replies.count):
                yield list(progress_of_rows(loop.run(worker(replies.columns(number)))))

    def purse(self, tier: str, size: int, budget: Decimal | None, spent: Decimal) -> PurseLike | None:
        return None if budget is None else Purse(budget, spent)
