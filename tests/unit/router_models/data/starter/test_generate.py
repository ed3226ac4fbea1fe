"""The generator's promises: deterministic, distinct, disjoint, balanced, quick, and not readable from length."""

import hashlib
import time
from collections import Counter

import pytest

from router_models.data.starter import Task, families, generate
from router_models.data.starter.families import EVERYDAY, FAMILIES, FIGURES, TYPED
from router_models.data.starter.families.typed import NEVER_ASKED
from router_models.data.starter.generate import typed

SIZE = 3400


@pytest.fixture(scope="module")
def training() -> list[Task]:
    return generate(SIZE, seed=0)


@pytest.fixture(scope="module")
def graded(training: list[Task]) -> list[Task]:
    """The part of the training set that is not everyday requests."""
    return [task for task in training if task.family in FAMILIES]


def test_equal_arguments_give_equal_tasks() -> None:
    assert generate(200, seed=5) == generate(200, seed=5)
    assert generate(200, seed=5) != generate(200, seed=6)


def test_released_training_set_does_not_drift(training: list[Task]) -> None:
    """Outcomes have been collected for these prompts: a change of wording makes them worthless."""
    digest = hashlib.sha256("".join(sorted(task.id for task in training)).encode()).hexdigest()
    assert digest.startswith("c8f106de9959198a")


def test_no_prompt_comes_twice(training: list[Task]) -> None:
    assert len({task.id for task in training}) == len({task.prompt for task in training}) == SIZE


def test_excluded_tasks_never_come_back(training: list[Task]) -> None:
    seen = {task.id for task in training}
    held_out = generate(400, seed=1, exclude=seen)
    assert len(held_out) == 400
    assert not seen & {task.id for task in held_out}
    again = generate(1000, seed=0, exclude=seen)
    assert not seen & {task.id for task in again}


def test_both_sets_are_generated_within_five_seconds() -> None:
    start = time.process_time()
    ids = {task.id for task in generate(SIZE, seed=0)}
    generate(400, seed=1, exclude=ids)
    assert time.process_time() - start < 5


def test_families_and_difficulties_are_balanced(training: list[Task]) -> None:
    by_family = Counter(task.family for task in training)
    assert set(by_family) == set(families()) - set(TYPED) - set(FIGURES)
    for registry in (FAMILIES, EVERYDAY):
        per_weight = [by_family[name] / entry.weight for name, entry in registry.items()]
        assert max(per_weight) <= 1.1 * min(per_weight)
    by_difficulty = Counter(task.difficulty for task in training)
    assert all(0.13 <= by_difficulty[level] / SIZE <= 0.27 for level in range(1, 6))


def test_everyday_requests_are_five_in_seventeen(training: list[Task], graded: list[Task]) -> None:
    assert len(training) - len(graded) == 1000


def test_about_fifteen_percent_of_the_rest_are_german_or_spanish(graded: list[Task]) -> None:
    by_language = Counter(task.language for task in graded)
    assert set(by_language) == {"en", "de", "es"}
    assert 0.12 <= (by_language["de"] + by_language["es"]) / len(graded) <= 0.18
    for language in ("de", "es"):
        assert len({task.family for task in graded if task.language == language}) >= 6


def test_length_of_a_prompt_hardly_tells_its_difficulty(graded: list[Task]) -> None:
    easy = sorted(len(task.prompt) for task in graded if task.difficulty <= 2)
    hard = sorted(len(task.prompt) for task in graded if task.difficulty >= 4)
    longer = sum(h > e for h in hard[::7] for e in easy[::7])
    ties = sum(h == e for h in hard[::7] for e in easy[::7])
    area = (longer + ties / 2) / (len(hard[::7]) * len(easy[::7]))
    assert 0.4 <= area <= 0.65


def test_answers_are_short(training: list[Task]) -> None:
    limits = [task.max_tokens for task in training]
    assert max(limits) <= 160
    assert sum(limits) / len(limits) <= 48


def test_a_prefix_holds_many_families(training: list[Task]) -> None:
    assert len({task.family for task in training[:60]}) >= 15


def test_asking_for_nothing_gives_nothing() -> None:
    assert generate(0, seed=0) == []


def test_asking_for_more_than_there_is_says_so() -> None:
    with pytest.raises(ValueError, match="at most 20,000"):
        generate(10**6, seed=0)


def test_typed_questions_are_short_unframed_and_asked_without_a_limit() -> None:
    tasks = typed(700, seed=0)
    assert typed(100, seed=3) == typed(100, seed=3) != typed(100, seed=4)
    assert len({task.prompt for task in tasks}) == 700
    assert {task.max_tokens for task in tasks} == {None}
    assert {task.language for task in tasks} == {"en"}
    assert set(Counter(task.family for task in tasks)) == set(TYPED)
    assert sorted(len(task.prompt) for task in tasks)[350] <= 40
    assert not NEVER_ASKED & {task.prompt for task in tasks}
    assert not {task.id for task in tasks[:50]} & {
        task.id for task in typed(600, seed=0, exclude={task.id for task in tasks[:50]})
    }
