"""What an ingress replica does for batches: takes those that nobody works on, carries them to their end, tidies up."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from serve_graph.api.batches.files import DAY_MS, BatchParts
from serve_graph.cluster.batches.batch_metrics import BatchMetrics
from serve_graph.cluster.batches.batch_run import BatchRun
from serve_graph.cluster.batches.ledger import HOLD_S, Ledger
from serve_graph.cluster.batches.line_run import LineRunner
from serve_graph.errors import StoreUnavailableError
from serve_graph.records.batches.batches_table import BatchRow, LeaseLostError

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 2.0
AT_ONCE = 4
"""Batches of one key that a replica works on at a time: a small one does not wait for the end of a large one."""
AT_ONCE_OF_ALL = 64
"""The same of all keys: no key's batches wait for the end of another's."""
TIDY_EVERY_S = 3600.0
WRITTEN_WITHIN_MS = 3_600_000
"""For so long after its time is over a file stays: one that is being written is such a one."""


@dataclass
class BatchWorker:
    """Runs for as long as the replica. A batch that it cannot go on with is free for others when its hold is over."""

    parts: BatchParts
    runner: LineRunner
    metrics: BatchMetrics
    most_line_bytes: int
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    lease_s: float = HOLD_S
    look_every_s: float = LOOK_EVERY_S
    clock: Callable[[], float] = time.monotonic
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _rows: dict[str, BatchRow] = field(default_factory=dict)
    _tidied_at: float | None = None

    def wake(self) -> None:
        """Look for batches at once."""
        self.woken.set()

    async def run(self) -> None:
        """Take batches and work on them until cancelled; those that are held are free for others then."""
        try:
            while True:
                try:
                    await self.look()
                    await self.tidy()
                except StoreUnavailableError as error:
                    logger.warning("batches: %s", error)
                except Exception:
                    logger.exception("batches")
                self.metrics.places = self.runner.pace.places()
                try:
                    async with asyncio.timeout(self.look_every_s):  # wait_for may swallow a cancellation
                        await self.woken.wait()
                    self.woken.clear()
                except TimeoutError:
                    continue
        finally:
            for task in list(self.running.values()):
                task.cancel()
            await asyncio.gather(*self.running.values(), return_exceptions=True)

    async def look(self) -> None:
        """Take batches that nobody holds, those of owners first of whom fewest are worked on here."""
        if len(self.running) >= AT_ONCE_OF_ALL:
            return
        free = await self.parts.batches.free(self.parts.now_ms())
        while len(self.running) < AT_ONCE_OF_ALL:
            here = Counter(row.owner for row in self._rows.values())
            free = [row for row in free if here[row.owner] < AT_ONCE]
            if not free:
                break
            row = min(free, key=lambda one: (here[one.owner], one.created_ms))
            free.remove(row)
            until_ms = self.parts.now_ms() + int(1000 * self.lease_s)
            taken = None if row.id in self.running else await self.parts.batches.take(row, self.holder, until_ms)
            if taken is not None:
                self._rows[row.id] = taken
                self.running[row.id] = asyncio.create_task(self._carry(taken))
        self._count()

    async def _carry(self, row: BatchRow) -> None:
        parts = self.parts
        ledger = Ledger(parts.batches, row, parts.now_ms, self.lease_s)
        run = BatchRun(
            ledger, parts.batches, parts.storage, self.runner, parts.config, self.most_line_bytes, parts.now_ms
        )
        try:
            ended = await run.run()
            if ended is None:
                self.metrics.lost += 1
            else:
                self.metrics.batches[ended.status,] += 1
                logger.info("%s has ended: %s", row.id, ended.status)
        except LeaseLostError:
            self.metrics.lost += 1
        except StoreUnavailableError as error:
            logger.warning("%s is put off: %s", row.id, error)
        except asyncio.CancelledError:
            await self._let_go(ledger)
            raise
        except Exception:
            logger.exception("%s is put off", row.id)
        finally:
            self.running.pop(row.id, None)
            self._rows.pop(row.id, None)
            self._count()
            self.woken.set()

    async def _let_go(self, ledger: Ledger) -> None:
        """Write what is done and free the batch, where the store is there."""
        try:
            async with asyncio.timeout(2.0):
                await ledger.write()
                await self.parts.batches.release(ledger.row)
        except (StoreUnavailableError, LeaseLostError, TimeoutError) as error:
            logger.warning("%s is free when its hold is over: %s", ledger.row.id, error)

    async def tidy(self) -> None:
        """Delete files whose time is over, and forget old batches, at most once an hour."""
        if self._tidied_at is not None and self.clock() - self._tidied_at < TIDY_EVERY_S:
            return
        parts, now_ms = self.parts, self.parts.now_ms()
        while expired := await parts.files.expired(now_ms - WRITTEN_WITHIN_MS):
            for name in expired:
                await asyncio.to_thread(parts.storage.delete, name)
                await parts.files.delete(name)
        await parts.batches.forget_before(now_ms - int(parts.config.keep_days * DAY_MS))
        self._tidied_at = self.clock()

    def _count(self) -> None:
        self.metrics.held = dict(Counter(row.status for row in self._rows.values()))
