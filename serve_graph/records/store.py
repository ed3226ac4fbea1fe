"""The decision store: SQL tables, through SQLAlchemy, on SQLite (WAL) or PostgreSQL.

Writing is idempotent: a record's id is its key, and a second write of the same id changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from decimal import Decimal
from operator import attrgetter
from typing import Any

from sqlalchemy import case, delete, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from router_models.pricing.prices import plain_decimal
from router_models.types import DECIDED_BY_NO_VERSION, Call, DecisionRecord, Usage
from serve_graph.errors import StoreUnavailableError
from serve_graph.records.migrations.migrate import bring_up_to_date
from serve_graph.records.schema import COMPARISONS, DECISIONS, EMBEDDING_SUMS, FEEDBACK, ROLLOUTS

PICO = 10**12  # what a dollar is in the column that SQL adds up: sums of it are exact, floats' are not
MOST_PICO = 2**63 - 1
_RECORD, _LINE, _USAGE = (tuple(each.name for each in fields(made)) for made in (DecisionRecord, Call, Usage))
_of_record, _of_line, _of_usage = (attrgetter(*names) for names in (_RECORD, _LINE, _USAGE))
JSON_COLUMNS = ("calls", "overhead", "metadata", "evidence")


def record_to_json(record: DecisionRecord) -> dict[str, Any]:
    """A record as JSON-able data; money as strings, never floats."""
    data: dict[str, Any] = dict(zip(_RECORD, _of_record(record), strict=True))  # `asdict` copies every leaf: .16 ms
    data |= {"metadata": dict(record.metadata), "evidence": dict(record.evidence)}
    data["cost_usd"] = plain_decimal(record.cost_usd)
    data["calls"] = [line_to_json(call) for call in record.calls]
    data["overhead"] = [line_to_json(line) for line in record.overhead]
    return data


def record_from_json(data: dict[str, Any]) -> DecisionRecord:
    """The inverse of `record_to_json`; fields that an older release did not write are at their defaults."""
    lines = {name: tuple(line_from_json(line) for line in data.get(name) or ()) for name in ("calls", "overhead")}
    return DecisionRecord(**{**data, **lines, "cost_usd": Decimal(data["cost_usd"])})


def line_to_json(line: Call) -> dict[str, Any]:
    """A line of a bill as JSON-able data; money as strings."""
    parts = {name: plain_decimal(amount) for name, amount in line.parts.items()}
    data = dict(zip(_LINE, _of_line(line), strict=True))
    usage = dict(zip(_USAGE, _of_usage(line.usage), strict=True))
    return data | {"usage": usage, "cost_usd": plain_decimal(line.cost_usd), "parts": parts}


def line_from_json(data: dict[str, Any]) -> Call:
    """The inverse of `line_to_json`."""
    parts = {name: Decimal(amount) for name, amount in data.get("parts", {}).items()}
    known = {"usage": Usage(**data["usage"]), "latency_s": float(data["latency_s"]), "parts": parts}
    return Call(**{**data, **known, "cost_usd": Decimal(data["cost_usd"])})


class RefusedRowError(ValueError):
    """The store is there, but will never take this row: trying again is of no use."""


class DecisionStore:
    """Read and write records. `open` makes or upgrades the tables; `close` gives the connections back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect and bring the schema up to date.

        Raises SQLAlchemy's or the driver's error where the store is unreachable, StoreUnavailableError where a newer
        release made its schema.
        """
        engine = create_async_engine(self.url, pool_pre_ping=True, hide_parameters=True)  # rows are not for the log
        if engine.dialect.name == "sqlite":
            event.listen(engine.sync_engine, "connect", _sqlite_pragmas)
            event.listen(engine.sync_engine, "invalidate", _sqlite_rolled_back)
        try:
            await bring_up_to_date(engine)
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
            row |= {name: json.dumps(row[name]) for name in JSON_COLUMNS}
            row["cost_pico_usd"] = min(int(record.cost_usd * PICO), MOST_PICO)
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
        async with self.reading() as connection:
            row = (await connection.execute(select(DECISIONS).where(DECISIONS.c.id == decision_id))).mappings().first()
        return None if row is None else _from_row(dict(row))

    async def latest(self, limit: int = 100, version: str | None = None) -> list[DecisionRecord]:
        """The newest records first, of all versions or of one."""
        chosen = select(DECISIONS).order_by(DECISIONS.c.created_at.desc()).limit(limit)
        if version is not None:
            chosen = chosen.where(DECISIONS.c.version == version)
        async with self.reading() as connection:
            rows = await connection.execute(chosen)
            return [_from_row(dict(row)) for row in rows.mappings()]

    async def kept_prompts(
        self, *, forced: bool = False, since: str | None = None, until: str | None = None
    ) -> AsyncGenerator[DecisionRecord, None]:
        """Answered requests whose prompts were kept, the newest first; those that no version decided, because they
        named a tier or two tiers answered, only where `forced`.

        `since` and `until` (ISO 8601, UTC) bound when they came, the latter excluded.
        """
        where = (DECISIONS.c.prompt.is_not(None)) & (DECISIONS.c.prompt != "") & (DECISIONS.c.status == 200)
        if not forced:
            where &= DECISIONS.c.outcome.not_in(DECIDED_BY_NO_VERSION)
        if since is not None:
            where &= DECISIONS.c.created_at >= since
        if until is not None:
            where &= DECISIONS.c.created_at < until
        chosen = select(DECISIONS).where(where)
        async with self.reading() as connection:
            rows = await connection.stream(chosen.order_by(DECISIONS.c.created_at.desc(), DECISIONS.c.id))
            async for row in rows.mappings():
                yield _from_row(dict(row))

    async def count(self) -> int:
        """How many records the store holds."""
        async with self.reading() as connection:
            return int((await connection.execute(select(func.count()).select_from(DECISIONS))).scalar_one())

    async def spent_by_key(self, since: Sequence[str], model: str | None = None) -> dict[str, list[Decimal]]:
        """Dollars by access key since each of some moments (ISO 8601, UTC), the earliest first.

        `model`: what versions of this model answered, and what no version did; None: everything.
        """
        pico, when = DECISIONS.c.cost_pico_usd, DECISIONS.c.created_at
        sums = [func.coalesce(func.sum(case((when >= moment, pico), else_=0)), 0) for moment in since]
        known = (DECISIONS.c.key.is_not(None)) & (when >= since[0])
        if model is not None:
            known &= DECISIONS.c.version.startswith(f"{model}/", autoescape=True) | ~DECISIONS.c.version.contains("/")
        async with self.reading() as connection:
            rows = await connection.execute(select(DECISIONS.c.key, *sums).where(known).group_by(DECISIONS.c.key))
            return {row[0]: [Decimal(int(n)) / PICO for n in row[1:]] for row in rows}

    async def delete_before(self, moment: str) -> int:
        """Forget every record made before a moment (ISO 8601, UTC), with its feedback, comparisons and embedding sums.

        Comparisons of a rollout that goes on stay until it has ended: they are what it is decided by.
        Returns how many records there were.
        """
        old = select(DECISIONS.c.id).where(DECISIONS.c.created_at < moment)
        async with self.writing() as connection:
            for table, since in ((FEEDBACK, FEEDBACK.c.first_at), (COMPARISONS, COMPARISONS.c.at)):
                orphans = (since < moment) & table.c.decision.not_in(select(DECISIONS.c.id))
                gone = table.c.decision.in_(old) | orphans
                if table is COMPARISONS:
                    under_way = select(ROLLOUTS.c.id).where(ROLLOUTS.c.active.is_not(None))
                    gone &= COMPARISONS.c.rollout.not_in(under_way)
                await connection.execute(delete(table).where(gone))
            await connection.execute(delete(EMBEDDING_SUMS).where(EMBEDDING_SUMS.c.at < moment))
            result = await connection.execute(delete(DECISIONS).where(DECISIONS.c.created_at < moment))
            return int(result.rowcount)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction, committed at the end; raises SQLAlchemy's or the driver's error."""
        engine = await self._opened()
        async with engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def changing(self, what: str) -> AsyncIterator[AsyncConnection]:
        """A transaction to read and change one kind of row in; writers of the same kind wait for one another.

        Raises RefusedRowError where a row cannot be stored by anyone ever, else what the driver raises.
        """
        async with self.writing() as connection:
            if connection.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver would begin after what is read
            else:
                lock = text("SELECT pg_advisory_xact_lock(hashtext(:what))")
                await connection.execute(lock, {"what": f"serve_graph.{what}"})
            try:
                yield connection
            except Exception as error:
                if _is_rows_fault(error):
                    raise RefusedRowError(f"{type(error).__name__}: {error}") from error
                raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with; raises StoreUnavailableError where the store cannot be read."""
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
        state = str(getattr(error.orig, "sqlstate", None) or "")  # SQLite has none
        return isinstance(error, IntegrityError | DataError) or state[:2] in ("22", "23")
    return isinstance(error, ValueError | TypeError | OverflowError)


def _from_row(row: dict[str, Any]) -> DecisionRecord:
    row.pop("cost_pico_usd")
    lists = {name: json.loads(row[name]) if row[name] else [] for name in ("calls", "overhead")}
    maps = {name: json.loads(row[name]) if row[name] else {} for name in ("metadata", "evidence")}
    return record_from_json(row | lists | maps)


def _sqlite_rolled_back(connection: Any, _: Any, __: Any) -> None:
    """End the transaction of a connection that is given up, because its task was cancelled in the middle of it.

    Closing would not: SQLite keeps a connection, and its locks, until its last statement is collected as garbage.
    """
    with contextlib.suppress(Exception):
        connection.rollback()


def _sqlite_pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
