"""The decision store: one SQL table, through SQLAlchemy, on SQLite (WAL) or PostgreSQL.

Writing is idempotent: a record's id is its key, and a second write of the same id changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Float, Index, Integer, MetaData, String, Table, Text, event, func, select
from sqlalchemy import Column as Col
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from router_models.pricing import plain
from router_models.types import Call, DecisionRecord, Usage
from serve_graph.errors import StoreUnavailableError

METADATA = MetaData()
DECISIONS = Table(
    "decisions",
    METADATA,
    Col("id", String(64), primary_key=True),
    Col("created_at", String(32), nullable=False),
    Col("requested_model", String(256), nullable=False),
    Col("tier", String(32), nullable=False),
    Col("outcome", String(16), nullable=False),
    Col("version", Text, nullable=False),
    Col("status", Integer, nullable=False),
    Col("stream", Boolean, nullable=False),
    Col("prompt_sha256", String(64), nullable=False),
    Col("prompt_chars", Integer, nullable=False),
    Col("route_reason", Text, nullable=False),
    Col("p_cheap_ok", Float),
    Col("distance", Float),
    Col("verdict_reason", Text),
    Col("p_answer_ok", Float),
    Col("calls", Text, nullable=False),
    Col("cost_usd", String(40), nullable=False),
    Col("latency_s", Float, nullable=False),
    Col("arm", Text, nullable=False),
    Col("propensity", Float, nullable=False),
    Col("error", String(64)),
    Col("metadata", Text, nullable=False),
    Index("decisions_by_time", "created_at"),
    Index("decisions_by_version", "version", "created_at"),
)


def record_to_json(record: DecisionRecord) -> dict[str, Any]:
    """A record as JSON-able data; money as strings, never floats."""
    data = asdict(record)
    data["cost_usd"] = plain(record.cost_usd)
    data["calls"] = [asdict(call) | {"cost_usd": plain(call.cost_usd)} for call in record.calls]
    return data


def record_from_json(data: dict[str, Any]) -> DecisionRecord:
    """The inverse of `record_to_json`."""
    calls = tuple(
        Call(c["tier"], Usage(**c["usage"]), float(c["latency_s"]), Decimal(c["cost_usd"])) for c in data["calls"]
    )
    return DecisionRecord(**{**data, "calls": calls, "cost_usd": Decimal(data["cost_usd"])})


class RefusedRowError(ValueError):
    """The store is there, but will never take this row: trying again is of no use."""


class DecisionStore:
    """Read and write records. `open` makes the table where there is none; `close` gives the connections back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect and create the schema; raises SQLAlchemy's or the driver's error where the store is unreachable."""
        engine = create_async_engine(self.url, pool_pre_ping=True)
        if engine.dialect.name == "sqlite":
            event.listen(engine.sync_engine, "connect", _sqlite_pragmas)
        try:
            try:
                await _make_schema(engine)
            except DBAPIError:  # another process may have made it between the look and the leap
                await _make_schema(engine)
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    async def write_many(self, records: Sequence[DecisionRecord]) -> None:
        """Insert records in one transaction, skipping ids that are there already.

        Raises RefusedRowError where a row cannot be stored by anyone ever; anything else means the store is down.
        """
        if not records:
            return
        engine = await self._opened()
        rows = []
        for record in records:
            row = record_to_json(record)
            row |= {"calls": json.dumps(row["calls"]), "metadata": json.dumps(row["metadata"])}
            rows.append({k: v.replace("\0", "\ufffd") if isinstance(v, str) else v for k, v in row.items()})
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(DECISIONS).on_conflict_do_nothing(index_elements=["id"])
        async with engine.begin() as connection:
            try:
                await connection.execute(statement, rows)
            except Exception as error:
                if _is_rows_fault(error):
                    raise RefusedRowError(f"{type(error).__name__}: {error}") from error
                raise

    async def get(self, decision_id: str) -> DecisionRecord | None:
        """One record by id, or None; raises StoreUnavailableError, as every reading does."""
        async with self._reading() as connection:
            row = (await connection.execute(select(DECISIONS).where(DECISIONS.c.id == decision_id))).mappings().first()
        return None if row is None else _from_row(dict(row))

    async def latest(self, limit: int = 100) -> list[DecisionRecord]:
        """The newest records first."""
        async with self._reading() as connection:
            rows = await connection.execute(select(DECISIONS).order_by(DECISIONS.c.created_at.desc()).limit(limit))
            return [_from_row(dict(row)) for row in rows.mappings()]

    async def count(self) -> int:
        """How many records the store holds."""
        async with self._reading() as connection:
            return int((await connection.execute(select(func.count()).select_from(DECISIONS))).scalar_one())

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        try:
            engine = await self._opened()
            async with engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailableError(f"the decision store cannot be read ({type(error).__name__})") from error

    async def _opened(self) -> AsyncEngine:
        async with self._opening:
            if self._engine is None:
                await self.open()
        assert self._engine is not None
        return self._engine


def _is_rows_fault(error: Exception) -> bool:
    """SQLSTATE classes 22 (data) and 23 (integrity), and values that the driver itself cannot write."""
    if isinstance(error, DBAPIError):
        return str(getattr(error.orig, "sqlstate", None) or "")[:2] in ("22", "23")
    return isinstance(error, ValueError | TypeError | OverflowError)


async def _make_schema(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all, checkfirst=True)


def _from_row(row: dict[str, Any]) -> DecisionRecord:
    return record_from_json(row | {"calls": json.loads(row["calls"]), "metadata": json.loads(row["metadata"])})


def _sqlite_pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
