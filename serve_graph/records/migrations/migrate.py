"""The decision store's schema, brought up to date under a lock: one process migrates, the others wait for it.

SQLite: a lock file beside the database, and one exclusive transaction for everything that changes. PostgreSQL: an
advisory lock for the length of the transaction. Both are given up by the operating system or the server when a process
dies, and what it had begun is rolled back.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from serve_graph.errors import StoreUnavailableError
from serve_graph.records.schema import DECISIONS, METADATA, VERSION_TABLE

HEAD = "0013"
"""The newest revision under `versions`, stated here so that a store at it is opened without Alembic."""
MIGRATIONS = Path(__file__).parent
ADVISORY_LOCK = 0x5E27E  # any number that every release agrees on
WAIT_S = 60.0
_ALEMBIC = threading.Lock()  # its `op` and `context` are globals: one migration at a time in a process


async def bring_up_to_date(engine: AsyncEngine, wait_s: float = WAIT_S) -> None:
    """Create the schema, or upgrade that of any earlier release; cheap where there is nothing to do.

    Raises StoreUnavailableError where the schema is of a newer release, or another process holds the lock for longer
    than `wait_s` seconds; SQLAlchemy's or the driver's error where the database is unreachable.
    """
    async with _file_lock(engine, wait_s):
        async with engine.connect() as connection:
            if await connection.run_sync(_is_current):
                return
        async with _acquired(lambda: _ALEMBIC.acquire(blocking=False), "another thread", wait_s):
            try:
                async with engine.connect() as connection:
                    if engine.dialect.name != "sqlite":
                        await _advisory_lock(connection, wait_s)
                    await connection.run_sync(_upgrade)
                    await connection.commit()
            finally:
                _ALEMBIC.release()


def revision_of(connection: Connection) -> str | None:
    """The schema's revision; None of an empty database and of one made before revisions were kept."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return found


def _is_current(connection: Connection) -> bool:
    return revision_of(connection) == HEAD and _is_whole(connection)


def _is_whole(connection: Connection) -> bool:
    there = inspect(connection)
    rest = set(METADATA.tables) - set(there.get_table_names())  # one question, where each `has_table` is one
    return all(there.has_table(name) for name in rest)


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver would begin after the first table is made
    if _is_current(connection):  # made while this one waited
        return

    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    found = revision_of(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StoreUnavailableError(
            f"the decision store's schema is at revision {found!r}, which this release does not know (its newest is "
            f"{HEAD!r}): a newer release has upgraded it. Upgrade serve-graph, or give records.url another database"
        )
    if found is not None and (found == HEAD or not inspect(connection).has_table(DECISIONS.name)):  # dropped by hand
        connection.execute(text(f"DELETE FROM {VERSION_TABLE}"))
    command.upgrade(config, "head")


async def _advisory_lock(connection: AsyncConnection, wait_s: float) -> None:
    """Hold PostgreSQL's lock until the transaction ends. Asked for again and again: a statement's own limit on waiting
    for locks would hold for the migration too.
    """
    give_up = time.monotonic() + wait_s
    while not await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK}):
        if time.monotonic() > give_up:
            raise StoreUnavailableError(f"another process has been opening the decision store for {wait_s:.3g} s")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _file_lock(engine: AsyncEngine, wait_s: float) -> AsyncIterator[None]:
    """Hold `<database>.lock` where the database is a SQLite file; it is let go when its process dies.

    Not the database's own lock: turning on write-ahead logging fails at once where another process is doing the same.
    """
    database = engine.url.database or ""
    if engine.dialect.name != "sqlite" or database in ("", ":memory:") or database.startswith("file:"):
        yield
        return
    try:
        lock = os.open(f"{database}.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM) or not Path(database).exists():
            raise
        yield  # a folder that may only be read: nothing can be migrated there
        return
    try:
        async with _acquired(lambda: _locked(lock), "another process", wait_s):
            own_alone(Path(database))
            yield
    finally:
        os.close(lock)


def own_alone(database: Path) -> None:
    """Make a SQLite file readable by its owner alone, before there is anything in it; its journals follow it."""
    with contextlib.suppress(PermissionError):  # another user's, who has decided
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for path in (database, *(database.with_name(f"{database.name}-{end}") for end in ("wal", "shm"))):
            with contextlib.suppress(FileNotFoundError):  # whoever closes the database last takes its journals away
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def _acquired(acquire: Callable[[], bool], holder: str, wait_s: float) -> AsyncIterator[None]:
    """Try until a lock is had, letting other tasks run; whoever asks lets it go."""
    give_up = time.monotonic() + wait_s
    while not acquire():
        if time.monotonic() > give_up:
            raise StoreUnavailableError(f"{holder} has been opening the decision store for {wait_s:.3g} s")
        await asyncio.sleep(0.01)
    yield
