"""What the simulator and `plan --capacity` say of a graph, beside what the graph then does.

    python -m benchmarks.capacity --folder DIR [--parts replicas,version] [--out docs/results/serving/capacity.md]

Echo engines take a second or two an answer, so that what a request costs beside them is small. *replicas*: fixed
replicas, nearly full, two in five requests escalated, each with times of its own; the simulator gets the same arrivals
and times. *version*: a certified version; what each tier has at once was said before, from other prompts. A part
whose figures the folder holds is not measured again. Beside them the measured page on scaling, simulated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pandas as pd
import yaml

from benchmarks.capacity.page import drawn, page_of
from benchmarks.graphs import SERVE_GRAPH, BenchmarkError, serve_graph, started
from benchmarks.overhead import outcomes, question
from benchmarks.scaling import SHAPE, arrivals
from router_models.versions.registry import find_version
from serve_graph.cli.local.launch import free_port
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.policy.bindings import tier_binds, write_collected_binds

REPLICAS, PLACES = 2, 4
PER_S, SECONDS = 6.6, 110.0
VERSION_PER_S, VERSION_S = 6.0, 480.0
HELD = 4_000
"""Recorded prompts that a plan is made from: with fewer, chance alone would be a tenth."""
LATENCY_S = {"cheap": 1.0, "frontier": 2.0}
HARD, UNSURE = 0.2, " [cheap:unsure]"
FIXED = {"min_replicas": REPLICAS, "max_replicas": REPLICAS, "max_ongoing_requests": PLACES}


def graph_of(folder: Path, tiers: dict[str, dict[str, Any]], **more: Any) -> tuple[Path, str]:
    """An echo graph's configuration and its address."""
    folder.mkdir(parents=True, exist_ok=True)
    port, path = free_port(), folder / "graph.yaml"
    data = {
        "logical_cpus": 24,
        "tiers": [
            {"name": name, "engine": "echo", "scaling": FIXED, "admission": {"max_queued": 500}} | tier
            for name, tier in tiers.items()
        ],
        "http": {"port": port},
        "state_folder": str(folder),
        "policy": {"version": "builtin", "safe_tier": "frontier"},
    }
    path.write_text(yaml.safe_dump(data | more))
    return path, f"http://127.0.0.1:{port}"


def price(usd: float) -> dict[str, float]:
    return {"input_usd_per_mtok": usd, "output_usd_per_mtok": 2 * usd}


