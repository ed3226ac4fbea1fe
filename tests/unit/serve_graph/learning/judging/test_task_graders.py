"""Which requests ask a known task, and which only look like it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router_models.data.starter import Task
from router_models.types import Completion, Query
from router_models.types.chat_prompts import read_message
from serve_graph.errors import ConfigError
from serve_graph.learning.judging.task_graders import TaskGraders, graded_by

CHAD = Task(
    "q1", "What is the capital of Chad?", "", 1, "en", "mentions", {"accepted": ["N'Djamena"]}, "N'Djamena", None
)
TURNS = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "2+2?"},
)
TALK = replace(CHAD, id="q2", prompt="Hi\nHello\n2+2?", messages=TURNS, grader="number", reference={"value": 4})
KNOWN = TaskGraders.of([CHAD, TALK, replace(CHAD, id="q3", prompt="Why?", grader="")])
TOOL = {"type": "function", "function": {"name": "f"}}
ASKED = {"role": "user", "content": CHAD.prompt}
PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}


def query(*messages: dict[str, Any], **parameters: Any) -> Query:
    return Query(tuple(map(read_message, messages)), {}, {**parameters, "messages": list(messages)})


def parts(*more: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": CHAD.prompt}, *more]}


ASKS = [
    (query(ASKED), "q1"),
    (Query.from_prompt("  what is the CAPITAL of chad?\n"), "q1"),
    (query({"role": "system", "content": "Be brief."}, ASKED, temperature=0.7, max_tokens=9), "q1"),
    (query(parts()), "q1"),
    (query(*TURNS), "q2"),
    (query(parts(PICTURE)), None),
    (query(ASKED, tools=[TOOL]), None),
    (query(ASKED, response_format={"type": "json_object"}), None),
    (query({"role": "user", "content": "Hi"}, ASKED), None),
    (query({"role": "assistant", "content": CHAD.prompt}), None),
    (query({"role": "user", "content": f"{CHAD.prompt} In French."}), None),
    (query(TURNS[-1]), None),
    (query({"role": "user", "content": "Why?"}), None),
    (replace(Query.from_prompt("another"), metadata={"task": "q1", "id": "q1"}), None),
]


@pytest.mark.parametrize(("asked", "name"), ASKS)
def test_a_request_is_a_tasks_where_it_asks_the_same(asked: Query, name: str | None) -> None:
    found = KNOWN.task_for(asked)
    assert (found and found.id) == name


async def test_an_answer_is_graded_by_the_tasks_own_grader() -> None:
    assert [await KNOWN.is_right(CHAD, Completion(text)) for text in ("It is N'Djamena.", "Paris")] == [True, False]
    assert graded_by(TALK) == {"task": "q2", "task_grader": "number"}


def test_a_task_takes_over_the_grader_of_the_known_one() -> None:
    bare = Task("dec-1", CHAD.prompt, "law", 0, "en", "", {}, "", 5)
    found = KNOWN.graded(bare)
    assert (found.id, found.family, found.max_tokens, found.grader, found.reference) == (
        "dec-1", "law", 5, "mentions", CHAD.reference,
    )  # fmt: skip
    assert KNOWN.graded(replace(bare, prompt="another")).grader == ""


def test_files_are_read_once_and_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    write: Callable[..., Any] = lambda *tasks: path.write_text("\n".join(json.dumps(one.to_json()) for one in tasks))  # noqa: E731
    assert TaskGraders.read(()) is None
    write(CHAD, replace(CHAD, id="again"), TALK)
    read = TaskGraders.read((path, path))
    assert read is not None
    assert {task.id for task in read.tasks.values()} == {"q1", "q2"}
    write(CHAD, replace(CHAD, id="q9", reference={"accepted": ["Paris"]}))
    with pytest.raises(
        ConfigError, match=r"graders.tasks: tasks 'q1' and 'q9' ask the same and expect something else"
    ):
        TaskGraders.read((path,))
    path.write_text("{}\n")
    with pytest.raises(ConfigError, match=r"graders.tasks: .*known.jsonl, line 1"):
        TaskGraders.read((path,))
    with pytest.raises(ConfigError, match="cannot be read"):
        TaskGraders.read((tmp_path / "none.jsonl",))
