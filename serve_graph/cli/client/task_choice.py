"""Which tasks a run of `collect` asks, and under what: everything is read and checked before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from router_models.data.starter import Task, generate, starter_tasks
from router_models.data.starter.task import REQUEST_FIELDS
from router_models.types import Progress
from router_models.types.conditions import SYSTEM_ROLES
from serve_graph.cli.client.asked_under import asked_under, read_decodings, read_system_prompts
from serve_graph.cli.client.replayed import tasks_from_decisions
from serve_graph.cli.client.task_files import read_tasks
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ServeGraphError


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `collect` that say what is asked."""

    tasks: Path | None = None
    from_decisions: bool = False
    decisions: str | None = None
    limit: int = 1000
    starter: int = 3400
    seed: int = 0
    system_prompts: tuple[str, ...] = ()
    decodings: tuple[str, ...] = ()


def tasks_of(asked: Asked, config: GraphConfig, progress: Progress) -> list[Task]:
    """Return the tasks of a run.

    Starter tasks are varied by themselves, unless system prompts or decodings are given. Raises ServeGraphError for
    options that contradict each other, and for whatever cannot be read.
    """
    if asked.tasks and asked.from_decisions:
        raise ServeGraphError("--tasks and --from-decisions are two sources of tasks: give one")
    if asked.decisions and not asked.from_decisions:
        raise ServeGraphError("--decisions says which store --from-decisions reads: give both")
    prompts, decodings = read_system_prompts(asked.system_prompts), read_decodings(asked.decodings)
    if asked.from_decisions:
        tasks = tasks_from_decisions(config, asked.decisions, asked.limit, progress)
    elif asked.tasks:
        tasks = read_tasks(asked.tasks)
    elif prompts or decodings:
        tasks = generate(asked.starter, seed=asked.seed)
    else:
        return starter_tasks(asked.starter, seed=asked.seed)
    if prompts and (own := sum(any(one["role"] in SYSTEM_ROLES for one in task.chat) for task in tasks)):
        progress(f"{own} task(s) keep the system prompt of their own")
    if decodings and (own := sum(not set(task.parameters) <= set(REQUEST_FIELDS) for task in tasks)):
        progress(f"{own} task(s) keep the decoding of their own")
    return asked_under(tasks, prompts, decodings)
