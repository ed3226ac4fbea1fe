"""`serve-graph demo`: held-out questions through the running graph, compared with always using one tier.

The same questions are sent to `auto` and, forced, to every tier. They come from the starter generator with another
seed, never from the prompts that the shipped version was made from.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import numpy as np

from router_models.data.starter import SHIPPED_SEED, SHIPPED_TASKS, Task, generate, grade, starter_tasks
from router_models.data.starter.task import task_id
from router_models.errors import by_number
from router_models.reports.plots import wilson
from router_models.types import Outcome, Progress
from serve_graph.cli.client.api_key import key_headers
from serve_graph.cli.client.ask import api_client, ask
from serve_graph.cli.client.readiness import KEEPS_TO_ITSELF, read_readiness
from serve_graph.config.graph import GraphConfig

HELD_OUT_SEED = 20_001


def run_demo(url: str, config: GraphConfig, questions: int, concurrency: int, progress: Progress) -> dict[str, Any]:
    """Send, grade and summarise; returns the table's figures. Latencies are client-side, at `concurrency` requests."""
    tasks = held_out(questions)
    before = counters(url)
    answers = {model: asyncio.run(ask_all(url, model, tasks, concurrency)) for model in ("auto",)}
    after = counters(url)
    for tier in config.tier_names:
        progress(f"the same questions, all to {tier}")
        answers[tier] = asyncio.run(ask_all(url, tier, tasks, concurrency))
    state = read_readiness(url, timeout_s=30.0)
    auto = answers["auto"]
    shares = Counter((o.tier, o.metadata["outcome"]) for o in auto)
    return {
        "questions": questions,
        "concurrency": concurrency,
        "version": state.get("version", KEEPS_TO_ITSELF),
        "promise": state.get("promise", KEEPS_TO_ITSELF),
        "outcomes": [{"tier": t, "outcome": o, "n": n} for (t, o), n in sorted(shares.items())],
        "by_tier": [_row(t, tasks, [o if o.tier == t else None for o in auto], None) for t in config.tier_names],
        "overall": [
            _row("auto", tasks, list(auto), _bills(auto)),
            *(_row(f"always {t}", tasks, list(answers[t]), _bills(answers[t])) for t in config.tier_names),
        ],
        "speculation": speculation(before, after),
    }


def held_out(n: int) -> list[Task]:
    """Return starter tasks in the generator's usual mix, none of them in the shipped outcomes."""
    asked = [one for task in starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED) for one in task.chat]
    used = {task_id(one["content"]) for one in asked if one["role"] == "user"}
    return generate(n, seed=HELD_OUT_SEED, exclude=used)


async def ask_all(url: str, model: str, tasks: list[Task], concurrency: int) -> list[Outcome]:
    """Send every task to one model, at most `concurrency` at a time; outcomes in the order of the tasks."""
    gate = asyncio.Semaphore(concurrency)
    async with api_client(url) as client:

        async def one(task: Task) -> Outcome:
            async with gate:
                return await ask(client, model, task, with_bill=True)

        return list(await asyncio.gather(*(one(task) for task in tasks)))


def counters(url: str) -> dict[str, float]:
    """Return the endpoint's metrics as name{labels} → value."""
    lines = httpx.get(f"{url}/metrics", timeout=30, headers=key_headers()).text.splitlines()
    return {k: float(v) for k, _, v in (line.rpartition(" ") for line in lines if line and not line.startswith("#"))}


def speculation(before: dict[str, float], after: dict[str, float]) -> dict[str, float | None]:
    """Return draft tokens, accepted tokens and their ratio per tier, between two readings."""
    found: dict[str, float | None] = {}
    for name in after:
        if "spec_decode_num_draft_tokens_total" in name:
            accepted_name = name.replace("draft_tokens", "accepted_tokens")
            drafted = after[name] - before.get(name, 0.0)
            accepted = after.get(accepted_name, 0.0) - before.get(accepted_name, 0.0)
            tier = name.split('tier="')[1].split('"')[0]
            found |= {f"{tier} drafted": drafted, f"{tier} accepted": accepted}
            found[f"{tier} acceptance"] = accepted / drafted if drafted else None
    return found


def _bills(outcomes: list[Outcome]) -> list[float]:
    """Return the full cost of each request: failed attempts, routing and verification included."""
    return [float(o.metadata["cost_usd"]) for o in outcomes]


def _row(name: str, tasks: list[Task], outcomes: list[Outcome | None], costs: list[float] | None) -> dict[str, Any]:
    pairs = [(t, o) for t, o in zip(tasks, outcomes, strict=True) if o is not None]
    row: dict[str, Any] = {"policy": name, "n": len(pairs), "share": len(pairs) / len(tasks)}
    if not pairs:
        return row
    right = sum(grade(t, o.answer) for t, o in pairs if o.metadata.get("outcome") != "abstained")
    latencies = [o.latency_s for _, o in pairs]
    low, high = wilson(float(right), len(pairs), z=1.96)
    row |= {"right": right / len(pairs), "right_low": low, "right_high": high}
    row |= {"p50_s": float(np.quantile(latencies, 0.5)), "p95_s": float(np.quantile(latencies, 0.95))}
    return row | ({"usd": sum(costs)} if costs is not None else {})


def render_demo(result: dict[str, Any]) -> str:
    """Format the figures as Markdown."""
    top = result["overall"][-1]["usd"]
    lines = [
        f"{result['questions']} held-out {by_number(result['questions'], 'question')}, "
        f"{result['concurrency']} at a time, "
        f"{time.strftime('%Y-%m-%d')}. Version {result['version']}: {result['promise']}",
        "",
        "| policy | right (95 % interval) | cost, $ per 1000 questions | of always-frontier | p50 / p95 s |",
        "|---|---|---|---|---|",
    ]
    for row in result["overall"]:
        usd = 1000 * row["usd"] / row["n"]
        lines.append(f"| {row['policy']} | {_right(row)} | {usd:.5f} | {row['usd'] / top:.0%} | {_latency(row)} |")
    lines += ["", "| answered by | share | right (95 % interval) | p50 / p95 s |", "|---|---|---|---|"]
    for row in result["by_tier"]:
        lines.append(f"| {row['policy']} | {row['share']:.0%} | {_right(row)} | {_latency(row)} |")
    outcomes = ", ".join(f"{o['outcome']} by {o['tier']}: {o['n']}" for o in result["outcomes"])
    lines += ["", f"Outcomes: {outcomes}."]
    drafts = ", ".join(
        f"{k} {v:.2g}" if isinstance(v, float) and v < 1 else f"{k} {v:.0f}" if v is not None else f"{k} none"
        for k, v in result["speculation"].items()
    )
    return "\n".join([*lines, f"Speculation: {drafts or 'off'}."])


def _right(row: dict[str, Any]) -> str:
    return f"{row['right']:.0%} ({row['right_low']:.0%} to {row['right_high']:.0%})" if "right" in row else "none"


def _latency(row: dict[str, Any]) -> str:
    return f"{row['p50_s']:.2f} / {row['p95_s']:.2f}" if "p50_s" in row else "none"
