"""A record is appended to a local file before its reply leaves, and moved to the store afterwards.

So a store that is down costs nothing but delay, and a process that is killed loses nothing it has answered: the next
one adopts the file it left (its lock is gone with it). One file per process; `fcntl.flock` says whether it is owned.
Where the file cannot be written, records wait in memory and are tried again; where it was removed, it is made anew.
A line that cannot be read, or a record the store refuses, is set aside in `<file>.rejected`: the rest must not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import logging
import os
import uuid
from pathlib import Path
from typing import IO

from router_models.types import DecisionRecord
from serve_graph.records.store import DecisionStore, RefusedRowError, record_from_json, record_to_json

logger = logging.getLogger(__name__)
BATCH = 500
HOLD = 10_000
"""Records kept in memory while the spool cannot be written: some 10 to 20 MB."""


class SpooledSink:
    """A RecordSink: `write` appends one JSON line and returns; `run` drains to the store until cancelled.

    `pending` is the number of this process's records that the store does not hold yet. Where the spool cannot be
    written (a full disk), up to `hold` records wait in memory, `held` at present; `lost` counts those beyond.
    `written` counts calls of `write`; the first `delivered` of them have left the spool: the store holds them, but for
    those that were lost or set aside.
    """

    def __init__(
        self, store: DecisionStore, folder: Path, retry_s: float = 2.0, idle_s: float = 0.05, hold: int = HOLD
    ) -> None:
        self.store = store
        self.folder = folder
        self.retry_s = retry_s
        self.idle_s = idle_s
        self.hold = hold
        self.pending = 0
        self.lost = 0
        self.written = 0
        self.delivered = 0
        self._held: list[bytes] = []
        self._failing = False
        self._file = self._new_file()

    @property
    def held(self) -> int:
        """Records in memory alone: a kill would lose them."""
        return len(self._held)

    def write(self, record: DecisionRecord) -> None:
        """Append one record; it survives this process from here on. Never raises OSError: the answer is paid for."""
        self.written += 1
        line = json.dumps(record_to_json(record), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            if not self._failing:
                logger.error("the spool %s cannot be written, records wait in memory: %s", self.folder, error)
            self._failing = True
            if len(self._held) >= self.hold:
                self.lost += 1
                return
            self._held.append(line)
        self.pending += 1

    async def run(self) -> None:
        """Adopt orphaned files, then move new records to the store as they come; retries for ever."""
        while True:
            try:
                await self.drain()
                await asyncio.sleep(self.idle_s)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 (whatever a driver raises, the records wait here)
                logger.warning("decision store unavailable, %d record(s) wait in the spool: %s", self.pending, error)
                await asyncio.sleep(self.retry_s)

    async def drain(self) -> int:
        """Move everything spooled to the store; returns how many records. Raises what the store raises."""
        before = self.written
        moved = await self._drain_held() if self._held and not self._unhold() else 0
        moved += await self._adopt_orphans()
        if expected := self.pending - len(self._held):
            full, self._file = self._file, self._new_file()
            try:
                moved += await self._move(Path(full.name), full)
            except BaseException:
                self._take_back(full, expected)
                raise
            self.pending -= expected
            full.close()
        self.delivered = before
        return moved

    def _append(self, data: bytes) -> None:
        """Append to the spool file, wholly or not at all; raises OSError where there is no room."""
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
        """Somebody removed the file, or its folder: what it holds goes on in another, which can be found."""
        gone, self._file = self._file, self._new_file()
        try:
            self._append(_content(gone))
        except OSError:
            unfit, self._file = self._file, gone
            Path(unfit.name).unlink(missing_ok=True)
            unfit.close()
            raise
        logger.warning("%s was removed while it was in use; it goes on as %s", gone.name, self._file.name)
        gone.close()

    def _unhold(self) -> bool:
        """Write the records in memory to the spool; False where there is still no room."""
        try:
            self._append(b"".join(self._held))
        except OSError:
            return False
        logger.warning("the spool %s can be written again: %d record(s) from memory", self.folder, len(self._held))
        self._held.clear()
        self._failing = False
        return True

    async def _drain_held(self) -> int:
        """Deliver records in memory, past the spool."""
        moved = 0
        while batch := self._held[:BATCH]:
            moved += await self._deliver(Path(self._file.name), batch)
            del self._held[: len(batch)]
            self.pending -= len(batch)
        return moved

    def _take_back(self, full: IO[bytes], expected: int) -> None:
        """The store failed: what came in meanwhile joins the records that are still waiting, in one file."""
        newer, self._file = self._file, full
        try:
            self._append(_content(newer))
            Path(newer.name).unlink(missing_ok=True)
            newer.close()
        except OSError:  # no room for both: the newer file goes on, the other is left to be adopted
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
            with contextlib.suppress(FileNotFoundError), path.open("rb") as handle:  # must not make it anew
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if path.exists():
                    moved += await self._move(path, handle)
        return moved

    async def _move(self, path: Path, held: IO[bytes]) -> int:
        """Deliver a file batch by batch, so that a long outage's spool neither fills memory nor blocks the loop.

        Reads through the open file: its path may be gone.
        """
        moved = 0
        with os.fdopen(os.dup(held.fileno()), "rb") as lines:
            lines.seek(0)
            while batch := list(itertools.islice(lines, BATCH)):
                moved += await self._deliver(path, batch)
        path.unlink(missing_ok=True)
        return moved

    async def _deliver(self, path: Path, lines: list[bytes]) -> int:
        records = {}
        for line in lines:
            try:
                records[line] = record_from_json(json.loads(line))
            except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                _set_aside(path, line, error)  # cut short by a kill (its reply never left), or of another release
        try:
            await self.store.write_many(list(records.values()))
        except RefusedRowError:
            return sum([await self._deliver_one(path, line, record) for line, record in records.items()])
        return len(records)

    async def _deliver_one(self, path: Path, line: bytes, record: DecisionRecord) -> int:
        try:
            await self.store.write_many([record])
        except RefusedRowError as error:
            _set_aside(path, line, error)
            return 0
        return 1

    def _new_file(self) -> IO[bytes]:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{os.getpid()}-{uuid.uuid4().hex}.jsonl"
            handle = path.open("a+b", buffering=0)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return handle
            handle.close()  # another process took it for an orphan before it was locked

    def close(self) -> None:
        """Let go of the spool file; an empty one is removed."""
        if self._held and not self._unhold():
            logger.error("%d record(s) were in memory only and are lost: the spool has no room", len(self._held))
        path = Path(self._file.name)
        self._file.close()
        if self.pending == 0:
            path.unlink(missing_ok=True)


def _content(file: IO[bytes]) -> bytes:
    """All that a file of this process holds, whether or not its path still leads to it."""
    with os.fdopen(os.dup(file.fileno()), "rb") as lines:
        lines.seek(0)
        return lines.read()


def _set_aside(path: Path, line: bytes, error: Exception) -> None:
    logger.error("%s: a record was set aside in %s.rejected (%s)", path.name, path.name, error)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".rejected").open("ab") as rejected:
        rejected.write(line.rstrip(b"\n") + b"\n")
