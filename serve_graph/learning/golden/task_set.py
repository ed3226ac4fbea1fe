"""Which tasks are asked: drawn by a seed, so that every replica and every start asks the same ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from router_models.data.formats.json_lines import json_object, numbered_lines
from router_models.data.formats.text_files import read_text
from router_models.data.starter import Task, check_task, generate
from router_models.errors import DataError, by_number
from serve_graph.config.learning import GoldenConfig
from serve_graph.learning.kept_tasks import replayed_task
from serve_graph.records.store import DecisionStore

MOST_DRAWN_FROM = 1000
"""Different kept prompts, the newest, that a set is drawn from."""
MOST_READ = 20_000
"""Kept prompts that are read for it at most, however often they repeat themselves."""
LEAST_SHARE = 0.5
"""Of the tasks of a set, the share that must still be there: with fewer another set is drawn."""


class NoTasksError(Exception):
    """There is nothing to ask: `args[0]` says why."""


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Tasks by name. `name`: the set's own; `quotes`: whether answers may quote callers, so that none is stored."""

    name: str
    tasks: Mapping[str, Task]
    quotes: bool = False

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> TaskSet:
        """A set of tasks that are nobody's; its name is that of what is asked, and how it is graded."""
        named = {task.prompt_id: task for task in tasks}
        asked = repr([(name, repr(task.to_json())) for name, task in sorted(named.items())])
        return cls(hashlib.sha256(asked.encode("utf-8", "replace")).hexdigest()[:16], named)


def fixed_set(config: GoldenConfig) -> TaskSet:
    """The set of `starter` or of a file; raises NoTasksError where the file cannot be used."""
    if isinstance(config.tasks, Path):
        return TaskSet.of(_drawn(read_golden_tasks(config.tasks), config))
    return TaskSet.of(generate(config.size, seed=config.seed))


def read_golden_tasks(path: Path) -> list[Task]:
    """Read a file of tasks; raises NoTasksError naming the first line that is none."""
    try:
        lines = list(numbered_lines(read_text(path)))
    except (DataError, OSError) as error:
        raise NoTasksError(f"{path} cannot be read: {error}") from error
    tasks = []
    for number, line in lines:
        try:
            task = Task.from_json(json_object(line))
            check_task(task)
        except (ValueError, TypeError, DataError) as error:
            raise NoTasksError(f"{path}, line {number}: {' '.join(str(error).split())}") from error
        tasks.append(task)
    return tasks


async def draw_kept(store: DecisionStore, config: GoldenConfig) -> list[str]:
    """The decisions whose kept prompts are asked; raises NoTasksError where there are too few."""
    found: dict[str, Task] = {}
    async with aclosing(store.kept_prompts()) as records:
        read = 0
        async for record in records:
            read += 1
            if len(found) >= MOST_DRAWN_FROM or read > MOST_READ:
                break
            if (task := replayed_task(record, Counter())) is not None:
                found.setdefault(task.prompt_id, task)
    if len(found) < config.size:
        raise NoTasksError(
            f"{len(found)} different {by_number(len(found), 'prompt is', 'prompts are')} kept, {config.size} "
            "are needed"
        )
    return [task.id for task in _drawn(list(found.values()), config)]


async def kept_set(store: DecisionStore, decisions: Sequence[str]) -> TaskSet | None:
    """The tasks of decisions as far as they are still kept; None where too few are."""
    found: dict[str, Task] = {}
    for decision in decisions:
        record = await store.get(decision)
        if record is not None and record.prompt and (task := replayed_task(record, Counter())) is not None:
            found[decision] = task
    if len(found) < LEAST_SHARE * len(decisions):
        return None
    name = hashlib.sha256(repr(sorted(decisions)).encode()).hexdigest()[:16]
    return TaskSet(name, found, quotes=True)


def _drawn(tasks: Sequence[Task], config: GoldenConfig) -> list[Task]:
    """As many as are asked, by a hash of seed and prompt: a prompt more or less changes little of the set."""
    different = {task.prompt_id: task for task in tasks}
    if not different:
        raise NoTasksError("there is no task")
    return [different[name] for name in sorted(different, key=lambda name: _place(config.seed, name))[: config.size]]


def _place(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"golden {seed} {name}".encode()).digest()
