"""Callers' files in the decision store: names, owners and how long they are kept; their bytes are elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_graph.errors import StoreUnavailableError
from serve_graph.records.schema import BATCHES, FILES
from serve_graph.records.store import DecisionStore

OPEN_STATUSES = ("validating", "in_progress", "finalizing", "cancelling")
"""Statuses of batches that have not ended."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file. `owner`: the name of its access key, None where it was uploaded without one; times are Unix ms."""

    id: str
    owner: str | None
    purpose: str
    filename: str
    bytes: int
    created_ms: int
    expires_ms: int


@asynccontextmanager
async def changing_batches(store: DecisionStore, *, in_turn: bool = False) -> AsyncIterator[AsyncConnection]:
    """A transaction; `in_turn`: to read and change in. Raises StoreUnavailableError where the store is away."""
    try:
        async with store.changing("batches") if in_turn else store.writing() as connection:
            yield connection
    except (SQLAlchemyError, OSError) as error:
        raise StoreUnavailableError(f"the decision store cannot be written ({type(error).__name__})") from error


class FilesTable:
    """The rows in a decision store. `owner` None: everybody's, for those who may see all."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def reserve(self, row: FileRow, most_files: int, most_bytes: int) -> tuple[int, int] | None:
        """Take a place for a new file; where its owner has none left, how many files there are, and of how many bytes.

        It counts from now on, and is there once it is `show`n. Where nobody does, its time is over already.
        """
        async with changing_batches(self.store, in_turn=True) as connection:
            count, size = await _sums(connection, row.owner)
            if count >= most_files or size + row.bytes > most_bytes:
                return count, size
            await connection.execute(insert(FILES).values(**{**asdict(row), "expires_ms": row.created_ms}))
        return None

    async def show(self, row: FileRow) -> None:
        """Let a file be there for as long as it says, now that its bytes are."""
        async with changing_batches(self.store) as connection:
            there = update(FILES).where(FILES.c.id == row.id).values(expires_ms=row.expires_ms)
            if not (await connection.execute(there)).rowcount:
                raise StoreUnavailableError("the file was deleted before it was whole: send it again")

    async def get(self, file_id: str, owner: str | None, now_ms: int) -> FileRow | None:
        """A file that has not expired, of this owner; None: there is none."""
        async with self.store.reading() as connection:
            found = await connection.execute(select(FILES).where(FILES.c.id == file_id, FILES.c.expires_ms > now_ms))
            row = found.mappings().first()
        return None if row is None or owner not in (None, row["owner"]) else _row(row)

    async def page(
        self, owner: str | None, now_ms: int, *, limit: int, after: FileRow | None, purpose: str | None, newest: bool
    ) -> list[FileRow]:
        """At most `limit` files, by the time of their upload, after one of them."""
        where = [FILES.c.expires_ms > now_ms]
        where += [] if owner is None else [FILES.c.owner == owner]
        where += [] if purpose is None else [FILES.c.purpose == purpose]
        made, name = FILES.c.created_ms, FILES.c.id
        if after is not None:
            later = made < after.created_ms if newest else made > after.created_ms
            beside = name < after.id if newest else name > after.id
            where.append(or_(later, and_(made == after.created_ms, beside)))
        order = (made.desc(), name.desc()) if newest else (made, name)
        async with self.store.reading() as connection:
            rows = await connection.execute(select(FILES).where(*where).order_by(*order).limit(limit))
            return [_row(row) for row in rows.mappings()]

    async def held_by(self, owner: str | None) -> tuple[int, int]:
        """How many files an owner has, and of how many bytes."""
        async with self.store.reading() as connection:
            return await _sums(connection, owner)

    async def used_by(self, file_id: str) -> str | None:
        """The id of a batch that has not ended and reads this file."""
        async with self.store.reading() as connection:
            where = (BATCHES.c.input_file == file_id) & BATCHES.c.status.in_(OPEN_STATUSES)
            found = (await connection.execute(select(BATCHES.c.id).where(where).limit(1))).scalar()
        return None if found is None else str(found)

    async def delete(self, file_id: str) -> None:
        async with changing_batches(self.store) as connection:
            await connection.execute(delete(FILES).where(FILES.c.id == file_id))

    async def expired(self, now_ms: int, limit: int = 100) -> list[str]:
        """Files whose time is over, those that an open batch reads left out."""
        read = select(BATCHES.c.input_file).where(BATCHES.c.status.in_(OPEN_STATUSES))
        where = (FILES.c.expires_ms <= now_ms) & FILES.c.id.not_in(read)
        async with self.store.reading() as connection:
            rows = await connection.execute(select(FILES.c.id).where(where).limit(limit))
            return [str(row[0]) for row in rows]


async def _sums(connection: AsyncConnection, owner: str | None) -> tuple[int, int]:
    of = FILES.c.owner.is_(None) if owner is None else FILES.c.owner == owner
    sums = select(func.count(), func.coalesce(func.sum(FILES.c.bytes), 0)).select_from(FILES).where(of)
    count, size = (await connection.execute(sums)).one()
    return int(count), int(size)


def _row(row: Mapping[Any, Any]) -> FileRow:
    return FileRow(**row)
