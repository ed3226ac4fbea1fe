"""Grade one answer to one task."""

import re

from router_models.data.starter.graders import GRADERS
from router_models.data.starter.task import Task

_FEWEST_WORDS = 4
"""A prompt of fewer words cannot be told from an answer that happens to use them."""
_WORD = re.compile(r"\w+")
_END = re.compile(r"[?!.:]*[\"'”»`]?[?!.]*")
"""What closes a question."""
_BREAK = re.compile(r"[^\w\s]|\n")


def grade(task: Task, answer: str) -> bool:
    """Return whether an answer is right.

    An answer that repeats the whole question must be right without it too, so that repeating the question earns
    nothing. Answers to `program` tasks are run in the sandbox, which takes up to about 3 s; every other grader is pure
    and fast.

    Parameters
    ----------
    task : Task
        The task.
    answer : str
        Any text; no text raises.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        For an unknown grader.
    SandboxUnavailableError
        For a `program` task on a machine without the sandbox.
    """
    try:
        grader = GRADERS[task.grader]
    except KeyError:
        raise ValueError(f"task {task.id}: no grader {task.grader!r}; known: {', '.join(GRADERS)}") from None
    rest = without_question(answer, task.question)
    return grader(task.reference, answer) and (rest == answer or grader(task.reference, rest))


def without_question(answer: str, prompt: str) -> str:
    """Return `answer` without the places that repeat all words of `prompt`, whatever their case and punctuation.

    A repeat is set off from the words before it: "I cannot make a sentence with the word phone" is a sentence.
    """
    question = [word.casefold() for word in _WORD.findall(prompt)]
    found = list(_WORD.finditer(answer))
    words = [match.group().casefold() for match in found]
    size = len(question)
    if size < _FEWEST_WORDS:
        return answer
    kept: list[str] = []
    after = place = last = 0
    while place + size <= len(words):
        begins = place in (0, last) or _BREAK.search(answer, found[place - 1].end(), found[place].start())
        if begins and words[place : place + size] == question:
            kept.append(answer[after : found[place].start()])
            end = _END.match(answer, found[place + size - 1].end())
            after = end.end() if end else after
            last = place = place + size
        else:
            place += 1
    parts = [part.strip() for part in (*kept, answer[after:])]
    return " ".join(part for part in parts if part) if kept else answer
