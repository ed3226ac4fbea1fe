"""One batch from its file to its results: checked, answered line by line, and ended; gone on with after a crash."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from time import monotonic, thread_time
from typing import Any

from serve_graph.api.batches.lines import InputCheck, Line, fault, read_lines
from serve_graph.cluster.batches.ledger import Ledger
from serve_graph.cluster.batches.line_run import LineRunner, not_sent
from serve_graph.config.records import BatchesConfig
from serve_graph.records.batches.batches_table import BatchesTable, BatchRow
from serve_graph.records.batches.file_storage import FileStorage
from serve_graph.records.batches.files_table import FileRow

logger = logging.getLogger(__name__)
LINES_AT_ONCE = 100
BYTES_AT_ONCE = 1024 * 1024
"""Of lines that are read, and of results that are written: either may be as long as a body."""
RESULTS_READ_AT_ONCE = 500
REST = 3.0
"""Seconds of rest for each second of checking lines while somebody waits: Python's threads run one at a time."""
ENDS_WITHIN_S = 600.0
"""A line that is under way when its batch is stopped, and has not ended by then, is broken off: OpenAI's ten minutes.
It may be waiting for a place at a tier that others keep full.
"""
LOOKED_UP = 10_000
"""Lines ahead of which it is looked up at a time whether they have results."""
LOOKED_AT_EVERY_S = 0.05
NOT_SENT = {
    "cancelled": ("batch_cancelled", "This request was not sent: the batch was cancelled."),
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
}


