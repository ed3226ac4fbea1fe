"""What a request, a page and a poll cost as a graph grows: one dimension at a time, in this process and without Ray.

    python -m benchmarks.capacity.growth [--parts prompts,tiers,keys,records,versions,replicas] [--blocks 5]
        [--folder DIR] [--out PAGE]

The ingress's own class with router and verifier in it, called as an ASGI server calls it, echo tiers that are called
without a handle (`benchmarks.ingress`), the decision store in SQLite, the registry in MLflow on SQLite. All sizes of a
dimension stand at once and are asked in turn. Milliseconds of this process's processor; of pages, which a thread reads
from the store meanwhile, the time until they are there as well.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.graphs import BenchmarkError
from benchmarks.ingress import application, call, post
from benchmarks.load import median_and_range
from benchmarks.overhead import TIERS, prepared, question
from router_models.versions.mlflow_client import registry_client
from router_models.versions.registry import find_version, list_versions, poll_review
from serve_graph.access.keys import key_hash, write_keys
from serve_graph.access.limits.leases import LeaseAsk
from serve_graph.access.limits.limit_pool import UNIT, LimitTerms
from serve_graph.cluster.replicas.lease_store import LeaseStore
from serve_graph.config.access import KeyConfig
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.records.store import DecisionStore

Done = Callable[[], Awaitable[None]]
"""Something that is done once, and timed."""
WORDS = " Say why it has that colour, what else has it, and since when people have known of it."
PAGE = """# What grows with what

`{command}`, {day}, {machine}.

One ingress with router and verifier in it, echo tiers, SQLite, all in one process without Ray; every size of a
dimension stands and is asked in turn, {blocks} rounds. Medians, in brackets the least and the most of a round.

| what grows | to | what is done | processor, ms | until it is done, ms |
|---|---:|---|---|---|
{rows}
"""


@dataclass
class Row:
    """What one thing cost at one size, of every round."""

    part: str
    size: str
    what: str
    do: Done
    times: int = 20
    is_waited_for: bool = False
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)

    async def measure(self) -> None:
        """One round."""
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(self.times):
            await self.do()
        self.cpu_ms.append(1000 * (time.process_time() - cpu) / self.times)
        self.wall_ms.append(1000 * (time.perf_counter() - wall) / self.times)

    def line(self) -> str:
        """The page's."""
        waited = median_and_range(self.wall_ms, 2) if self.is_waited_for else ""
        return f"| {self.part} | {self.size} | {self.what} | {median_and_range(self.cpu_ms, 2)} | {waited} |"


async def in_turn(rows: list[Row], blocks: int) -> list[Row]:
    """Every row once to warm up, then so many rounds of all."""
    for row in rows:
        await row.do()
    for i in range(blocks):
        for row in rows[:: 1 if i % 2 else -1]:
            await row.measure()
    return rows


def chat(app: Any, model: str, text: Callable[[], str], key: str | None = None) -> Done:
    """A chat request, of a new question each time."""

    async def do() -> None:
        said = {"model": model, "messages": [{"role": "user", "content": text()}]}
        status, headers = await post(app, said, key)
        if status != 200:
            raise BenchmarkError(f"{model}: status {status}, {headers}")

    return do


def page(app: Any, path: str) -> Done:
    """A page that is read."""

    async def do() -> None:
        status, _ = await call(app, "GET", path)
        if status != 200:
            raise BenchmarkError(f"{path}: status {status}")

    return do


def graph(folder: Path, **more: Any) -> GraphConfig:
    """A graph of echo tiers without a version, as a file would describe it."""
    folder.mkdir(parents=True, exist_ok=True)
    policy = {"version": "builtin", "safe_tier": "frontier", "placement": "ingress"}
    data = {"tiers": TIERS, "policy": policy, "state_folder": str(folder)} | more
    (folder / "graph.yaml").write_text(yaml.safe_dump(data))
    return load_config(folder / "graph.yaml")


