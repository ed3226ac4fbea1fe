"""Prompts → graded outcomes of every tier, through a running endpoint. Resumable: each outcome is kept as it comes.

A client like any other: it forces each tier by name, asks for logprobs, grades the answer with the task's own
grader, and appends one JSON line per outcome to `<out>.partial.jsonl`. A second run skips what is there. Which engines
answer is noted beside that file before the first question, so that no table mixes two.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
from openai import APIError, APIStatusError, AsyncOpenAI

from router_models.data.formats.token_columns import TOKEN_COLUMNS
from router_models.data.outcomes import frame_to_outcomes, prompt_id, write_outcomes
from router_models.data.prefixes import kept_logprobs
from router_models.data.starter import Task, grade, sandbox
from router_models.types import Outcome, Usage
from router_models.types.exchange import logprob_summary
from serve_graph.cli.client.api_key import api_key, key_headers
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import EngineError, ServeGraphError
from serve_graph.policy.bindings import (
    binds_digest,
    collected_binds,
    forget_collected_binds,
    tier_binds,
    write_collected_binds,
)
from serve_graph.protocol.responses import MALFORMED, completion_of, token_texts

Advance = Callable[[str, int], None]
RETRIES = 3


def read_tasks(path: Path) -> list[Task]:
    """Tasks from JSON lines (`prompt`, `grader`, `reference`, …; see `starter.Task`); raises on the first bad line."""
    tasks = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ServeGraphError(f"{path}: cannot be read as JSON lines ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            tasks.append(Task.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServeGraphError(
                f"{path}:{number}: not a task ({error}); see `serve-graph collect --help`"
            ) from error
    if not tasks:
        raise ServeGraphError(f"{path} holds no task")
    return tasks


async def collect_outcomes(
    url: str,
    tiers: Sequence[str],
    tasks: Sequence[Task],
    out: Path,
    *,
    binds: Mapping[str, str] | None = None,
    concurrency: int = 16,
    timeout_s: float = 600.0,
    advance: Advance = lambda tier, n: None,
    beside: Sequence[Outcome] = (),
    http_client: Any = None,
) -> list[Outcome]:
    """Run every task through every tier and write the LONG outcomes table to `out`.

    Tiers run one after the other, so that latencies are one engine's own under `concurrency` requests. Raises
    EngineError when a tier keeps failing; what was collected until then is kept for the next run. `binds` are the
    engines behind `url` (`bindings.tier_binds`), None when they are not known; `claim` says when they are refused.
    `beside`: outcomes of other tiers that go into the table as well (`other_tiers`). `http_client`: an httpx client
    that the `openai` client sends with, where not its own.
    """
    partial = claim(out, binds)
    if any(task.grader == "program" for task in tasks):
        sandbox.call("def ready():\n    return True", "ready", [[]])  # raises where programs cannot be graded
    outcomes = _read_partial(partial)
    failed: list[str] = []
    done = {(outcome.prompt_id, outcome.tier) for outcome in outcomes}
    partial.parent.mkdir(parents=True, exist_ok=True)
    async with api_client(url, timeout_s, http_client) as client:
        with partial.open("a") as log:
            for tier in tiers:
                waiting = [task for task in tasks if (prompt_id(task.prompt), tier) not in done]
                advance(tier, len(tasks) - len(waiting))
                gate = asyncio.Semaphore(concurrency)

                async def one(task: Task, tier: str = tier, gate: asyncio.Semaphore = gate) -> None:
                    async with gate:
                        try:
                            outcome = await ask(client, tier, task)
                        except EngineError as error:
                            failed.append(str(error))
                            return
                    outcome = await asyncio.to_thread(_graded, task, outcome)
                    log.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
                    log.flush()
                    outcomes.append(outcome)
                    advance(tier, 1)

                async with asyncio.TaskGroup() as group:
                    for task in waiting:
                        group.create_task(one(task))
    if failed:
        raise EngineError(f"{len(failed)} task(s) got no answer (run again to ask only those); first: {failed[0]}")
    by_prompt = {prompt_id(task.prompt): task for task in tasks}
    wanted = [outcome for outcome in (*outcomes, *beside) if outcome.prompt_id in by_prompt]
    outcomes = [_graded(by_prompt[outcome.prompt_id], outcome) for outcome in wanted]  # a mended grader counts at once
    outcomes.sort(key=lambda outcome: (outcome.prompt_id, outcome.tier))
    forget_collected_binds(out)
    write_outcomes(out, outcomes)
    write_collected_binds(out, binds)
    partial.unlink()
    forget_collected_binds(partial)
    return outcomes


def partial_of(out: Path) -> Path:
    """Where the outcomes of an unfinished run are kept."""
    return out.with_name(out.name + ".partial.jsonl")


def claim(out: Path, binds: Mapping[str, str] | None) -> Path:
    """Return the partial file for these engines, noting them where there is none yet.

    Raise ServeGraphError when it holds the answers of other engines: an outcomes table is of one set of engines.
    """
    partial = partial_of(out)
    noted = collected_binds(partial)
    if partial.exists() and noted != binds:
        known = {*(noted or {}), *(binds or {})}
        changed = sorted(key for key in known if (noted or {}).get(key) != (binds or {}).get(key))
        raise ServeGraphError(
            f"{partial} was begun with other engines: {', '.join(changed)} differ. Go back to that configuration to "
            f"finish it, or remove {partial} to begin again"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_collected_binds(partial, binds)
    partial.touch()
    return partial


def other_tiers(out: Path, tiers: Sequence[str], binds: Mapping[str, str] | None) -> list[Outcome]:
    """The rows of a finished table that asking only `tiers` again leaves in it; none where there is no table yet.

    Raise ServeGraphError when they are of other engines than those that are asked now.
    """
    if not out.exists():
        return []
    others = [row for row in frame_to_outcomes(pd.read_parquet(out)) if row.tier not in tiers]
    if others and collected_binds(out) != binds:
        raise ServeGraphError(
            f"{out} is of other engines than these: its other tiers cannot stay; choose another --out"
        )
    return others


def refuse_finished(out: Path) -> None:
    """Raise ServeGraphError when `out` is a finished table and no run of it is under way."""
    if out.exists() and not partial_of(out).exists():
        raise ServeGraphError(f"{out} is complete; --overwrite asks everything again and replaces it")


def binds_behind(url: str, config: GraphConfig) -> dict[str, str] | None:
    """The configuration's binds when the endpoint reports the same; None when it reports none (not a serve-graph).

    Raise ServeGraphError when it runs other engines than `config` describes, or does not answer.
    """
    try:
        reply = httpx.get(f"{url}/readyz", headers=key_headers(), timeout=30)
        reported = reply.json().get("binds") if reply.is_success else None
    except httpx.HTTPError as error:
        raise ServeGraphError(f"{url} does not answer ({error})") from error
    except (ValueError, AttributeError):
        reported = None
    if reported is None:
        return None
    if reported != binds_digest(config):
        raise ServeGraphError(f"{url} runs other engines than the configuration describes: give --config its own")
    return tier_binds(config)


def api_client(url: str, timeout_s: float = 600.0, http_client: Any = None) -> AsyncOpenAI:
    """The `openai` client for the endpoint at `url`, with the key of $SERVE_GRAPH_KEY.

    Its retries are the policy: 408, 409, 429, 5xx, time-outs and broken connections are tried `RETRIES` times more,
    after growing pauses or as long as `Retry-After` says; one of over two minutes (a spent budget) is not waited out.
    """
    return AsyncOpenAI(
        api_key=api_key() or "none",
        base_url=f"{url}/v1",
        timeout=timeout_s,
        max_retries=RETRIES,
        http_client=http_client,
    )


async def ask(client: AsyncOpenAI, model: str, task: Task, *, with_bill: bool = False) -> Outcome:
    """One task through one tier (or `auto`), ungraded; its latency is the answering try's alone.

    `with_bill` puts the endpoint's own `outcome` and `cost_usd` among the metadata. Raises EngineError where there is
    no answer after the client's retries.
    """
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": task.prompt}],
            max_tokens=task.max_tokens,
            logprobs=True,
        )
        data: dict[str, Any] = json.loads(raw.content)
        completion = completion_of(data, raw.elapsed.total_seconds())
    except APIStatusError as error:
        said = error.response.text[:300]
        raise EngineError(f"{model} answered {error.status_code} to task {task.id}: {said}") from error
    except (APIError, *MALFORMED) as error:
        raise EngineError(f"{model} gave task {task.id} no answer: {error!r}") from error
    facts = data.get("serve_graph") or {}
    metadata = {"family": task.family, "difficulty": str(task.difficulty), "language": task.language}
    if with_bill:
        metadata |= {"outcome": str(facts.get("outcome")), "cost_usd": str(facts.get("cost_usd") or "nan")}
    return Outcome(
        prompt_id=prompt_id(task.prompt),
        prompt=task.prompt,
        tier=str(facts.get("tier", model)),
        answer=completion.text,
        grade=0.0,
        usage=completion.usage,
        latency_s=completion.latency_s,
        finish_reason=completion.finish_reason,
        logprobs=logprob_summary(completion.token_logprobs),
        metadata=metadata,
        token_texts=token_texts(completion.payload),
        token_logprobs=kept_logprobs(completion.token_logprobs),
    )


def _graded(task: Task, outcome: Outcome) -> Outcome:
    data = {name: getattr(outcome, name) for name in Outcome.__slots__}
    return Outcome(**data | {"grade": float(grade(task, outcome.answer))})


def _read_partial(path: Path) -> list[Outcome]:
    if not path.exists():
        return []
    outcomes = []
    for line in path.read_text().split("\n"):  # not splitlines: JSON leaves U+2028 and its like inside a line
        try:
            data = json.loads(line)
            tokens = {name: tuple(data.get(name, ())) for name in TOKEN_COLUMNS}
            outcomes.append(Outcome(**data | tokens | {"usage": Usage(**data["usage"])}))
        except (ValueError, TypeError, KeyError):
            continue  # a line cut short when the run was killed: that task is asked again
    return outcomes
