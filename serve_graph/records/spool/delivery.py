"""Move what is spooled to the store: its lines are read, stored in batches, and those that cannot be are set aside."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from router_models.types import DecisionRecord
from serve_graph.records.comparisons import COMPARED, Comparison, ComparisonsTable, comparison_from_json
from serve_graph.records.feedback import Feedback, FeedbackTable, entry_from_json
from serve_graph.records.spool.private_files import private_file, private_folder
from serve_graph.records.store import DecisionStore, RefusedRowError

logger = logging.getLogger(__name__)
SpooledEntry = DecisionRecord | Feedback | Comparison
BATCH = 500
KNOWN = 1_000
"""Records that are kept beside their lines, so that moving them to the store does not read them again: 2 to 4 MB."""
REJECTED = ".rejected"
"""The ending of files of what the store will never take."""


class SpoolDelivery:
    """Deliver lines of spool files. `known`: records by their lines, which need not be read again."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store
        self.known: dict[bytes, DecisionRecord] = {}
        self._feedback = FeedbackTable(store)
        self._comparisons = ComparisonsTable(store)

    async def file(self, path: Path, spooled: IO[bytes]) -> int:
        """Move a file in batches, so that a large spool neither fills memory nor blocks the event loop.

        Returns how many lines are in the store. Reads through the open file, since its path may no longer exist.
        """
        moved = 0
        with os.fdopen(os.dup(spooled.fileno()), "rb") as lines:
            lines.seek(0)
            while batch := list(itertools.islice(lines, BATCH)):
                moved += await self.lines(path, batch)
        path.unlink(missing_ok=True)
        return moved

    async def lines(self, path: Path, lines: Sequence[bytes]) -> int:
        """Move lines of a file; returns how many are in the store. Raises what the store raises but refused rows."""
        records = {}
        for line in lines:
            known = self.known.pop(line, None)
            try:
                records[line] = known or _from_json(json.loads(line))
            except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                # Truncated by a kill (its reply was never sent), or from another release.
                _set_aside(path, line, error)
        try:
            await self._store(list(records.values()))
        except RefusedRowError:
            return sum([await self._one_line(path, line, record) for line, record in records.items()])
        return len(records)

    async def _store(self, entries: Sequence[SpooledEntry]) -> None:
        await self.store.write_many([entry for entry in entries if isinstance(entry, DecisionRecord)])
        await self._feedback.write([entry for entry in entries if isinstance(entry, Feedback)])
        await self._comparisons.write([entry for entry in entries if isinstance(entry, Comparison)])

    async def _one_line(self, path: Path, line: bytes, record: SpooledEntry) -> int:
        try:
            await self._store([record])
        except RefusedRowError as error:
            _set_aside(path, line, error)
            return 0
        return 1


def _from_json(data: dict[str, Any]) -> SpooledEntry:
    return comparison_from_json(data) if COMPARED in data else entry_from_json(data)


def _set_aside(path: Path, line: bytes, error: Exception) -> None:
    logger.error("%s: a record was set aside in %s.rejected (%s)", path.name, path.name, error)
    private_folder(path.parent)
    with open(path.with_name(path.name + REJECTED), "ab", opener=private_file) as rejected:
        rejected.write(line.rstrip(b"\n") + b"\n")
