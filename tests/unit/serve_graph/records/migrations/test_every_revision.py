"""A decision store at each revision that there has been, with a row in it: brought up to today's, it is whole."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from router_models.types import DecisionRecord
from serve_graph.records.migrations.migrate import HEAD, MIGRATIONS, revision_of
from serve_graph.records.schema import METADATA, VERSION_TABLE
from serve_graph.records.store import DecisionStore

pytestmark = pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
Records = Callable[..., DecisionRecord]
BY_HOUR = "decisions_by_hour"
"""The index over an expression, which SQLAlchemy cannot read back from SQLite, and so is in no table of the code."""
SETTINGS = Config()
SETTINGS.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
REVISIONS = [script.revision for script in ScriptDirectory.from_config(SETTINGS).walk_revisions()][::-1]
ROW = text(
    """INSERT INTO decisions (id, created_at, requested_model, tier, outcome, version, status, stream, prompt_sha256,
    prompt_chars, route_reason, calls, cost_usd, latency_s, arm, propensity, metadata) VALUES ('dec-old',
    '2026-01-01T00:00:00.000+00:00', 'auto', 'cheap', 'accepted', 'router/1', 200, false, 'x', 3, 'r', '[]', '0.5',
    0.1, 'router/1', 1.0, '{}')"""
)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction of its own, beside the store."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


def made_at(connection: Connection, revision: str) -> None:
    """The schema as the release of that revision made it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def differences(connection: Any) -> list[Any]:
    """What Alembic would still change to come from the database to the tables in the code."""
    ours = {"include_name": lambda name, kind, _: name in METADATA.tables if kind == "table" else name != BY_HOUR}
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, **ours})
    return list(compare_metadata(context, METADATA))


def test_there_are_revisions_from_the_first_to_the_newest() -> None:
    assert [f"{n:04}" for n in range(1, len(REVISIONS) + 1)] == REVISIONS
    assert REVISIONS[-1] == HEAD


@pytest.mark.sampled
@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_store_of_any_revision_is_brought_up_to_date_with_what_it_holds(
    store_url: str, revision: str, a_record: Records
) -> None:
    async with connected(store_url) as connection:
        await connection.run_sync(made_at, revision)
        assert await connection.run_sync(revision_of) == revision
        if revision != HEAD:
            assert await connection.run_sync(differences) or await connection.run_sync(lacks_index)
        await connection.execute(ROW)
    store = DecisionStore(store_url)
    await store.open()
    old = await store.get("dec-old")
    assert old is not None
    assert (old.tier, old.version, str(old.cost_usd)) == ("cheap", "router/1", "0.5")
    new = a_record("dec-new", version="v" * 200, key="k")
    await store.write_many([new])
    assert await store.get("dec-new") == new
    assert await store.spent_by_key(["2000"]) == {"k": [new.cost_usd]}
    await store.close()
    async with connected(store_url) as connection:
        assert await connection.run_sync(revision_of) == HEAD
        assert await connection.run_sync(differences) == []
        assert not await connection.run_sync(lacks_index)


def lacks_index(connection: Connection) -> bool:
    names = text("SELECT name FROM sqlite_master WHERE type = 'index'")
    if connection.dialect.name == "sqlite":
        return BY_HOUR not in {name for (name,) in connection.execute(names)}
    return BY_HOUR not in {index["name"] for index in inspect(connection).get_indexes("decisions")}
