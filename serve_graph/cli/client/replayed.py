"""`collect --from-decisions`: the kept prompts of decision records as tasks, with what they were asked under."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from pathlib import Path

from router_models.data.starter import Task
from router_models.types import Progress
from serve_graph.config.graph import GraphConfig
from serve_graph.config.records import RecordsConfig
from serve_graph.errors import ServeGraphError
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.learning.kept_tasks import replayed_task
from serve_graph.records.store import DecisionStore

HOW_TO_KEEP = (
    "set `records: {keep_prompts: true}` in the configuration and serve some traffic to `auto` first "
    "(docs/guides/outcomes.md)"
)


def tasks_from_decisions(config: GraphConfig, database: str | None, most: int, progress: Progress) -> list[Task]:
    """Return the newest `most` different requests that decision records hold; a known task's with its grader.

    `database` is a file of SQLite or a URL; None: the configuration's. Requests that named a tier are left out:
    those of `collect` itself did. Raises ServeGraphError where there is none.
    """
    programs = TaskGraders.read(config.graders.tasks)
    url = store_url(config, database)
    try:
        tasks, said = asyncio.run(_read(url, most))
    except OSError as error:
        raise ServeGraphError(f"the decision store cannot be reached: {error}") from error
    for reason, n in said.items():
        progress(f"{n} kept prompt(s): {reason}")
    if not tasks:
        raise ServeGraphError(f"{url} holds no prompt to ask again: {HOW_TO_KEEP}")
    return tasks if programs is None else [programs.graded(task) for task in tasks]


def store_url(config: GraphConfig, database: str | None) -> str:
    """Return the URL of a decision store: a file of SQLite, a URL, or None for the configuration's.

    Raises ServeGraphError where that is a file that is not there.
    """
    if database is not None and "://" in database:
        return RecordsConfig(url=database).url or database
    url = config.records_url if database is None else f"sqlite+aiosqlite:///{Path(database).resolve()}"
    scheme, _, path = url.partition(":///")
    if scheme.startswith("sqlite") and not Path(path).is_file():
        raise ServeGraphError(f"there are no decision records in {path}: {HOW_TO_KEEP}")
    return url


async def _read(url: str, most: int) -> tuple[list[Task], Counter[str]]:
    found: dict[str, Task] = {}
    said: Counter[str] = Counter()
    store = DecisionStore(url)
    try:
        async with aclosing(store.kept_prompts()) as records:
            async for record in records:
                if len(found) >= most:
                    break
                task = replayed_task(record, said)
                if task is not None:
                    found.setdefault(task.prompt_id, task)
    finally:
        await store.close()
    return list(found.values()), said