async def send(url: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send each request when it is due, whoever still waits; adds when it was sent, what it took, and who answered."""
    began = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(one: dict[str, Any]) -> None:
            body = {"model": "auto", "messages": [{"role": "user", "content": one["text"]}]}
            sent = time.monotonic()
            shape = {"response_format": SHAPE} if one.get("sent_on") else {}
            async with session.post(f"{url}/v1/chat/completions", json=body | shape) as reply:
                await reply.read()
            one["sent_s"], one["took_s"] = sent - began, time.monotonic() - sent
            one["status"], one["tier"] = reply.status, reply.headers.get("x-serve-graph-tier")

        pending = []
        for one in asked:
            await asyncio.sleep(max(0.0, began + one["due_s"] - time.monotonic()))
            pending.append(asyncio.create_task(ask(one)))
        await asyncio.gather(*pending)
    if failed := [one["status"] for one in asked if one["status"] != 200]:
        raise BenchmarkError(f"{len(failed)} of {len(asked)} requests failed, the first with {failed[0]}")
    return sorted(asked, key=lambda one: float(one["sent_s"]))


def requests_of(times: list[tuple[float, bool]], rng: Random) -> list[dict[str, Any]]:
    """Requests whose prompts tell both tiers how long to take: log-normal, half as wide as they are long."""
    found = []
    for i, (due_s, sent_on) in enumerate(times):
        cheap_s, frontier_s = (round(mean * rng.lognormvariate(-0.1116, 0.4724), 3) for mean in LATENCY_S.values())
        text = f"question {i} [cheap:slow={cheap_s}] [frontier:slow={frontier_s}]"
        found.append({"due_s": due_s, "text": text, "sent_on": sent_on, "cheap_s": cheap_s, "frontier_s": frontier_s})
    return found


def replicas(folder: Path) -> dict[str, Any]:
    """Fixed replicas, nearly full."""
    path, url = graph_of(folder / "replicas", {name: {"price": price(0.01)} for name in LATENCY_S})
    asked = requests_of(arrivals(lambda _: PER_S, SECONDS, Random(21)), Random(22))
    with started([SERVE_GRAPH, "up", "--config", str(path)], url, folder / "replicas.log"):
        asyncio.run(send(url, requests_of([(0.3 * i, i % 3 == 0) for i in range(30)], Random(1))))
        return {"requests": asyncio.run(send(url, asked)), "replicas": REPLICAS, "places": PLACES}


def questions(n: int, first: int, rng: Random) -> list[str]:
    """Questions as the version was certified on, one in five of them hard, in any order; none of those."""
    hard = [i < HARD * n for i in range(n)]
    rng.shuffle(hard)
    return [
        f"Prove in full that theorem {1300 + first + i} of the list holds.{UNSURE}" if is_hard else question(first + i)
        for i, is_hard in enumerate(hard)
    ]


def recorded(table: Path, config: GraphConfig, rows: int = 1200, first: int = 0) -> None:
    """Outcomes of questions, with the seconds that the engines take."""
    outcomes(table, rows, first, hard_ends=UNSURE)
    frame = pd.read_parquet(table)
    frame["latency_s"] = frame["tier"].map(LATENCY_S)
    frame.to_parquet(table)
    write_collected_binds(table, tier_binds(config))


def prepared(folder: Path) -> tuple[Path, str]:
    """A graph that serves a version which the commands trained, certified and approved; and their outcomes."""
    path, url = graph_of(
        folder / "version",
        {
            name: {"price": price(usd), "latency_s": LATENCY_S[name]}
            for name, usd in (("cheap", 0.01), ("frontier", 0.11))
        },
        policy={"version": "stable", "safe_tier": "frontier", "epsilon": 0.1, "placement": "ingress"},
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
    )
    table = folder / "outcomes.parquet"
    model, uri = load_config(path).policy.model_name, f"sqlite:///{folder}/mlflow.db"
    if find_version(uri, model, "stable") is None:
        recorded(table, load_config(path))
        given = ("--config", str(path), "--outcomes", str(table), "--candidate", str(folder / "candidate"))
        shutil.rmtree(folder / "candidate", ignore_errors=True)
        serve_graph("train", *given[:4], "--out", given[5], "--router", "linear", "--verifier", "combined")
        said = json.loads(serve_graph("certify", *given, "--json", "--alias", "stable"))
        number = str(said["version"]).rpartition("/")[2]
        for word in ("approve", "promote"):
            serve_graph("versions", word, number, "--reason", "a benchmark", "--config", str(path))
    return path, url


def plan_of(folder: Path, path: Path) -> dict[str, Any]:
    """What `plan --capacity --version` says that each tier has at once, from outcomes of other prompts."""
    held = folder / "held.parquet"
    recorded(held, load_config(path), HELD, first=1200)
    found = find_version(f"sqlite:///{folder}/mlflow.db", load_config(path).policy.model_name, "stable")
    if found is None:
        raise BenchmarkError("the version is not in its registry")
    said = serve_graph(
        "plan", "--outcomes", str(held), "--weak", "cheap", "--strong", "frontier", "--volume", "100000",
        "--price-weak", "0.01,0.02", "--price-strong", "0.11,0.22", "--capacity", str(VERSION_PER_S),
        "--config", str(path), "--version", str(found.folder(folder / "copies")), "--json",
    )  # fmt: skip
    return {
        tier["tier"]: tier["at_once"] | {"calls": tier["calls"]} for tier in json.loads(said)["loads"][-1]["tiers"]
    }


def version(folder: Path) -> dict[str, Any]:
    """A certified version's traffic, and what the tiers had at once by its records."""
    path, url = prepared(folder)
    said = plan_of(folder, path)
    times = arrivals(lambda _: VERSION_PER_S, VERSION_S, Random(31))
    texts = questions(len(times), 5_300, Random(32))
    asked = [{"due_s": due_s, "text": text} for (due_s, _), text in zip(times, texts, strict=True)]
    with started([SERVE_GRAPH, "up", "--config", str(path)], url, folder / "version.log"):
        asyncio.run(
            send(url, [{"due_s": 0.5 * i, "text": text} for i, text in enumerate(questions(20, 5_220, Random(3)))])
        )
        since = datetime.now(UTC).isoformat()
        asyncio.run(send(url, asked))
        time.sleep(3)  # records are written beside requests
        calls = [call for one in read_calls(Path(load_config(path).state_folder), since) for call in one]
    span = times[-1][0] - times[0][0]
    live = {
        tier: {
            "calls": sum(call["tier"] == tier for call in calls) / len(asked),
            "at_once": sum(call["latency_s"] for call in calls if call["tier"] == tier) / span,
        }
        for tier in LATENCY_S
    }
    return {"held": HELD, "requests": len(asked), "span_s": span, "said": said, "live": live}


def read_calls(state: Path, since: str) -> list[list[dict[str, Any]]]:
    """The calls of each record since a moment, from the store."""
    (store,) = state.glob("*.db")
    with sqlite3.connect(store) as connection:
        rows = connection.execute("select calls from decisions where created_at >= ?", (since,)).fetchall()
    return [json.loads(calls) for (calls,) in rows]


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {"replicas": replicas, "version": version}


def measured(folder: Path, part: str) -> dict[str, Any]:
    """A part's figures, from the folder where it holds them."""
    kept = folder / f"{part}.json"
    if not kept.exists():
        before = os.getloadavg()[0]
        found = PARTS[part](folder)
        found["day"] = f"{datetime.now(UTC):%Y-%m-%d}"
        found["machine"] = (
            f"{os.cpu_count()} cores {platform.machine()}, load average {before:.1f} to {os.getloadavg()[0]:.1f}"
        )
        kept.write_text(json.dumps(found))
    return dict(json.loads(kept.read_text()))


def main() -> None:
    """Measure what is not measured yet, and print the page, or write it with its picture beside it."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--folder", type=Path, required=True, help="where figures are kept")
    reads.add_argument("--parts", default=",".join(PARTS))
    reads.add_argument("--out", type=Path)
    chosen = reads.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    folder = chosen.folder.resolve()
    found = {part: measured(folder, part) for part in chosen.parts.split(",")}
    page = page_of(found)
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page)
        drawn(found, chosen.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
