"""Prompts → graded outcomes of every tier, through a running endpoint. Resumable: each outcome is kept as it comes.

`ask` asks and `unfinished` keeps: one JSON line per answer in `<out>.partial.jsonl`; a second run skips what is there.
Which engines answer is noted beside that file before the first question, so that no table mixes two. What failed, and
why, is listed in `<out>.failed.jsonl`; one failure never costs the other answers.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import httpx
from openai import AsyncOpenAI

from router_models.data.outcomes import write_outcomes
from router_models.data.starter import Task, grade, sandbox
from router_models.data.starter.task import UNGRADED
from router_models.errors import by_number
from router_models.types import Outcome
from serve_graph.cli.client.api_key import key_headers
from serve_graph.cli.client.ask import api_client, ask
from serve_graph.cli.client.unfinished import (
    Failure,
    claim,
    failures_of,
    keep,
    open_partial,
    read_partial,
    write_failures,
)
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import EngineError, EngineTimeoutError, ServeGraphError
from serve_graph.policy.bindings import binds_digest, forget_collected_binds, tier_binds, write_collected_binds

Advance = Callable[[str, int], None]
TASK_S = 600.0
"""Seconds that a task may take, all tries and pauses together."""
FEWEST_SILENT = 3


@dataclass
class _Run:
    """One run under way: what was answered, and what failed."""

    client: AsyncOpenAI
    log: IO[bytes]
    task_s: float
    concurrency: int
    advance: Advance
    signals: Mapping[str, Sequence[str]]
    outcomes: list[Outcome]
    failures: list[Failure] = field(default_factory=list)

    async def ask_all(self, tier: str, tasks: Sequence[Task]) -> None:
        """Ask a tier all tasks; when as many in a row as run at once got no answer in time, the rest are not asked."""
        gate, silent = asyncio.Semaphore(self.concurrency), 0

        async def one(task: Task) -> None:
            nonlocal silent
            async with gate:
                if silent >= max(self.concurrency, FEWEST_SILENT):
                    self.fail(task, tier, f"not asked: {silent} tasks before it got no answer from {tier} in time")
                    return
                try:
                    async with asyncio.timeout(self.task_s):
                        outcome = await ask(self.client, tier, task, signals=self.signals.get(tier, ()))
                    if outcome.tier != tier:
                        raise EngineError(f"{outcome.tier} answered task {task.id} instead of {tier}")
                except (EngineTimeoutError, TimeoutError) as error:
                    silent += 1
                    self.fail(task, tier, str(error) or f"{tier} gave task {task.id} no answer in {self.task_s:g} s")
                    return
                except EngineError as error:
                    silent = 0
                    self.fail(task, tier, str(error))
                    return
            silent = 0
            keep(self.log, outcome)
            self.outcomes.append(outcome)
            self.advance(tier, 1)

        try:
            async with asyncio.TaskGroup() as group:
                for task in tasks:
                    group.create_task(one(task))
        except* OSError as error:  # a full disk: one sentence, as everywhere
            raise error.exceptions[0] from None

    def fail(self, task: Task, tier: str, reason: str) -> None:
        """Note why a task has no outcome of a tier."""
        self.failures.append(Failure(task.id, task.prompt_id, tier, " ".join(reason.split())))

    def graded(self, task: Task, outcome: Outcome) -> list[Outcome]:
        """Grade an answer, by the grader of today; where that fails, the answer is kept and the failure noted."""
        if task.grader == UNGRADED:
            return [replace(outcome, grade=math.nan)]
        try:
            return [replace(outcome, grade=float(grade(task, outcome.answer)), label_source="programmatic")]
        except Exception as error:  # noqa: BLE001 (one answer's grade; the others are not lost for it)
            self.fail(task, outcome.tier, f"the answer cannot be graded: {error!r:.300}")
            return []


async def collect_outcomes(
    url: str,
    tiers: Sequence[str],
    tasks: Sequence[Task],
    out: Path,
    *,
    binds: Mapping[str, str] | None = None,
    concurrency: int = 16,
    task_s: float = TASK_S,
    advance: Advance = lambda tier, n: None,
    beside: Sequence[Outcome] = (),
    skip_failed: bool = False,
    http_client: Any = None,
    signals: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Outcome]:
    """Run every task through every tier and write the LONG outcomes table to `out`.

    Tiers run one after the other, so that latencies are one engine's own under `concurrency` requests. A task takes
    `task_s` seconds at most, all tries together. Raises EngineError where tasks got no answer or grade, unless
    `skip_failed`: the table is then finished without those rows. Either way they are listed in `failures_of(out)`,
    and the next run asks them alone. `binds` are the engines behind `url` (`bindings.tier_binds`), None when they are
    not known; `claim` says when they are refused. `beside`: outcomes of other tiers that go into the table as well
    (`other_tiers`). `signals`: what is asked for of each answer, by tier. `http_client`: an httpx client that the
    `openai` client sends with, where not its own.
    """
    partial = claim(out, binds)
    if any(task.grader == "program" for task in tasks):
        sandbox.call("def ready():\n    return True", "ready", [[]])  # raises where programs cannot be graded
    outcomes = read_partial(partial)
    done = {(outcome.prompt_id, outcome.tier) for outcome in outcomes}
    async with api_client(url, task_s / 2, http_client) as client:
        with open_partial(partial) as log:
            run = _Run(client, log, task_s, concurrency, advance, signals, outcomes)
            for tier in tiers:
                waiting = [task for task in tasks if (task.prompt_id, tier) not in done]
                advance(tier, len(tasks) - len(waiting))
                await run.ask_all(tier, waiting)
    by_prompt = {task.prompt_id: task for task in tasks}
    wanted = {(o.prompt_id, o.tier): o for o in (*beside, *outcomes) if o.prompt_id in by_prompt}
    rows = [row for outcome in wanted.values() for row in run.graded(by_prompt[outcome.prompt_id], outcome)]
    write_failures(out, run.failures)
    _check_failures(run.failures, out, set(tiers) - {row.tier for row in rows}, skip_failed)
    rows.sort(key=lambda outcome: (outcome.prompt_id, outcome.tier))
    forget_collected_binds(out)
    write_outcomes(out, rows)
    write_collected_binds(out, binds)
    partial.unlink()
    forget_collected_binds(partial)
    return rows


def _check_failures(failures: Sequence[Failure], out: Path, silent: set[str], skip: bool) -> None:
    """Raise EngineError where failures keep the table from being finished."""
    if not failures or (skip and not silent):
        return
    counts = Counter(failure.tier for failure in failures)
    by_tier = ", ".join(f"{tier} {count}" for tier, count in counts.items())
    remedy = (
        f"there is no answer at all of {', '.join(sorted(silent))}"
        if silent
        else "--skip-failed finishes the table without them"
    )
    raise EngineError(
        f"{len(failures)} task(s) got no answer ({by_tier}), see {failures_of(out)}; run again to ask only those; "
        f"{remedy}; first: {failures[0].reason}"
    )


def summary(grades: Sequence[float]) -> str:
    """Say how many outcomes a tier has, and how many of the graded ones are right."""
    graded = [grade for grade in grades if not math.isnan(grade)]
    right = f"{sum(graded) / len(graded):.1%} right" if graded else "not graded"
    beside = f" ({len(grades) - len(graded)} not graded)" if graded and len(graded) < len(grades) else ""
    return f"{len(grades)} {by_number(len(grades), 'outcome')}, {right}{beside}"


def binds_behind(url: str, config: GraphConfig) -> dict[str, str] | None:
    """The configuration's binds when the endpoint reports the same; None when it reports none (not a serve-graph).

    Raise ServeGraphError when it runs other engines than `config` describes, or does not answer.
    """
    try:
        reply = httpx.get(f"{url}/readyz", headers=key_headers(), timeout=30)
        reported = reply.json().get("binds") if reply.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServeGraphError(f"{url} does not answer ({error})") from error
    except (ValueError, AttributeError, RecursionError):
        reported = None
    if reported is None:
        return None
    if reported != binds_digest(config):
        raise ServeGraphError(f"{url} runs other engines than the configuration describes: give --config its own")
    return tier_binds(config)
