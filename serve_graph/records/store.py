"""The decision store: one SQL table, through SQLAlchemy, on SQLite (WAL) or PostgreSQL.

Writing is idempotent: a record's id is its key, and a second write of the same id changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Float, Index, Integer, MetaData, String, Table, Text, event, func, select
from sqlalchemy import Column as Col
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from router_models.types import Call, DecisionRecord, Usage

METADATA = MetaData()
DECISIONS = Table(
    "decisions",
    METADATA,
    Col("id", String(64), primary_key=True),
    Col("created_at", String(32), nullable=False),
    Col("requested_model", String(256), nullable=False),
    Col("tier", String(32), nullable=False),
    Col("outcome", String(16), nullable=False),
    Col("version", String(64), nullable=False),
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
    Col("arm", String(64), nullable=False),
    Col("propensity", Float, nullable=False),
    Col("error", String(64)),
    Col("metadata", Text, nullable=False),
    Index("decisions_by_time", "created_at"),
    Index("decisions_by_version", "version", "created_at"),
)


def record_to_json(record: DecisionRecord) -> dict[str, Any]:
    """A record as JSON-able data; money as strings, never floats."""
    data = asdict(record)
    data["cost_usd"] = str(record.cost_usd)
    data["calls"] = [asdict(call) | {"cost_usd": str(call.cost_usd)} for call in record.calls]
    return data


def record_from_json(data: dict[str, Any]) -> DecisionRecord:
    """The inverse of `record_to_json`."""
    calls = tuple(
        Call(c["tier"], Usage(**c["usage"]), float(c["latency_s"]), Decimal(c["cost_usd"])) for c in data["calls"]
    )
    return DecisionRecord(**{**data, "calls": calls, "cost_usd": Decimal(data["cost_usd"])})


class DecisionStore:
    """Read and write records. `open` makes the table where there is none; `close` gives the connections back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: AsyncEngine | None = None

    async def open(self) -> None:
        """Connect and create the schema; raises SQLAlchemy's or the driver's error where the store is unreachable."""
        engine = create_async_engine(self.url, pool_pre_ping=True)
        if engine.dialect.name == "sqlite":
            event.listen(engine.sync_engine, "connect", _sqlite_pragmas)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(METADATA.create_all, checkfirst=True)
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    async def write_many(self, records: Sequence[DecisionRecord]) -> None:
        """Insert records in one transaction, skipping ids that are there already."""
        if not records:
            return
        engine = await self._opened()
        rows = []
        for record in records:
            row = record_to_json(record)
            rows.append(row | {"calls": json.dumps(row["calls"]), "metadata": json.dumps(row["metadata"])})
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(DECISIONS).on_conflict_do_nothing(index_elements=["id"])
        async with engine.begin() as connection:
            await connection.execute(statement, rows)

    async def get(self, decision_id: str) -> DecisionRecord | None:
        """One record by id, or None."""
        engine = await self._opened()
        async with engine.connect() as connection:
            row = (await connection.execute(select(DECISIONS).where(DECISIONS.c.id == decision_id))).mappings().first()
        return None if row is None else _from_row(dict(row))

    async def latest(self, limit: int = 100) -> list[DecisionRecord]:
        """The newest records first."""
        engine = await self._opened()
        async with engine.connect() as connection:
            rows = await connection.execute(select(DECISIONS).order_by(DECISIONS.c.created_at.desc()).limit(limit))
            return [_from_row(dict(row)) for row in rows.mappings()]

    async def count(self) -> int:
        """How many records the store holds."""
        engine = await self._opened()
        async with engine.connect() as connection:
            return int((await connection.execute(select(func.count()).select_from(DECISIONS))).scalar_one())

    async def _opened(self) -> AsyncEngine:
        if self._engine is None:
            await self.open()
        assert self._engine is not None
        return self._engine


def _from_row(row: dict[str, Any]) -> DecisionRecord:
    return record_from_json(row | {"calls": json.loads(row["calls"]), "metadata": json.loads(row["metadata"])})


def _sqlite_pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
