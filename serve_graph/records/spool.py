"""A record is appended to a local file before its reply leaves, and moved to the store afterwards.

So a store that is down costs nothing but delay, and a process that is killed loses nothing it has answered: the next
one adopts the file it left (its lock is gone with it). One file per process; `fcntl.flock` says whether it is owned.
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


class SpooledSink:
    """A RecordSink: `write` appends one JSON line and returns; `run` drains to the store until cancelled.

    `pending` is the number of this process's records that the store does not hold yet.
    """

    def __init__(self, store: DecisionStore, folder: Path, retry_s: float = 2.0, idle_s: float = 0.05) -> None:
        self.store = store
        self.folder = folder
        self.retry_s = retry_s
        self.idle_s = idle_s
        self.pending = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._new_file()

    def write(self, record: DecisionRecord) -> None:
        """Append one record; it survives this process from here on."""
        line = json.dumps(record_to_json(record), separators=(",", ":"), ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
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
        moved = await self._adopt_orphans()
        if self.pending:
            full, self._file = self._file, self._new_file()
            expected = self.pending
            try:
                moved += await self._move(Path(full.name))
            except BaseException:
                self._take_back(full)
                raise
            self.pending -= expected
            full.close()
        return moved

    def _take_back(self, full: IO[bytes]) -> None:
        """The store failed: what came in meanwhile joins the records that are still waiting, in one file."""
        newer, self._file = self._file, full
        path = Path(newer.name)
        self._file.write(path.read_bytes())
        self._file.flush()
        path.unlink(missing_ok=True)
        newer.close()

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
                    moved += await self._move(path)
        return moved

    async def _move(self, path: Path) -> int:
        """Deliver a file batch by batch, so that a long outage's spool neither fills memory nor blocks the loop."""
        moved = 0
        with path.open("rb") as lines:
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
            path = self.folder / f"{os.getpid()}-{uuid.uuid4().hex}.jsonl"
            handle = path.open("ab")
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return handle
            handle.close()  # another process took it for an orphan before it was locked

    def close(self) -> None:
        """Let go of the spool file; an empty one is removed."""
        path = Path(self._file.name)
        self._file.close()
        if self.pending == 0:
            path.unlink(missing_ok=True)


def _set_aside(path: Path, line: bytes, error: Exception) -> None:
    logger.error("%s: a record was set aside in %s.rejected (%s)", path.name, path.name, error)
    with path.with_name(path.name + ".rejected").open("ab") as rejected:
        rejected.write(line.rstrip(b"\n") + b"\n")
