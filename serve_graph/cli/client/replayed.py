"""`collect --from-decisions`: the kept prompts of decision records as tasks, with what they were asked under."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from router_models.data.starter import Task
from router_models.data.starter.task import UNGRADED
from router_models.types import DecisionRecord, Progress
from router_models.types.chat_prompts import chat_of, routed_text
from serve_graph.config.graph import GraphConfig
from serve_graph.config.records import RecordsConfig
from serve_graph.errors import ServeGraphError
from serve_graph.records.store import DecisionStore

HOW_TO_KEEP = (
    "set `records: {keep_prompts: true}` in the configuration and serve some traffic to `auto` first "
    "(docs/guides/outcomes.md)"
)

LABELS = ("domain", "category", "task", "family", "qset")
"""Metadata that says what a request is about: the first that is there becomes the row's `family`."""


def tasks_from_decisions(config: GraphConfig, database: str | None, most: int, progress: Progress) -> list[Task]:
    """Return the newest `most` different requests that decision records hold, ungraded.

    `database` is a file of SQLite or a URL; None: the configuration's. Requests that named a tier are left out:
    those of `collect` itself did. Raises ServeGraphError where there is none.
    """
    url = _url(config, database)
    try:
        tasks, said = asyncio.run(_read(url, most))
    except OSError as error:
        raise ServeGraphError(f"the decision store cannot be reached: {error}") from error
    for reason, n in said.items():
        progress(f"{n} kept prompt(s): {reason}")
    if not tasks:
        raise ServeGraphError(f"{url} holds no prompt to ask again: {HOW_TO_KEEP}")
    return tasks


def _url(config: GraphConfig, database: str | None) -> str:
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


def replayed_task(record: DecisionRecord, said: Counter[str]) -> Task | None:
    """The request of a record; None, and why, where it cannot be asked again."""
    asked: Mapping[str, Any] = record.evidence.get("asked") or {}
    if why := asked.get("not_kept"):
        said[f"left out, as the request was not kept whole ({why})"] += 1
        return None
    if not asked:
        said["of an earlier release, asked as one message without their conditions"] += 1
    parameters = dict(asked.get("parameters") or {})
    limit = parameters.pop("max_tokens", None)
    try:
        messages = chat_of(asked.get("messages") or [{"role": "user", "content": record.prompt or ""}]) or []
    except ValueError as error:
        said[f"left out ({error})"] += 1
        return None
    alone = len(messages) == 1 and messages[0] == {"role": "user", "content": routed_text(messages)}
    return Task(
        id=record.id,
        prompt=routed_text(messages),
        family=next((record.metadata[name] for name in LABELS if record.metadata.get(name)), ""),
        difficulty=0,
        language=record.metadata.get("language", ""),
        grader=UNGRADED,
        reference={},
        solution="",
        max_tokens=limit if isinstance(limit, int) else None,
        messages=() if alone else tuple(messages),
        parameters=parameters,
    )
