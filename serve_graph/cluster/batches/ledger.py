"""The results of one batch's lines on their way to the store, and the hold on the batch, which every write extends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from serve_graph.errors import StoreUnavailableError
from serve_graph.records.batches.batches_table import BatchesTable, BatchRow, LeaseLostError, LineResult
from serve_graph.records.batches.files_table import FileRow

logger = logging.getLogger(__name__)
WRITE_EVERY_S = 0.25
HOLD_S = 15.0
RESULTS_AT_ONCE = 500
CHARS_AT_ONCE = 8 * 1024 * 1024


class Ledger:
    """Writes what is added, in groups, and holds the batch on while it runs.

    `stop` is set where nothing more of the batch may be begun: it is cancelled, expired, or another process has it
    (`is_lost`). While the store is away results wait here, and `may_begin` says no before the hold is over.
    """

    def __init__(
        self,
        table: BatchesTable,
        row: BatchRow,
        now_ms: Callable[[], int],
        lease_s: float = HOLD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.table = table
        self.row = row
        self.now_ms = now_ms
        self.lease_s = lease_s
        self.clock = clock
        self.stop = asyncio.Event()
        self.is_lost = False
        self.is_expired = now_ms() >= row.expires_ms
        if self.is_expired:
            self.stop.set()
        self._waiting: list[LineResult] = []
        self._chars = 0
        self._written_at = clock()
        self._in_doubt = False
        self._writing = asyncio.Lock()

    def add(self, result: LineResult) -> None:
        """Take a result; it is written within a moment."""
        self._waiting.append(result)
        self._chars += len(result.text)

    def may_begin(self) -> bool:
        """Whether the batch is surely held for long enough to begin a line, and what is done is being written."""
        is_held = self.clock() - self._written_at < self.lease_s / 2
        return is_held and len(self._waiting) < 4 * RESULTS_AT_ONCE and self._chars < 4 * CHARS_AT_ONCE

    async def run(self) -> None:
        """Write and hold, until cancelled or the batch is lost, as it is by a failure that nobody has thought of."""
        try:
            await self._run()
        except Exception:
            logger.exception("%s is not held on", self.row.id)
            self.is_lost = True
            self.stop.set()

    async def _run(self) -> None:
        while not self.is_lost:
            await asyncio.sleep(WRITE_EVERY_S)
            if self._waiting or self.clock() - self._written_at > self.lease_s / 8:
                await self.write()
            if not self.is_expired and self.now_ms() >= self.row.expires_ms:
                self.is_expired = True
                self.stop.set()

    async def write(self) -> None:
        """Write what waits; it waits on where the store is away."""
        async with self._writing:
            begun, group = self.clock(), self._next_group()
            until_ms = self.now_ms() + int(1000 * self.lease_s)
            again, self._in_doubt = self._in_doubt, True
            try:
                self.row = await self.table.note(self.row, group, until_ms, again=again)
            except LeaseLostError:
                self.is_lost = True
                self.stop.set()
                return
            except StoreUnavailableError as error:
                logger.warning("results of %s wait: %s", self.row.id, error)
                return
            self._written_at, self._in_doubt = begun, False
            del self._waiting[: len(group)]
            self._chars -= sum(len(result.text) for result in group)
        if self.row.status == "cancelling":
            self.stop.set()

    def _next_group(self) -> list[LineResult]:
        """Results that are written at once: so many, and no more text than CHARS_AT_ONCE beside the first's."""
        group, chars = list[LineResult](), 0
        for result in self._waiting[:RESULTS_AT_ONCE]:
            chars += len(result.text)
            if group and chars > CHARS_AT_ONCE:
                break
            group.append(result)
        return group

    async def change(self, since: Sequence[str], **changed: Any) -> BatchRow:
        """Change the batch where its status is one of `since`; raises LeaseLostError, StoreUnavailableError."""
        async with self._writing:
            self.row = await self.table.change(self.row, since, **changed)
        return self.row

    async def end(self, files: Sequence[FileRow], **changed: Any) -> BatchRow:
        """End the batch; raises LeaseLostError, StoreUnavailableError."""
        async with self._writing:
            self.row = await self.table.end(self.row, files, **changed)
        return self.row

    async def drained(self) -> bool:
        """Wait until everything is written; False where the batch is lost."""
        while self._waiting and not self.is_lost:
            await self.write()
            if self._waiting:
                await asyncio.sleep(WRITE_EVERY_S)
        return not self.is_lost