@dataclass
class BatchRun:
    """A batch that this process holds."""

    ledger: Ledger
    table: BatchesTable
    storage: FileStorage
    runner: LineRunner
    config: BatchesConfig
    most_line_bytes: int
    now_ms: Callable[[], int]
    _fault: Exception | None = field(default=None, init=False)

    @property
    def row(self) -> BatchRow:
        return self.ledger.row

    async def run(self) -> BatchRow | None:
        """Carry the batch to its end; None where another process has it by now.

        Raises StoreUnavailableError where store or files are away: it can be taken up again.
        """
        writing = asyncio.create_task(self.ledger.run())
        try:
            try:
                if self.row.status == "validating":
                    await self._check()
                if self.row.status in ("in_progress", "finalizing"):
                    await self._answer()
                if self.ledger.is_lost:
                    return None
                return await self._end() if self.row.is_open else self.row
            except FileNotFoundError:
                return await self._without_input()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _check(self) -> None:
        """Look at every line before the first is asked."""
        check = InputCheck(self.row.endpoint, self.config.max_lines, self.most_line_bytes)
        stop = self.ledger.stop
        async with aclosing(self._lines()) as lines:
            async for group in lines:
                if stop.is_set():
                    break
                goes_on, took_s = await asyncio.to_thread(_all_added, check, group)
                if not goes_on:
                    break
                if self.runner.pace.traffic.is_there:
                    await asyncio.sleep(REST * took_s)
        if stop.is_set():
            return
        now_s, errors = self.now_ms() // 1000, check.done()
        if errors:
            moments = {**self.row.moments, "failed_at": now_s}
            failed = {"status": "failed", "errors": errors, "moments": moments, "held_until_ms": 0}
            await self.ledger.change(("validating",), **failed)
            return
        moments = {**self.row.moments, "in_progress_at": now_s}
        await self.ledger.change(("validating",), status="in_progress", total=check.total, moments=moments)

    async def _answer(self) -> None:
        """Ask every line that has no result yet, as many at a time as the pace permits."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(self._unanswered()) as lines:
                async for line in lines:
                    if not await self._may_begin(under_way):
                        break
                    task = asyncio.create_task(self._line(line))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
            await self._last_ended(under_way)
        finally:
            for task in list(under_way):
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        if self._fault is not None:
            raise self._fault
        await self.ledger.drained()

    async def _last_ended(self, under_way: set[asyncio.Task[None]]) -> None:
        """Wait for the lines that are under way, after a stop no longer than ENDS_WITHIN_S."""
        until: float | None = None
        while under_way and not self.ledger.is_lost:
            if until is None and self.ledger.stop.is_set():
                until = monotonic() + ENDS_WITHIN_S
            if until is not None and monotonic() >= until:
                return
            await asyncio.wait(under_way, timeout=LOOKED_AT_EVERY_S)

    async def _may_begin(self, under_way: set[asyncio.Task[None]]) -> bool:
        """Wait until another line may be begun; False where none is any more."""
        most, ledger = self._most(), self.ledger
        while len(under_way) >= most or not ledger.may_begin():
            if ledger.stop.is_set() or self._fault is not None:
                return False
            if under_way:
                await asyncio.wait(under_way, timeout=LOOKED_AT_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(LOOKED_AT_EVERY_S)
        return not ledger.stop.is_set() and self._fault is None

    def _most(self) -> int:
        """Lines that are begun at a time: half of what the key may ask at a time is left for its other requests."""
        key = None if self.row.owner is None else self.runner.keyring.named(self.row.owner)
        places = self.config.concurrency
        return places if key is None or key.concurrency is None else max(1, min(places, key.concurrency // 2))

    async def _line(self, line: Line) -> None:
        try:
            result = await self.runner.run(self.row, line, self.ledger.stop)
        except Exception as error:  # noqa: BLE001 (no line may be left out: the batch is taken up again)
            self._fault = error
            return
        if result is not None:
            self.ledger.add(result)

    async def _end(self) -> BatchRow | None:
        """Write the files of what there is, and the last status."""
        if self.row.status != "cancelling":
            moments = {"finalizing_at": self.now_ms() // 1000, **self.row.moments}
            await self.ledger.change(("in_progress", "validating"), status="finalizing", moments=moments)
        row = self.row
        left = row.total - row.completed - row.failed
        last = "cancelled" if row.status == "cancelling" else "expired" if left or not row.total else "completed"
        if last == "expired" and self.now_ms() < row.expires_ms:
            raise RuntimeError(f"{left} lines of {row.id} have no result, and nothing stopped it")
        files = [await self._write(True, None), await self._write(False, NOT_SENT.get(last))]
        moments = {**row.moments, f"{last}_at": self.now_ms() // 1000}
        return await self._ended(files, status=last, moments=moments)

    async def _ended(self, files: list[FileRow | None], **changed: Any) -> BatchRow:
        output, errors = (None if file is None else file.id for file in files)
        kept = [file for file in files if file is not None]
        return await self.ledger.end(kept, output_file=output, error_file=errors, **changed)

    async def _write(self, ok: bool, unanswered_with: tuple[str, str] | None) -> FileRow | None:
        """Write the output file or the error file; None where there is nothing to say."""
        row, what = self.row, "output" if ok else "error"
        name = f"file-{hashlib.sha256(f'{row.id} {what}'.encode()).hexdigest()[:32]}"
        size = 0
        with ExitStack() as opened:
            file = await asyncio.to_thread(opened.enter_context, self.storage.writing(name))
            async for text in self._texts(ok, unanswered_with):
                size += await asyncio.to_thread(file.write, text)
        if size == 0:
            await asyncio.to_thread(self.storage.delete, name)
            return None
        now_ms = self.now_ms()
        keep_ms = int(self.config.keep_days * 86_400_000)
        keep_ms = keep_ms if row.keep_s is None else min(keep_ms, row.keep_s * 1000)
        return FileRow(name, row.owner, "batch_output", f"{row.id}_{what}.jsonl", size, now_ms, now_ms + keep_ms)

    async def _texts(self, ok: bool, unanswered_with: tuple[str, str] | None) -> AsyncGenerator[bytes, None]:
        after, most = 0, 10
        while page := await self.table.results(self.row.id, ok, after, most):
            text = await asyncio.to_thread(_joined, page)
            yield text
            after, most = page[-1][0], max(1, min(RESULTS_READ_AT_ONCE, BYTES_AT_ONCE * len(page) // len(text)))
        if unanswered_with is None or self.row.total == 0:
            return
        async with aclosing(self._unanswered()) as lines:
            async for line in lines:
                yield f"{not_sent(self.row, line, *unanswered_with)}\n".encode()

    async def _without_input(self) -> BatchRow | None:
        """End a batch whose input file is gone: with what was answered, where anything was."""
        if not await self.ledger.drained():
            return None
        errors = [fault("input_file_not_found", f"the content of {self.row.input_file} is not there any more")]
        files = [await self._write(True, None), await self._write(False, None)]
        moments = {**self.row.moments, "failed_at": self.now_ms() // 1000}
        return await self._ended(files, status="failed", errors=errors, moments=moments)

    async def _unanswered(self) -> AsyncGenerator[Line, None]:
        """The lines that have no result, those left out that have had one when their part of the file was reached."""
        done = bytearray()
        async with aclosing(self._lines()) as lines:
            async for group in lines:
                if group[-1].number >= len(done):
                    done = await self.table.answered(self.row.id, group[-1].number + LOOKED_UP)
                for line in group:
                    if not done[line.number]:
                        yield line

    async def _lines(self) -> AsyncGenerator[list[Line], None]:
        """The input's lines in groups, read beside the event loop; raises FileNotFoundError where it is gone."""
        with ExitStack() as opened:
            file = await asyncio.to_thread(opened.enter_context, self.storage.reading(self.row.input_file))
            lines: Iterator[Line] = read_lines(file, self.most_line_bytes)
            while group := await asyncio.to_thread(_next_group, lines):
                yield group


def _next_group(lines: Iterator[Line]) -> list[Line]:
    group, size = list[Line](), 0
    for line in lines:
        group.append(line)
        size += len(line.text)
        if len(group) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
            break
    return group


def _joined(page: list[tuple[int, str]]) -> bytes:
    return "".join(f"{text}\n" for _, text in page).encode()


def _all_added(check: InputCheck, group: list[Line]) -> tuple[bool, float]:
    """Whether the next lines are worth looking at, and the seconds of work that these took."""
    began = thread_time()
    return all(map(check.add, group)), thread_time() - began
