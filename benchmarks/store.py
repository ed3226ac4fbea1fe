"""What the decision store takes: rows a second as it grows, and bytes a row.

    python -m benchmarks.store --like sqlite+aiosqlite:////path/decisions.db [--into URL] [--records 1000000]

Records that a graph really wrote are written again under other ids, `BATCH` in a transaction as ingress replicas write
them, into an empty store: SQLite in a temporary folder, or a database that is named. By one writer, so that rows a
second are those of one ingress replica's connection; PostgreSQL's processor time is that of the connection's process,
without what writes its log.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from sqlalchemy import text

from benchmarks.graphs import BenchmarkError
from router_models.types import DecisionRecord
from serve_graph.records.spool.delivery import BATCH
from serve_graph.records.store import DecisionStore

LIKE = 1000
STEPS = 10


def again(likes: list[DecisionRecord], records: int) -> Iterator[list[DecisionRecord]]:
    """Batches of records like those, with ids and moments of their own, a millisecond apart."""
    chance, now = Random(1), datetime(2026, 1, 1, tzinfo=UTC)
    for begin in range(0, records, BATCH):
        yield [
            replace(likes[i % len(likes)], id=f"{chance.getrandbits(128):032x}",
                    created_at=(now + timedelta(milliseconds=i)).isoformat())
            for i in range(begin, min(records, begin + BATCH))
        ]  # fmt: skip


async def size_of(store: DecisionStore, file: Path | None) -> int:
    """Bytes of the table with its indexes."""
    if file is not None:
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.stat().st_size
    async with store.reading() as reading:
        return int((await reading.execute(text("select pg_total_relation_size('decisions')"))).scalar_one())


async def server_s(store: DecisionStore, file: Path | None) -> float:
    """Processor seconds that PostgreSQL's process of this connection has used, where it runs on this machine."""
    if file is not None:
        return 0.0
    async with store.reading() as reading:
        pid = (await reading.execute(text("select pg_backend_pid()"))).scalar_one()
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(like: str, into: str, file: Path | None, records: int) -> None:
    """Write and print a row of the table for each tenth."""
    source, store = DecisionStore(like), DecisionStore(into)
    await source.open()
    likes = await source.latest(LIKE)
    await source.close()
    if not likes:
        raise BenchmarkError(f"{like} holds no records")
    await store.open()
    if await store.count():
        raise BenchmarkError("the store is not empty: its rows would be measured as well")
    empty, written, mark = await size_of(store, file), 0, records // STEPS
    print("| rows | rows/s | writer's processor ms a row | the server's | bytes a row |\n|---|---|---|---|---|")
    wall, cpu, server = time.perf_counter(), time.process_time(), await server_s(store, file)
    for batch in again(likes, records):
        await store.write_many(batch)
        written += len(batch)
        if written % mark < BATCH:
            took, used = time.perf_counter() - wall, time.process_time() - cpu
            served = await server_s(store, file) - server
            size = (await size_of(store, file) - empty) / written
            each = [1000 * one / mark for one in (used, served)]
            print(f"| {written:,} | {mark / took:,.0f} | {each[0]:.3f} | {each[1]:.3f} | {size:,.0f} |", flush=True)
            wall, cpu, server = time.perf_counter(), time.process_time(), await server_s(store, file)
    await store.close()


def main() -> None:
    """Print the table."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--like", required=True, help="a store of a graph that was used: its newest records are taken")
    reads.add_argument("--into", help="an empty database; default: SQLite in a temporary folder")
    reads.add_argument("--records", type=int, default=1_000_000)
    chosen = reads.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file = None if chosen.into else Path(folder) / "decisions.db"
        asyncio.run(measure(chosen.like, chosen.into or f"sqlite+aiosqlite:///{file}", file, chosen.records))


if __name__ == "__main__":
    main()
