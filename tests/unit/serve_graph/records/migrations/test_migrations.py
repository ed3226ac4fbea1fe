"""The decision store's schema: made and upgraded under a lock, from every schema that there has been."""

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from router_models.types import DecisionRecord
from serve_graph.errors import StoreUnavailableError
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.migrations.migrate import (
    ADVISORY_LOCK,
    HEAD,
    MIGRATIONS,
    bring_up_to_date,
    own_alone,
    revision_of,
)
from serve_graph.records.schema import METADATA, VERSION_TABLE
from serve_graph.records.store import DecisionStore

Records = Callable[..., DecisionRecord]
HERE = Path(__file__).parent
BY_HOUR = "decisions_by_hour"
"""The index over an expression, which SQLAlchemy cannot read back from SQLite, and so is in no table of the code."""
pytestmark = pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
FIRST = (
    """CREATE TABLE decisions (id VARCHAR(64) NOT NULL, created_at VARCHAR(32) NOT NULL,
    requested_model VARCHAR(256) NOT NULL, tier VARCHAR(32) NOT NULL, outcome VARCHAR(16) NOT NULL,
    version VARCHAR(64) NOT NULL, status INTEGER NOT NULL, stream BOOLEAN NOT NULL,
    prompt_sha256 VARCHAR(64) NOT NULL, prompt_chars INTEGER NOT NULL, route_reason TEXT NOT NULL,
    p_cheap_ok FLOAT, distance FLOAT, verdict_reason TEXT, p_answer_ok FLOAT, calls TEXT NOT NULL,
    cost_usd VARCHAR(40) NOT NULL, latency_s FLOAT NOT NULL, arm VARCHAR(64) NOT NULL, propensity FLOAT NOT NULL,
    error VARCHAR(64), metadata TEXT NOT NULL, PRIMARY KEY (id))""",
    "CREATE INDEX decisions_by_time ON decisions (created_at)",
    "CREATE INDEX decisions_by_version ON decisions (version, created_at)",
)
"""What the first release made."""
ADDED = (
    "ALTER TABLE decisions ADD COLUMN overhead TEXT",
    'ALTER TABLE decisions ADD COLUMN "key" VARCHAR(64)',
    "ALTER TABLE decisions ADD COLUMN session VARCHAR(64)",
    "ALTER TABLE decisions ADD COLUMN evidence TEXT",
    "ALTER TABLE decisions ADD COLUMN prompt TEXT",
    "ALTER TABLE decisions ADD COLUMN cost_pico_usd BIGINT",
    "CREATE INDEX decisions_by_key ON decisions (key, created_at)",
)
"""What the second added to it by hand."""
WIDE = tuple(statement.replace("version VARCHAR(64)", "version TEXT") for statement in FIRST)
EARLIER = {
    "of the first release": FIRST,
    "half upgraded by hand": FIRST + ADDED[:3],
    "upgraded by hand": FIRST + ADDED,
    "made whole by hand": (*(s.replace("arm VARCHAR(64)", "arm TEXT") for s in WIDE), *ADDED),
}
ROW = text(
    """INSERT INTO decisions (id, created_at, requested_model, tier, outcome, version, status, stream, prompt_sha256,
    prompt_chars, route_reason, calls, cost_usd, latency_s, arm, propensity, metadata) VALUES ('dec-old',
    '2026-01-01T00:00:00.000+00:00', 'auto', 'cheap', 'accepted', 'router/1', 200, false, 'x', 3, 'r', '[]', '0.5',
    0.1, 'router/1', 1.0, '{}')"""
)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction of its own, beside the store."""
    engine: AsyncEngine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def opened(url: str) -> DecisionStore:
    store = DecisionStore(url)
    await store.open()
    return store


def at_once(url: str, processes: int, *words: str) -> list[int]:
    """Exit codes of processes that open the store at the same moment."""
    command = [sys.executable, str(HERE / "opening_at_once.py"), url, str(processes), *words]
    root = str(HERE.parents[4])
    made = subprocess.run(command, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    return [int(line) for line in made.stdout.split()]


def differences(connection: Any) -> list[Any]:
    """What Alembic would still change to come from the database to the tables in the code."""
    ours = {"include_name": lambda name, kind, _: name in METADATA.tables if kind == "table" else name != BY_HOUR}
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, **ours})
    return list(compare_metadata(context, METADATA))


async def test_an_empty_database_gets_the_schema_of_the_code(store_url: str) -> None:
    await (await opened(store_url)).close()
    async with connected(store_url) as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(revision_of) == HEAD


@pytest.mark.parametrize("name", EARLIER)
async def test_an_earlier_database_is_upgraded_with_what_it_holds(
    store_url: str, name: str, a_record: Records
) -> None:
    async with connected(store_url) as connection:
        for statement in EARLIER[name]:
            await connection.execute(text(statement))
        await connection.execute(ROW)
    store = await opened(store_url)
    old = await store.get("dec-old")
    assert old is not None
    assert (old.tier, old.version, old.key, old.overhead) == ("cheap", "router/1", None, ())
    long_name = a_record("dec-new", version="v" * 200, arm="v" * 200, key="k")
    await store.write_many([long_name])
    assert await store.get("dec-new") == long_name
    assert await store.spent_by_key(["2000"]) == {"k": [long_name.cost_usd]}
    await store.close()
    async with connected(store_url) as connection:
        columns, indexes = await connection.run_sync(
            lambda sync: (inspect(sync).get_columns("decisions"), inspect(sync).get_indexes("decisions"))
        )
        assert {column["name"] for column in columns} == set(METADATA.tables["decisions"].columns.keys())
        assert {index["name"] for index in indexes} - {BY_HOUR} == {
            i.name for i in METADATA.tables["decisions"].indexes
        }
        if connection.dialect.name == "postgresql":  # SQLite holds nobody to a length, and cannot change a type
            assert await connection.run_sync(differences) == []
        assert await connection.run_sync(revision_of) == HEAD


async def test_feedback_that_was_given_before_there_were_judges_is_read_as_it_was(
    store_url: str, a_record: Records
) -> None:
    store = await opened(store_url)
    await store.write_many([a_record("dec-1")])
    given = Feedback("dec-1", "label", "human", "2026-03-01", 0.0, labeller="ann", by_admin=True, first_at="2026")
    await FeedbackTable(store).write([given])
    await store.close()
    async with connected(store_url) as connection:
        for name in ("probability", "detail"):
            await connection.execute(text(f"ALTER TABLE feedback DROP COLUMN {name}"))
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0006'"))
    store = await opened(store_url)
    judged = replace(given, source="judge:m", labeller="judge:m", probability=0.05, detail={"verdict": "right"})
    await FeedbackTable(store).write([judged])
    assert {one.source: one for one in (await FeedbackTable(store).of(["dec-1"]))["dec-1"]} == {
        "human": given,
        "judge:m": judged,
    }
    await store.close()
    async with connected(store_url) as connection:
        assert await connection.run_sync(revision_of) == HEAD
        if connection.dialect.name == "postgresql":
            assert await connection.run_sync(differences) == []


@pytest.mark.parametrize("before", ["empty", "of the first release"])
async def test_twelve_processes_may_open_it_at_once(store_url: str, before: str) -> None:
    if before in EARLIER:
        async with connected(store_url) as connection:
            for statement in EARLIER[before]:
                await connection.execute(text(statement))
    assert at_once(store_url, 12) == [0] * 12


def test_journals_that_another_process_takes_away_meanwhile_are_no_fault(tmp_path: Path) -> None:
    """SQLite removes them as the last connection to a database is closed, whenever that is."""
    database, journal, ended = tmp_path / "d.db", tmp_path / "d.db-shm", threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            journal.touch(0o644)
            journal.unlink()

    coming_and_going = threading.Thread(target=come_and_go)
    coming_and_going.start()
    try:
        for _ in range(5_000):
            own_alone(database)
    finally:
        ended.set()
        coming_and_going.join()
    assert database.stat().st_mode & 0o777 == 0o600


async def test_a_process_killed_while_it_migrates_leaves_nothing_half_done_and_no_lock(store_url: str) -> None:
    async with connected(store_url) as connection:
        for statement in FIRST:
            await connection.execute(text(statement))
    assert at_once(store_url, 2, "kill", "CREATE INDEX decisions_by_key") == [-9, -9]
    async with connected(store_url) as connection:
        columns = await connection.run_sync(lambda sync: inspect(sync).get_columns("decisions"))
        assert "overhead" not in {column["name"] for column in columns}
        assert await connection.run_sync(revision_of) is None
    store = DecisionStore(store_url)
    assert await store.count() == 0
    await store.close()


async def test_a_database_of_a_newer_release_is_refused_and_left_as_it_is(store_url: str, a_record: Records) -> None:
    await (await opened(store_url)).close()
    async with connected(store_url) as connection:
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    store = DecisionStore(store_url)
    for doing in (store.count(), store.write_many([a_record()])):
        with pytest.raises(StoreUnavailableError, match=r"revision '9999', which this release does not know"):
            await doing
    async with connected(store_url) as connection:
        assert await connection.run_sync(revision_of) == "9999"


async def test_a_table_dropped_by_hand_is_made_again(store_url: str) -> None:
    await (await opened(store_url)).close()
    async with connected(store_url) as connection:
        await connection.execute(text("DROP TABLE decisions"))
    store = DecisionStore(store_url)
    assert await store.count() == 0
    await store.close()


async def test_a_database_shared_with_mlflow_keeps_mlflows_revision(store_url: str) -> None:
    async with connected(store_url) as connection:
        await connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        await connection.execute(text("INSERT INTO alembic_version VALUES ('mlflows')"))
    try:
        await (await opened(store_url)).close()
        async with connected(store_url) as connection:
            found = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one()
        assert found == "mlflows"
    finally:
        async with connected(store_url) as connection:
            await connection.execute(text("DROP TABLE alembic_version"))


async def test_several_stores_of_one_process_may_be_made_at_once(tmp_path: Path) -> None:
    urls = [f"sqlite+aiosqlite:///{tmp_path / str(i)}.db" for i in range(6)]
    for store in await asyncio.gather(*map(opened, urls)):
        assert await store.count() == 0
        await store.close()


async def test_a_lock_that_is_held_for_too_long_is_an_error(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'd.db'}")
    with (tmp_path / "d.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailableError, match=r"another process .* for 0.05 s"):
            await bring_up_to_date(engine, wait_s=0.05)
    await bring_up_to_date(engine, wait_s=0.05)
    await engine.dispose()


@pytest.mark.postgres
async def test_postgresqls_lock_that_is_held_for_too_long_is_an_error_too(request: pytest.FixtureRequest) -> None:
    engine = create_async_engine(request.getfixturevalue("postgres").emptied())
    async with engine.connect() as holder:
        await holder.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        with pytest.raises(StoreUnavailableError, match=r"another process .* for 0.2 s"):
            await bring_up_to_date(engine, wait_s=0.2)
    await bring_up_to_date(engine, wait_s=0.2)
    await engine.dispose()


@pytest.mark.usefixtures("sqlite_threads_end")
async def test_a_store_in_memory_has_a_schema_too() -> None:
    store = DecisionStore("sqlite+aiosqlite://")
    assert await store.count() == 0
    await store.close()


def test_the_revision_in_the_code_is_the_newest_there_is() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_a_store_that_is_up_to_date_is_opened_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}"
    await (await opened(url)).close()
    program = (
        "import asyncio, sys\nfrom serve_graph.records.store import DecisionStore\n"
        f"async def main():\n    store = DecisionStore({url!r})\n    await store.count()\n    await store.close()\n"
        "asyncio.run(main())\nassert 'alembic' not in sys.modules\n"
    )
    root = str(HERE.parents[4])
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": root}, check=True, timeout=60)
