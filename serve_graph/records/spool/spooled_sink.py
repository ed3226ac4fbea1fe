"""Append records, feedback and comparisons to a local file, records before their reply is sent, and store them later.

An unavailable store therefore only delays records, and a killed process loses none that it has answered: the next
process adopts the file, whose lock is released. One that ends in good order moves what it has once more. There is one
file per process; `fcntl.flock` shows whether it is in use. If the file cannot be written, records wait in memory and
are retried; if it was removed, it is recreated. A line that cannot be parsed, or a record that the store rejects, is
moved to `<file>.rejected` so that the rest can proceed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from router_models.types import DecisionRecord
from serve_graph.records.comparisons import Comparison, comparison_to_json
from serve_graph.records.feedback import feedback_to_json
from serve_graph.records.spool.delivery import BATCH, KNOWN, REJECTED, SpoolDelivery, SpooledEntry
from serve_graph.records.spool.private_files import private_file, private_folder
from serve_graph.records.store import DecisionStore, record_to_json

logger = logging.getLogger(__name__)
_LINES = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
HOLD = 10_000
"""Records kept in memory while the spool cannot be written: about 10 to 20 MB."""
MOVES_APART_S = 0.2
"""After records were moved the next ones wait so long: a transaction takes the processor time of several records, and
under load fewer of them hold more."""
LAST_S = 3.0
"""For how long a process that ends tries to move its records: no stop waits longer for a store that is away."""


class SpooledSink:
    """A RecordSink: `write` appends one JSON line and returns; `run` moves records to the store until cancelled.

    `pending` is the number of this process's records that are not in the store yet. If the spool cannot be written (a
    full disk), up to `hold` records wait in memory (`held` is their current number) and `lost` counts those beyond.
    `written` counts the calls of `write`; the first `delivered` of them have left the spool and are in the store,
    except those that were lost or set aside.
    """

    def __init__(
        self,
        store: DecisionStore,
        folder: Path,
        retry_s: float = 2.0,
        idle_s: float = 0.05,
        hold: int = HOLD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._delivery = SpoolDelivery(store)
        self.folder = folder
        self.retry_s = retry_s
        self.idle_s = idle_s
        self.hold = hold
        self.pending = 0
        self.lost = 0
        self.written = 0
        self.delivered = 0
        self.clock = clock
        self._waits_since: float | None = None
        self._held: list[bytes] = []
        self._failing = False
        self._file = self._new_file()

    @property
    def held(self) -> int:
        """Records that are in memory only and would be lost if the process is killed."""
        return len(self._held)

    @property
    def waiting_s(self) -> float:
        """For how long the store has lacked a record, one of a killed process' file included; 0: it has all."""
        return 0.0 if self._waits_since is None else self.clock() - self._waits_since

    def write(self, record: SpooledEntry) -> None:
        """Append one record, which then survives this process. Never raises OSError: the answer is paid for."""
        self.written += 1
        line = _LINES.encode(_to_json(record)).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            if not self._failing:
                logger.error("the spool %s cannot be written, records are kept in memory: %s", self.folder, error)
            self._failing = True
            if len(self._held) >= self.hold:
                self.lost += 1
                return
            self._held.append(line)
        if isinstance(record, DecisionRecord) and len(self._delivery.known) < KNOWN:
            self._delivery.known[line] = record
        self.pending += 1
        self._wait()

    async def run(self) -> None:
        """Adopt orphaned files, then move new records to the store as they arrive; retries indefinitely."""
        while True:
            try:
                moved = await self.drain()
                await asyncio.sleep(max(self.idle_s, MOVES_APART_S) if moved else self.idle_s)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 (any driver error: the records stay in the spool)
                self._wait()
                logger.warning("decision store unavailable, %d record(s) remain in the spool: %s", self.pending, error)
                await asyncio.sleep(self.retry_s)

    async def drain_last(self, within_s: float = LAST_S) -> None:
        """Move this process's records as it ends, for so long at most; those that stay are the next process's."""
        if self.pending:
            try:
                async with asyncio.timeout(within_s):
                    await self.drain(adopts=False)
            except Exception as error:  # noqa: BLE001 (any driver error, or no time: the records stay in the spool)
                reason = type(error).__name__
                logger.warning("%d record(s) are left to the next process of this spool: %s", self.pending, reason)

    async def drain(self, *, adopts: bool = True) -> int:
        """Move all spooled records to the store; returns their number. Raises what the store raises.

        `adopts`: those of processes that have ended, too.
        """
        before, began = self.written, self.clock()
        moved = await self._drain_held() if self._held and not self._unhold() else 0
        moved += await self._adopt_orphans() if adopts else 0
        if expected := self.pending - len(self._held):
            full, self._file = self._file, self._new_file()
            try:
                moved += await self._delivery.file(Path(full.name), full)
            except BaseException:
                self._take_back(full, expected)
                raise
            self.pending -= expected
            full.close()
        self.delivered = before
        if not self.pending:
            self._delivery.known.clear()  # of what another process moved
        self._waits_since = began if self.pending else None
        return moved

    def _wait(self) -> None:
        if self._waits_since is None:
            self._waits_since = self.clock()

    def _append(self, data: bytes) -> None:
        """Append to the spool file, all or nothing; raises OSError if there is no space."""
        if os.fstat(self._file.fileno()).st_nlink == 0:
            self._renew()
        before = os.fstat(self._file.fileno()).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file.fileno(), data[written:])
        except OSError:
            os.ftruncate(self._file.fileno(), before)
            raise

    def _renew(self) -> None:
        """Continue in a new file because this one, or its folder, was removed; the contents are copied."""
        removed, self._file = self._file, self._new_file()
        try:
            self._append(_content(removed))
        except OSError:
            unwritable, self._file = self._file, removed
            Path(unwritable.name).unlink(missing_ok=True)
            unwritable.close()
            raise
        logger.warning("%s was removed while it was in use; it continues as %s", removed.name, self._file.name)
        removed.close()

    def _unhold(self) -> bool:
        """Write the records in memory to the spool; returns False if there is still no space."""
        try:
            self._append(b"".join(self._held))
        except OSError:
            return False
        logger.warning(
            "the spool %s can be written again: %d record(s) moved from memory", self.folder, len(self._held)
        )
        self._held.clear()
        self._failing = False
        return True

    async def _drain_held(self) -> int:
        """Deliver the records in memory directly, without the spool."""
        moved = 0
        while batch := self._held[:BATCH]:
            moved += await self._delivery.lines(Path(self._file.name), batch)
            del self._held[: len(batch)]
            self.pending -= len(batch)
        return moved

    def _take_back(self, full: IO[bytes], expected: int) -> None:
        """Merge the records that arrived meanwhile into the file that the store failed to take."""
        newer, self._file = self._file, full
        try:
            self._append(_content(newer))
            Path(newer.name).unlink(missing_ok=True)
            newer.close()
        except OSError:  # no space for both: continue with the newer file, leave the other to be adopted
            waiting, self._file = self._file, newer
            if os.fstat(waiting.fileno()).st_nlink == 0:
                self._held += _content(waiting).splitlines(keepends=True)
            else:
                self.pending -= expected
            waiting.close()

    async def _adopt_orphans(self) -> int:
        moved = 0
        for path in sorted(self.folder.glob("*.jsonl")):
            if path.name == Path(self._file.name).name:
                continue
            try:
                orphan = path.open("rb")  # must not recreate it
            except FileNotFoundError:
                continue
            with orphan as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if path.exists():
                    moved += await self._delivery.file(path, handle)
        return moved

    def _new_file(self) -> IO[bytes]:
        while True:
            private_folder(self.folder)
            path = self.folder / f"{os.getpid()}-{uuid.uuid4().hex}.jsonl"
            handle = open(path, "a+b", buffering=0, opener=private_file)  # noqa: SIM115 (stays open)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return handle
            handle.close()  # another process adopted it before it was locked

    def delete_rejected(self, before: float) -> int:
        """Delete the files of rejected records that last changed before a moment (seconds of the epoch)."""
        deleted = 0
        for path in self.folder.glob(f"*{REJECTED}"):
            with contextlib.suppress(FileNotFoundError):  # another replica deletes them too
                if path.stat().st_mtime < before:
                    path.unlink()
                    deleted += 1
        return deleted

    def close(self) -> None:
        """Close the spool file and remove it if it is empty."""
        if self._held and not self._unhold():
            logger.error("%d record(s) were in memory only and are lost: the spool cannot be written", len(self._held))
        path = Path(self._file.name)
        self._file.close()
        if self.pending == 0:
            path.unlink(missing_ok=True)


def _to_json(entry: SpooledEntry) -> dict[str, Any]:
    if isinstance(entry, DecisionRecord):
        return record_to_json(entry)
    return comparison_to_json(entry) if isinstance(entry, Comparison) else feedback_to_json(entry)


def _content(file: IO[bytes]) -> bytes:
    """Return the contents of a file that this process has open, even if its path no longer exists."""
    with os.fdopen(os.dup(file.fileno()), "rb") as lines:
        lines.seek(0)
        return lines.read()