async def prompts(folder: Path, blocks: int) -> list[Row]:
    """Prompts of a hundred bytes to a hundred kilobytes, routed and forced."""
    numbers, rows = itertools.count(1_500), list[Row]()

    def of(size: int) -> Callable[[], str]:
        return lambda: (question(next(numbers)) + WORDS * (size // len(WORDS) + 1))[:size]

    long = [tier | {"context_tokens": 10**6} for tier in TIERS]
    held = folder / "prompts"
    held.mkdir(exist_ok=True)
    config = load_config(prepared(held, long, placements=("ingress",))["ingress"][0])
    async with application(config) as app:
        for size in (100, 1_000, 10_000, 100_000):
            for what, model in (("routed", "auto"), ("forced", "cheap")):
                rows.append(Row("prompt, bytes", f"{size:,}", f"a request, {what}", chat(app, model, of(size))))
        return await in_turn(rows, blocks)


async def tiers(folder: Path, blocks: int) -> list[Row]:
    """Graphs of two to sixteen tiers."""
    numbers, rows = itertools.count(), list[Row]()
    async with AsyncExitStack() as stack:
        for count in (2, 4, 8, 16):
            between = [TIERS[0] | {"name": f"between-{i}"} for i in range(count - 2)]
            config = graph(folder / f"tiers-{count}", tiers=[TIERS[0], *between, TIERS[1]])
            app = await stack.enter_async_context(application(config))
            asked = chat(app, "cheap", lambda: question(next(numbers)))
            rows.append(Row("tiers", f"{count}", "a request, forced", asked, 100))
        return await in_turn(rows, blocks)


async def keys(folder: Path, blocks: int) -> list[Row]:
    """Graphs of one to ten thousand keys, each with limits and a budget."""
    numbers, rows = itertools.count(), list[Row]()
    async with AsyncExitStack() as stack:
        for count in (1, 100, 10_000):
            state = folder / f"keys-{count}"
            config = graph(state)
            limits = {
                "requests_per_min": 10**6,
                "tokens_per_min": 10**9,
                "usd_per_day": 1000,
                "scopes": ("use", "force"),
            }
            made = [KeyConfig(name=f"key-{i}", sha256=key_hash(f"secret-{i}"), **limits) for i in range(count)]
            write_keys(state / "keys.yaml", made)
            app = await stack.enter_async_context(application(config))
            asked = iter(itertools.cycle(range(count)))

            async def one(app: Any = app, asked: Any = asked) -> None:
                await chat(app, "cheap", lambda: question(next(numbers)), f"secret-{next(asked)}")()

            rows.append(Row("keys", f"{count:,}", "a request, forced; keys in turn", one, 100))
        return await in_turn(rows, blocks)


async def records(folder: Path, blocks: int) -> list[Row]:
    """Decision stores of a thousand to a million records, a month's."""
    numbers, rows = itertools.count(), list[Row]()
    async with AsyncExitStack() as stack:
        for count in (1_000, 10_000, 100_000, 1_000_000):
            state = folder / f"records-{count}"
            config = graph(state)
            app = await stack.enter_async_context(application(config))
            asked = chat(app, "cheap", lambda: question(next(numbers)))
            for _ in range(50):
                await asked()
            file, some = await filled(state, count)
            size = f"{count:,}"
            rows.append(Row("records", size, "a request, forced", asked, 100))
            for what, path in (
                ("one decision", f"/v1/decisions/{some}"),
                ("the console's overview", "/console"),
                ("the console's decisions", "/console/decisions"),
                ("those of one tier", "/console/decisions?tier=frontier"),
            ):
                rows.append(Row("records", size, f"{what} ({file.stat().st_size / 2**20:,.0f} MB)"
                                if path == "/console" else what, page(app, path), 5, is_waited_for=True))  # fmt: skip
        return await in_turn(rows, blocks)


async def filled(state: Path, count: int) -> tuple[Path, str]:
    """Copy a graph's few records until there are so many, a month's; the file, and one's id."""
    await asyncio.sleep(3)  # what was asked is written a moment later
    file = next(state.glob("*.db"))
    with sqlite3.connect(file) as store:
        names = [row[1] for row in store.execute("PRAGMA table_info(decisions)")]
        moment = "strftime('%Y-%m-%dT%H:%M:%f', 'now', '-' || abs(random() % 2592000) || ' seconds') || '000+00:00'"
        made = {"id": "lower(hex(randomblob(16)))", "created_at": moment}
        columns = ", ".join(made.get(name, name) for name in names)
        while (held := store.execute("SELECT count(*) FROM decisions").fetchone()[0]) < count:
            store.execute(f"INSERT INTO decisions SELECT {columns} FROM decisions LIMIT {count - held}")
            store.commit()
        some: str = store.execute("SELECT id FROM decisions LIMIT 1 OFFSET 7").fetchone()[0]
    return file, some


async def versions(folder: Path, blocks: int) -> list[Row]:
    """Registries of one to a thousand versions of a model."""
    rows = list[Row]()
    for count in (1, 10, 100, 1_000):
        held = folder / f"versions-{count}"
        held.mkdir(exist_ok=True)
        config = load_config(prepared(held, placements=("ingress",))["ingress"][0])
        uri, model = str(config.tracking_uri), config.policy.model_name
        first = find_version(uri, model, "stable")
        if first is None:
            raise BenchmarkError("the registry names no stable version")
        client = registry_client(uri)
        source = client.get_model_version(model, first.number).source
        for _ in range(count - len(list_versions(uri, model))):
            client.create_model_version(model, source, first.run_id, tags=dict(first.tags))

        async def poll(uri: str = uri, model: str = model) -> None:
            poll_review(uri, model, "stable")

        async def listing(uri: str = uri, model: str = model) -> None:
            list_versions(uri, model)

        rows.append(Row("versions", f"{count:,}", "the poll of the served version", poll, 3))
        rows.append(Row("versions", f"{count:,}", "a list of all versions", listing, 1))
    return await in_turn(rows, blocks)


async def replicas(folder: Path, blocks: int) -> list[Row]:
    """Ingress replicas that share the limits of a hundred keys: what one settles once a second."""
    rows = list[Row]()
    async with AsyncExitStack() as stack:
        for count in (2, 8, 32):
            file = folder / f"leases-{count}.db"
            store = DecisionStore(f"sqlite+aiosqlite:///{file}")
            await store.open()
            stack.push_async_callback(store.close)
            pool = LeaseStore(store)
            totals = [0] * count
            turns = itertools.cycle(range(count))

            async def settle(pool: LeaseStore = pool, totals: list[int] = totals, turns: Any = turns) -> None:
                i = next(turns)
                totals[i] += UNIT
                terms = [LimitTerms(f"key-{n} requests", 10**6 * UNIT, 10**3 * UNIT) for n in range(100)]
                await pool.settle([LeaseAsk(each, f"{i} {each.name}", totals[i], 100 * UNIT) for each in terms])

            for _ in range(count):
                await settle()
            what = "100 limits settled, once a second and replica"
            rows.append(Row("ingress replicas", f"{count}", what, settle, 20, is_waited_for=True))
        return await in_turn(rows, blocks)


PARTS: Mapping[str, Callable[[Path, int], Coroutine[Any, Any, list[Row]]]] = {
    "prompts": prompts, "tiers": tiers, "keys": keys, "records": records, "versions": versions, "replicas": replicas,
}  # fmt: skip


def main() -> None:
    """Measure, and print the page or write it."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--parts", default=",".join(PARTS))
    reads.add_argument("--blocks", type=int, default=5)
    reads.add_argument("--folder", type=Path, help="a folder that is kept, with its versions and stores")
    reads.add_argument("--out", type=Path)
    chosen = reads.parse_args()
    if unknown := set(chosen.parts.split(",")) - set(PARTS):
        reads.error(f"no part {', '.join(sorted(unknown))}")
    rows = list[Row]()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        folder = (chosen.folder or Path(made)).resolve()
        folder.mkdir(exist_ok=True)
        for part in chosen.parts.split(","):
            found = asyncio.run(PARTS[part](folder, chosen.blocks))
            rows += found
            print("\n".join(row.line() for row in found), flush=True)
    text = PAGE.format(
        command=f"python -m benchmarks.capacity.growth --blocks {chosen.blocks}",
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=f"{os.cpu_count()} cores {platform.machine()}, load average {os.getloadavg()[0]:.1f} at its end",
        blocks=chosen.blocks,
        rows="\n".join(row.line() for row in rows),
    )
    if chosen.out is not None:
        chosen.out.write_text(text)


if __name__ == "__main__":
    main()
