"""The audit log in the decision store: entries are added, read, and deleted once they are older than they are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from serve_graph.records.audit import AuditEntry
from serve_graph.records.schema import AUDIT
from serve_graph.records.store import DecisionStore


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries to read, the newest first: those that agree with everything that is given.

    `action` may be the first word of several (`keys`); `since` is a moment in ISO 8601, UTC.
    """

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: str | None = None
    limit: int = 100


class AuditLog:
    """The audit log of a decision store."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries, all or none, but those that are there already. Raises whatever the store or its driver does."""
        async with self.store.writing() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            statement = dialect.insert(AUDIT).on_conflict_do_nothing(index_elements=["id"])
            await connection.execute(statement, [_to_row(entry) for entry in entries])

    async def entries(self, chosen: AuditFilter = AuditFilter()) -> list[AuditEntry]:
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


def _to_row(entry: AuditEntry) -> dict[str, Any]:
    row = asdict(entry) | {"detail": json.dumps(dict(entry.detail), default=str)}
    return {name: v.replace("\0", "�") if isinstance(v, str) else v for name, v in row.items()}
