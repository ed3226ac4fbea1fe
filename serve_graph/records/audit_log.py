"""The audit log in the decision store: entries are added, read, and deleted once they are older than they are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_graph.errors import StoreUnavailableError
from serve_graph.records.audit import AuditEntry, AuditFilter
from serve_graph.records.schema import AUDIT
from serve_graph.records.store import DecisionStore

NEWEST = AuditFilter()


class AuditLog:
    """The audit log of a decision store."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries, all or none, but those that are there already; raises StoreUnavailableError."""
        try:
            async with self.store.writing() as connection:
                await add_entries(connection, entries)
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailableError(f"the audit log cannot be written ({type(error).__name__})") from error

    async def entries(self, chosen: AuditFilter = NEWEST) -> list[AuditEntry]:
        """Return the newest entries first; raises StoreUnavailableError."""
        query = select(AUDIT).order_by(AUDIT.c.created_at.desc(), AUDIT.c.id).limit(chosen.limit)
        for name in ("actor", "target"):
            if (value := getattr(chosen, name)) is not None:
                query = query.where(AUDIT.c[name] == value)
        if chosen.action is not None:
            of_group = AUDIT.c.action.startswith(f"{chosen.action}.", autoescape=True)
            query = query.where((AUDIT.c.action == chosen.action) | of_group)
        if chosen.since is not None:
            query = query.where(AUDIT.c.created_at >= chosen.since)
        async with self.store.reading() as connection:
            rows = (await connection.execute(query)).mappings()
            return [AuditEntry(**{**row, "detail": json.loads(row["detail"])}) for row in rows]

    async def delete_before(self, moment: str) -> int:
        """Delete the entries made before a moment (ISO 8601, UTC); returns how many there were."""
        async with self.store.writing() as connection:
            result = await connection.execute(delete(AUDIT).where(AUDIT.c.created_at < moment))
            return int(result.rowcount)


async def add_entries(connection: AsyncConnection, entries: Sequence[AuditEntry]) -> None:
    """Add entries, but those that are there already, in the transaction of what they are about."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(AUDIT).on_conflict_do_nothing(index_elements=["id"])
    await connection.execute(statement, [_to_row(entry) for entry in entries])


def _to_row(entry: AuditEntry) -> dict[str, Any]:
    row = asdict(entry) | {"detail": json.dumps(dict(entry.detail), default=str)}
    return {name: v.replace("\0", "�") if isinstance(v, str) else v for name, v in row.items()}
