"""Mark one answer to one task."""

from router_models.starter.graders import GRADERS
from router_models.starter.task import Task


def grade(task: Task, answer: str) -> bool:
    """Return whether `answer` is right; never raises on answer text, raises ValueError on an unknown grader.

    Answers to `program` tasks are run in the sandbox (up to about 3 s); every other grader is pure and instant.
    """
    try:
        grader = GRADERS[task.grader]
    except KeyError:
        raise ValueError(f"task {task.id}: no grader {task.grader!r}; known: {', '.join(GRADERS)}") from None
    return grader(task.reference, answer)
