"""Varied starter tasks: other questions than the plain ones, in all combinations alike, the same in every run."""

from collections import Counter

import pytest

from router_models.data.starter import Task, generate, grade, starter_tasks
from router_models.data.starter.families import FIGURES, TYPED
from router_models.data.starter.variations import SAMPLED, SYSTEM_PROMPTS, system_prompt, varied
from router_models.types.conditions import PLAIN, conditions_of, system_prompt_of

SIZE = 3400


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return starter_tasks(SIZE, seed=0)


def test_plain_tasks_come_first_as_they_always_were(tasks: list[Task]) -> None:
    assert tasks[:SIZE] == generate(SIZE, seed=0)
    assert len(tasks) == SIZE + 600 + 700 + 250
    assert starter_tasks(40, seed=5) == starter_tasks(40, seed=5) != starter_tasks(40, seed=6)


def test_every_combination_is_asked_about_as_often(tasks: list[Task]) -> None:
    asked = [conditions_of(task.query) for task in tasks[SIZE : SIZE + 600]]
    ways = Counter((one.decoding, one.system_prompt, one.turns) for one in asked)
    assert len(ways) == 11
    assert set(ways.values()) == {54, 55}
    assert (PLAIN.decoding, PLAIN.system_prompt, PLAIN.turns) not in ways
    hashes = {system_prompt_of(task.query.messages) for task in tasks[SIZE:]}
    assert len(hashes) == 1 + len(SYSTEM_PROMPTS)
    assert {str(task.parameters) for task in tasks[SIZE:]} == {"{}", str(SAMPLED)}


def test_typed_questions_come_last_and_every_seventh_in_other_ways(tasks: list[Task]) -> None:
    start = SIZE + 600
    for n, bare, registry in ((700, 595, TYPED), (250, 212, FIGURES)):
        asked = tasks[start : start + n]
        assert {task.family for task in asked} == set(registry)
        assert all(not task.messages and not task.parameters for task in asked[:bare])
        others = [conditions_of(task.query) for task in asked[bare:]]
        assert len({(one.decoding, one.system_prompt, one.turns) for one in others}) == 11
        start += n


def test_no_question_and_no_request_comes_twice(tasks: list[Task]) -> None:
    assert len({task.id for task in tasks}) == len({task.prompt_id for task in tasks}) == len(tasks)
    assert len({task.question for task in tasks}) == len(tasks)


def test_the_first_turn_is_another_easy_question_with_its_right_answer(tasks: list[Task]) -> None:
    questions = {task.question for task in tasks}
    chats = [task.chat for task in tasks[SIZE:] if len(task.chat) >= 3]
    assert len(chats) > 300
    for chat in chats:
        first, answer, question = chat[-3:]
        assert [first["role"], answer["role"], question["role"]] == ["user", "assistant", "user"]
        assert answer["content"].strip()
        assert first["content"] not in questions


def test_the_last_question_alone_is_graded() -> None:
    for task in varied(40, seed=3):
        if task.grader != "program":
            assert grade(task, task.solution)


def test_company_prompts_are_as_long_as_companies_write_them() -> None:
    assert system_prompt("short") == "You are a helpful assistant."
    assert 100 <= len(system_prompt("company").split()) <= 140
