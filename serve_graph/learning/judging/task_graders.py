"""Grade served answers by program, where a file of tasks holds what is asked and what is expected of the answer.

A request is a task's where its turns are the task's to the word, but for case, white space and Unicode form, and it
declares the same tools and format; under whichever system prompt and sampling settings. What a caller says of a
request (metadata) matches nothing: else callers would choose by what they are graded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from router_models.data.splits import prompt_id
from router_models.data.starter import Task, grade
from router_models.data.starter.task import REQUEST_FIELDS, UNGRADED
from router_models.types import Completion, Query
from router_models.types.chat_prompts import TEXT_PARTS, plain_text
from router_models.types.conditions import SYSTEM_ROLES
from serve_graph.errors import ConfigError
from serve_graph.learning.golden.task_set import NoTasksError, read_golden_tasks

PROGRAM = "programmatic"
"""The source of their grades, as labels name sources."""


@dataclass(frozen=True, slots=True)
class TaskGraders:
    """The tasks that answers can be graded by, by what is asked."""

    tasks: Mapping[str, Task]

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> TaskGraders:
        """Take the tasks that have a grader; ValueError names two that ask the same and expect something else."""
        found: dict[str, Task] = {}
        for task in tasks:
            if task.grader == UNGRADED:
                continue
            same = found.setdefault(_asked(task.chat, task.parameters), task)
            if (same.grader, dict(same.reference)) != (task.grader, dict(task.reference)):
                raise ValueError(f"tasks {same.id!r} and {task.id!r} ask the same and expect something else")
        return cls(found)

    @classmethod
    def read(cls, paths: Sequence[Path]) -> TaskGraders | None:
        """Read files of tasks; None without any. Raises ConfigError naming the file and line that is unusable."""
        if not paths:
            return None
        try:
            return cls.of(task for path in paths for task in read_golden_tasks(path))
        except (NoTasksError, ValueError) as error:
            raise ConfigError(f"graders.tasks: {error}") from error

    def task_for(self, query: Query) -> Task | None:
        """The task that a request asks; None where it asks none of them."""
        sent = query.parameters.get("messages")
        turns = [{"role": one.role, "content": one.content} for one in query.messages] if sent is None else sent
        if not all(_is_text(turn.get("content")) for turn in turns):
            return None  # a picture beside the words of a task is another question
        return self.tasks.get(_asked(turns, query.parameters))

    def graded(self, task: Task) -> Task:
        """A task as it is, with the grader of the known task that asks the same, where there is one."""
        known = self.task_for(task.query)
        if known is None:
            return task
        return replace(task, grader=known.grader, reference=known.reference, solution=known.solution)

    async def is_right(self, task: Task, answer: Completion) -> bool:
        """Whether an answer to a task is right, off the event loop; raises whatever the grader does."""
        return await asyncio.to_thread(grade, task, answer.text)


def graded_by(task: Task) -> dict[str, str]:
    """Return what a row or a label says of the program that graded it."""
    return {"task": task.id, "task_grader": task.grader}


def _is_text(content: Any) -> bool:
    if content is None or isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(part, Mapping) and part.get("type", "text") in TEXT_PARTS for part in content
    )


def _asked(turns: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> str:
    """A hash of what is asked: roles and texts of the turns, tools and format."""
    said = [
        [turn.get("role"), prompt_id(plain_text(turn.get("content"))), turn.get("tool_calls")]
        for turn in turns
        if turn.get("role") not in SYSTEM_ROLES
    ]
    carried = {name: parameters[name] for name in REQUEST_FIELDS if parameters.get(name) is not None}
    text = json.dumps([said, carried], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
