"""Batches in the decision store: who asked for them, how far they are, and who works on them.

One process at a time works on a batch: it holds the row until `held_until_ms`, and whatever it writes names the epoch
that it took it with. Whoever has lost it, slow or cut off, writes nothing. Results of lines are rows of their own
until the batch has ended, written together with the counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_graph.records.batches.files_table import OPEN_STATUSES, FileRow, changing_batches
from serve_graph.records.schema import BATCH_LINES, BATCHES, FILES
from serve_graph.records.store import DecisionStore

JSON_OF = ("moments", "metadata", "errors")


class LeaseLostError(RuntimeError):
    """Another process works on the batch by now, or it is gone."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch. `moments`: when it reached which status, in Unix seconds, by OpenAI's name of the field.

    `errors`: what is wrong with its input file, as OpenAI's BatchError; `keep_s`: for how long its results are kept.
    """

    id: str
    owner: str | None
    endpoint: str
    input_file: str
    status: str
    created_ms: int
    expires_ms: int
    keep_s: int | None = None
    moments: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    errors: Sequence[Mapping[str, Any]] | None = None
    output_file: str | None = None
    error_file: str | None = None
    epoch: int = 0
    holder: str = ""
    held_until_ms: int = 0

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES


@dataclass(frozen=True, slots=True)
class LineResult:
    """What became of a line: one line of the output file, or of the error file."""

    line: int
    ok: bool
    text: str
    input_tokens: int = 0
    output_tokens: int = 0


class BatchesTable:
    """The rows in a decision store. `owner` None: everybody's, for those who may see all."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def add(self, row: BatchRow, most_open: int) -> bool:
        """Write a new batch; False where its owner has `most_open` that have not ended."""
        of = BATCHES.c.owner.is_(None) if row.owner is None else BATCHES.c.owner == row.owner
        async with changing_batches(self.store, in_turn=True) as connection:
            open_ones = select(func.count()).select_from(BATCHES).where(of, BATCHES.c.status.in_(OPEN_STATUSES))
            if (await connection.execute(open_ones)).scalar_one() >= most_open:
                return False
            await connection.execute(insert(BATCHES).values(**_values(row)))
        return True

    async def get(self, batch_id: str, owner: str | None) -> BatchRow | None:
        async with self.store.reading() as connection:
            row = await _read(connection, batch_id)
        return None if row is None or owner not in (None, row.owner) else row

    async def page(self, owner: str | None, *, limit: int, after: BatchRow | None) -> list[BatchRow]:
        """At most `limit` batches, the newest first, after one of them."""
        where = [] if owner is None else [BATCHES.c.owner == owner]
        if after is not None:
            beside = and_(BATCHES.c.created_ms == after.created_ms, BATCHES.c.id < after.id)
            where.append(or_(BATCHES.c.created_ms < after.created_ms, beside))
        chosen = select(BATCHES).where(*where).order_by(BATCHES.c.created_ms.desc(), BATCHES.c.id.desc())
        async with self.store.reading() as connection:
            return [_row(row) for row in (await connection.execute(chosen.limit(limit))).mappings()]

    async def cancel(self, batch_id: str, now_s: int) -> BatchRow | None:
        """Have a batch cancelled by whoever works on it; None where there is nothing left to cancel."""
        async with changing_batches(self.store, in_turn=True) as connection:
            row = await _read(connection, batch_id)
            if row is None or row.status not in ("validating", "in_progress", "cancelling"):
                return None
            if row.status == "cancelling":
                return row
            after = replace(row, status="cancelling", moments={**row.moments, "cancelling_at": now_s})
            changed = {"status": after.status, "moments": json.dumps(dict(after.moments))}
            await connection.execute(update(BATCHES).where(BATCHES.c.id == batch_id).values(**changed))
            return after

    async def free(self, now_ms: int, limit: int = 1000) -> list[BatchRow]:
        """Batches that have not ended and that nobody holds, the oldest first."""
        where = BATCHES.c.status.in_(OPEN_STATUSES) & (BATCHES.c.held_until_ms <= now_ms)
        chosen = select(BATCHES).where(where).order_by(BATCHES.c.created_ms, BATCHES.c.id).limit(limit)
        async with self.store.reading() as connection:
            return [_row(row) for row in (await connection.execute(chosen)).mappings()]

    async def take(self, row: BatchRow, holder: str, until_ms: int) -> BatchRow | None:
        """Take a free batch; None where another process was first."""
        same = (BATCHES.c.id == row.id) & (BATCHES.c.epoch == row.epoch)
        taken = {"epoch": row.epoch + 1, "holder": holder, "held_until_ms": until_ms}
        async with changing_batches(self.store) as connection:
            if not (await connection.execute(update(BATCHES).where(same).values(**taken))).rowcount:
                return None
            return await _read(connection, row.id)

    async def note(
        self, row: BatchRow, results: Sequence[LineResult], until_ms: int, *, again: bool = False
    ) -> BatchRow:
        """Write results of lines with their counts, and hold the batch on; returns it as it is now.

        `again`: they may have been written, by an attempt whose end was not heard of; those that are there stay.
        Raises LeaseLostError where another process has it: then nothing was written.
        """
        if again:
            results = await self._not_written(row, results)
        done = sum(result.ok for result in results)
        columns = BATCHES.c
        changed: dict[str, Any] = {
            "held_until_ms": until_ms,
            "completed": columns.completed + done,
            "failed": columns.failed + len(results) - done,
            "input_tokens": columns.input_tokens + sum(result.input_tokens for result in results),
            "output_tokens": columns.output_tokens + sum(result.output_tokens for result in results),
        }
        async with changing_batches(self.store) as connection:
            await _change(connection, row, changed)
            if results:
                values = [{"batch": row.id, "line": r.line, "ok": r.ok, "result": r.text} for r in results]
                await connection.execute(insert(BATCH_LINES), values)
            return await _there(connection, row)

    async def _not_written(self, row: BatchRow, results: Sequence[LineResult]) -> list[LineResult]:
        lines = BATCH_LINES.c
        where = (lines.batch == row.id) & lines.line.in_([result.line for result in results])
        async with self.store.reading() as connection:
            there = set((await connection.execute(select(lines.line).where(where))).scalars())
        return [result for result in results if result.line not in there]

    async def change(self, row: BatchRow, since: Sequence[str], **changed: Any) -> BatchRow:
        """Change a batch that is held, where its status is one of `since`; returns it as it is now, changed or not."""
        values = {name: _json(value) if name in JSON_OF else value for name, value in changed.items()}
        async with changing_batches(self.store, in_turn=True) as connection:
            found = await _there(connection, row)
            if found.status not in since:
                return found
            await _change(connection, row, values)
            return await _there(connection, row)

    async def end(self, row: BatchRow, files: Sequence[FileRow], **changed: Any) -> BatchRow:
        """End a batch: its last status, and its result files; what was kept of its lines goes."""
        values = {name: _json(value) if name in JSON_OF else value for name, value in changed.items()}
        async with changing_batches(self.store) as connection:
            await _change(connection, row, {**values, "held_until_ms": 0})
            if files:
                await connection.execute(delete(FILES).where(FILES.c.id.in_([file.id for file in files])))
                await connection.execute(insert(FILES), [asdict(file) for file in files])
            await connection.execute(delete(BATCH_LINES).where(BATCH_LINES.c.batch == row.id))
            return await _there(connection, row)

    async def release(self, row: BatchRow) -> None:
        """Let others take a batch at once; nothing where it was lost already."""
        same = (BATCHES.c.id == row.id) & (BATCHES.c.epoch == row.epoch)
        async with changing_batches(self.store) as connection:
            await connection.execute(update(BATCHES).where(same).values(held_until_ms=0))

    async def answered(self, batch_id: str, total: int) -> bytearray:
        """A byte for each line number up to `total`: 1 where the line has a result."""
        done = bytearray(total + 1)
        async with self.store.reading() as connection:
            rows = await connection.stream(select(BATCH_LINES.c.line).where(BATCH_LINES.c.batch == batch_id))
            async for row in rows:
                if row[0] <= total:
                    done[row[0]] = 1
        return done

    async def results(self, batch_id: str, ok: bool, after: int, limit: int = 500) -> list[tuple[int, str]]:
        """Results of lines after one, in the lines' order."""
        lines = BATCH_LINES.c
        where = (lines.batch == batch_id) & (lines.ok == ok) & (lines.line > after)
        chosen = select(lines.line, lines.result).where(where).order_by(lines.line).limit(limit)
        async with self.store.reading() as connection:
            return [(int(row[0]), str(row[1])) for row in await connection.execute(chosen)]

    async def by_status(self) -> dict[str, int]:
        """How many batches that have not ended are in which status."""
        chosen = (
            select(BATCHES.c.status, func.count())
            .where(BATCHES.c.status.in_(OPEN_STATUSES))
            .group_by(BATCHES.c.status)
        )
        async with self.store.reading() as connection:
            return {str(row[0]): int(row[1]) for row in await connection.execute(chosen)}

    async def forget_before(self, moment_ms: int) -> int:
        """Forget batches made before a moment that have ended; returns how many."""
        where = (BATCHES.c.created_ms < moment_ms) & BATCHES.c.status.not_in(OPEN_STATUSES)
        async with changing_batches(self.store) as connection:
            return int((await connection.execute(delete(BATCHES).where(where))).rowcount)


async def _change(connection: AsyncConnection, row: BatchRow, values: Mapping[str, Any]) -> None:
    same = (BATCHES.c.id == row.id) & (BATCHES.c.epoch == row.epoch)
    if not (await connection.execute(update(BATCHES).where(same).values(**values))).rowcount:
        raise LeaseLostError(row.id)


async def _there(connection: AsyncConnection, row: BatchRow) -> BatchRow:
    found = await _read(connection, row.id)
    if found is None or found.epoch != row.epoch:
        raise LeaseLostError(row.id)
    return found


async def _read(connection: AsyncConnection, batch_id: str) -> BatchRow | None:
    row = (await connection.execute(select(BATCHES).where(BATCHES.c.id == batch_id))).mappings().first()
    return None if row is None else _row(row)


def _values(row: BatchRow) -> dict[str, Any]:
    return {name: _json(value) if name in JSON_OF else value for name, value in asdict(row).items()}


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _row(row: Mapping[Any, Any]) -> BatchRow:
    read = {name: json.loads(row[name]) for name in JSON_OF if row[name] is not None}
    return BatchRow(**{**row, **read})
