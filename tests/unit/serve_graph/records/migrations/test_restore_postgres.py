"""A decision store on PostgreSQL, dumped and restored into an empty database as docs/operate/backup.md says."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from router_models.types import DecisionRecord
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.schema import METADATA, VERSION_TABLE
from serve_graph.records.served_versions import ServedRow, read_served, write_served
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore
from tests.fixtures.servers.stores import PostgresServer

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[5]
PAGE = (ROOT / "docs" / "operate" / "backup.md").read_text(encoding="utf-8")
STEPS = dict(re.findall(r'```sh title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))
TIER = "{name: frontier, engine: echo, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}"


async def rows(url: str) -> dict[str, list[Any]]:
    """Every row of every table."""
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            found = {name: await connection.execute(text(f"SELECT * FROM {name}")) for name in [*METADATA.tables]}
            version = await connection.execute(text(f"SELECT * FROM {VERSION_TABLE}"))
            return {name: sorted(map(str, result)) for name, result in found.items()} | {"": list(map(str, version))}
    finally:
        await engine.dispose()


def take(step: str, postgres: PostgresServer, refused: str | None = None, **named: str) -> None:
    path = os.pathsep.join([str(postgres.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", STEPS[step]], capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | named | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode == 0) == (refused is None), done.stdout + done.stderr
    assert refused is None or refused in done.stderr


async def test_a_dump_that_is_restored_into_an_empty_database_is_the_same_store(
    postgres: PostgresServer, tmp_path: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    url, other = postgres.emptied(), "restored"
    store = DecisionStore(url)
    await store.open()
    await store.write_many([a_record(f"dec-{i}", key="k") for i in range(50)])
    await FeedbackTable(store).write([Feedback("dec-1", "label", "human", "2026-03-01", 1.0, labeller="ann")])
    served = ServedRow("serve-graph-router", 3, "serve-graph-router/2", "start", "promoted", "2026-03-01")
    assert await write_served(store, served, None)
    spent = await store.spent_by_key(["2026"])
    await store.close()
    before = await rows(url)
    at = f"postgresql://postgres@127.0.0.1:{postgres.port}"
    take("backup of PostgreSQL", postgres, BACKUP=str(tmp_path / "backup"), STORE=f"{at}/postgres")
    assert (tmp_path / "backup" / "decisions.dump").stat().st_mode & 0o077 == 0

    psql = ("psql", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", "-q", "-c")
    postgres._run(*psql, f"CREATE DATABASE {other}")
    try:
        config = tmp_path / "graph.yaml"
        config.write_text(f"{{records: {{url: '{at}/{other}'}}, tiers: [{TIER}]}}")
        named = {"BACKUP": str(tmp_path / "backup"), "STORE": f"{at}/{other}", "CONFIG": str(config)}
        take("restore of PostgreSQL", postgres, **named)
        restored = url.rpartition("/")[0] + f"/{other}"
        assert await rows(restored) == before
        store = DecisionStore(restored)
        assert await read_served(store, "serve-graph-router") == served
        assert await store.spent_by_key(["2026"]) == spent
        await store.write_many([a_record("dec-1"), a_record("dec-new")])  # as from a spool that had both
        assert await store.count() == 51
        await store.close()
    finally:
        postgres._run(*psql, f"DROP DATABASE {other} WITH (FORCE)")


async def test_a_graph_that_runs_meanwhile_spools_and_delivers_and_a_database_with_tables_is_refused(
    postgres: PostgresServer, tmp_path: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    """The database is gone for good, and restored from last night's dump, while requests are answered."""
    psql = ("psql", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", "-q", "-c")
    at, used = f"postgresql://postgres@127.0.0.1:{postgres.port}", "used"
    url = postgres.emptied().rpartition("/")[0] + f"/{used}"
    postgres._run(*psql, f"CREATE DATABASE {used}")
    store = DecisionStore(url)
    sink = SpooledSink(store, tmp_path / "spool", retry_s=0.05)
    config = tmp_path / "graph.yaml"
    config.write_text(f"{{records: {{url: '{at}/{used}'}}, tiers: [{TIER}]}}")
    named = {"BACKUP": str(tmp_path / "backup"), "STORE": f"{at}/{used}", "CONFIG": str(config)}
    running = asyncio.create_task(sink.run())

    async def until(count: int) -> None:
        async with asyncio.timeout(60):
            while sink.pending or await store.count() != count:
                await asyncio.sleep(0.05)

    try:
        sink.write(a_record("dec-before"))
        await until(1)
        await asyncio.to_thread(take, "backup of PostgreSQL", postgres, BACKUP=named["BACKUP"], STORE=named["STORE"])
        sink.write(a_record("dec-lost"))
        await until(2)
        refused = "already exists"
        await asyncio.to_thread(take, "restore of PostgreSQL", postgres, refused, **named)
        assert await store.count() == 2, "what is there is left as it is"

        postgres._run(*psql, f"DROP DATABASE {used} WITH (FORCE)")
        sink.write(a_record("dec-away"))
        postgres._run(*psql, f"CREATE DATABASE {used}")
        sink.write(a_record("dec-empty"))
        await asyncio.sleep(1.0)
        assert sink.pending == 2, "a database without tables takes nothing, and gets none from who has it open"
        await asyncio.to_thread(take, "restore of PostgreSQL", postgres, **named)
        sink.write(a_record("dec-after"))
        await until(4)
        assert not list((tmp_path / "spool").glob("*.rejected"))
        assert await store.get("dec-lost") is None, "what the dump cannot have"
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        sink.close()
        await store.close()
        postgres._run(*psql, f"DROP DATABASE {used} WITH (FORCE)")
