"""Every family: its own solution is right, a plausible wrong answer is wrong, its prompts read well.

`make test` runs a fifth of these, of every family some; `--whole` (`make test-all`) runs all.
"""

import random
import re

import pytest

from router_models.data.starter import Task, generate, grade
from router_models.data.starter.families import EVERYDAY, FIGURES, TYPED
from router_models.data.starter.families import FAMILIES as GRADED
from router_models.data.starter.generate import typed

pytestmark = pytest.mark.sampled("family")

FAMILIES = {**GRADED, **EVERYDAY, **TYPED, **FIGURES}
HOLD_THEIR_ANSWERS = ("functions", "copying", "notes", "typed_sayings")
TASKS = [*generate(2000, seed=11), *typed(500, seed=11), *typed(60, seed=11, registry=FIGURES)]


def of_family(name: str, most: int = 60) -> list[Task]:
    found = [task for task in TASKS if task.family == name]
    return found[: 8 if name in ("functions", "typed_code") else most]


def wrong_answer(task: Task) -> str:
    """Return an answer of the right form with the wrong content."""
    reference = task.reference
    match task.grader:
        case "number":
            return str(float(task.solution) + 1)
        case "choice":
            options = reference["options"]
            assert isinstance(options, list)
            return str(next(option for option in options if option != reference["answer"]))
        case "letter":
            return "B" if task.solution == "A" else "A"
        case "sequence":
            return ", ".join(reversed(task.solution.split(", ")))
        case "date":
            return "1999-01-01"
        case "number_words":
            return "one"
        case "json":
            return (
                re.sub(r"(\d+)|true|false|\"(\w+)\"]?", "0", task.solution, count=1)
                if task.solution != "[]"
                else "[0]"
            )
        case "sentence":
            return task.solution.replace("all about", "all about nothing and")[:-8]
        case "record":
            return "{}"
        case "program":
            return re.sub(r"return .*", "return None", task.solution)
        case "says":
            return f"I would rather not say {task.solution}"
        case "mentions" | "states":
            return "Timbuktu"
        case "yes_no":
            return "No." if task.solution == "Yes." else "Yes."
        case "listed":
            return "stone"
        case "explains":
            return "It is what it is and nothing else at all."
        case _:
            return task.solution[:-1] + ("q" if task.solution[-1:] not in "qQ" else "z")


@pytest.mark.parametrize("family", FAMILIES)
def test_its_own_solution_is_graded_right(family: str) -> None:
    assert [task for task in of_family(family) if not grade(task, task.solution)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_solution_with_white_space_and_a_fence_is_graded_right(family: str) -> None:
    assert [task for task in of_family(family) if not grade(task, f"\n```\n{task.solution}\n```\n")] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plausible_wrong_answer_is_graded_wrong(family: str) -> None:
    assert [(task, wrong_answer(task)) for task in of_family(family) if grade(task, wrong_answer(task))] == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("answer", ["", " \n", "I don't know.", "..."])
def test_no_answer_is_graded_wrong(family: str, answer: str) -> None:
    assert not any(grade(task, answer) for task in of_family(family, 20))


@pytest.mark.parametrize(
    "family", [name for name in FAMILIES if name not in ("functions", "copying", "notes", "typed_sayings")]
)
def test_repeating_the_question_is_graded_wrong_nearly_always(family: str) -> None:
    tasks = of_family(family)
    assert sum(grade(task, task.prompt) for task in tasks) <= 0.25 * len(tasks)


@pytest.mark.parametrize("family", FAMILIES)
def test_same_generator_state_gives_the_same_draft(family: str) -> None:
    entry = FAMILIES[family]
    for language in entry.languages:
        for difficulty in range(1, 6):
            drafts = [entry.family.draw(random.Random(difficulty), difficulty, language) for _ in range(2)]
            assert drafts[0] == drafts[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_have_no_loose_slots_doubled_blanks_or_wrong_articles(family: str) -> None:
    for task in of_family(family):
        assert task.prompt == task.prompt.strip()
        assert not re.search(r"\{[a-z0-9_]*\}", task.prompt), task
        assert family in ("functions", "json_editing") or "  " not in task.prompt, task
        assert not re.search(r"\ba (?:apple|engineer|architect|orange|ant|elephant)\b", task.prompt), task
        assert task.solution
