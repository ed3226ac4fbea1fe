"""Read files of tasks, and check every one of them before the first is asked."""

from __future__ import annotations

from pathlib import Path

from router_models.data.formats.json_lines import json_object, numbered_lines
from router_models.data.formats.text_files import read_text
from router_models.data.starter import Task, check_task
from router_models.errors import DataError
from serve_graph.cli.client.task_requests import SAMPLING_SETTINGS, check_request
from serve_graph.errors import ServeGraphError

SHOWN = 20
"""How many unusable lines an error lists."""


def read_tasks(path: Path) -> list[Task]:
    """Read tasks from JSON lines (`prompt` or `messages`, `grader`, `reference`, …; see `starter.Task`).

    Raises ServeGraphError naming every line that cannot be used (the first `SHOWN`), and why.
    """
    try:
        text = read_text(path)
    except DataError as error:
        message = str(error)
        raise ServeGraphError(f"{path} holds no task" if message.endswith("holds no rows") else message) from error
    tasks: list[Task] = []
    faults: list[str] = []
    first: dict[str, int] = {}
    for number, line in numbered_lines(text):
        try:
            record = json_object(line)
            if stray := [name for name in SAMPLING_SETTINGS if name in record]:
                raise ValueError(f"{stray[0]!r} is a sampling setting: put it into 'decoding'")
            task = Task.from_json(record)
            check_task(task)
            check_request(task)
            same = first.setdefault(task.prompt_id, number)
            if same != number:
                raise ValueError(f"the same prompt as line {same}, but for case, spaces or Unicode form: keep one")
            tasks.append(task)
        except (ValueError, TypeError) as error:
            faults.append(f"line {number}: {' '.join(str(error).split())}")
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        listed = "\n  ".join([*faults[:SHOWN], *more])
        raise ServeGraphError(
            f"{path}: {len(faults)} of {len(faults) + len(tasks)} tasks cannot be used; nothing was asked "
            f"(docs/guides/outcomes.md says what a task needs):\n  {listed}"
        )
    return tasks
