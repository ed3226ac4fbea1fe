"""One row for each registered model: which version is served, and by which switch. None overwrites one unseen."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_graph.errors import StoreUnavailableError
from serve_graph.records.schema import SERVED_VERSIONS
from serve_graph.records.store import DecisionStore


@dataclass(frozen=True, slots=True)
class ServedRow:
    """`start` names the start of the graph that wrote it; `changed_at`: ISO 8601, UTC."""

    model: str
    epoch: int
    version: str
    start: str
    reason: str
    changed_at: str


async def read_served(store: DecisionStore, model: str) -> ServedRow | None:
    """The row of a registered model; raises StoreUnavailableError."""
    async with store.reading() as connection:
        found = await connection.execute(select(SERVED_VERSIONS).where(SERVED_VERSIONS.c.model == model))
        row = found.mappings().first()
    return None if row is None else ServedRow(**row)


async def write_served(store: DecisionStore, row: ServedRow, before: ServedRow | None) -> bool:
    """Write `row` where the store still has `before` (its epoch and start); returns whether it did.

    Raises StoreUnavailableError where the store cannot be written.
    """
    try:
        async with store.writing() as connection:
            return await _replaced(connection, row, before)
    except IntegrityError:  # another process was first
        return False
    except (SQLAlchemyError, OSError) as error:
        raise StoreUnavailableError(f"the decision store cannot be written ({type(error).__name__})") from error


async def _replaced(connection: AsyncConnection, row: ServedRow, before: ServedRow | None) -> bool:
    table = SERVED_VERSIONS
    if before is None:
        await connection.execute(insert(table).values(**asdict(row)))
        return True
    unchanged = (table.c.model == row.model) & (table.c.epoch == before.epoch) & (table.c.start == before.start)
    done = await connection.execute(update(table).where(unchanged).values(**asdict(row)))
    return bool(done.rowcount)
