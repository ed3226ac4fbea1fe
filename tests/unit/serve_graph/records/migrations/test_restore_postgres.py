"""A decision store on PostgreSQL, dumped and restored into an empty database as docs/operate/backup.md says."""

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
from serve_graph.records.store import DecisionStore
from tests.fixtures.serving import PostgresServer

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


def take(step: str, postgres: PostgresServer, **named: str) -> None:
    path = os.pathsep.join([str(postgres.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", STEPS[step]], capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | named | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


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
