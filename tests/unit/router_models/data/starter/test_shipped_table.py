"""The shipped outcomes are of the starter tasks, say what they were asked under, and cover what a newcomer tries."""

from collections import Counter

import numpy as np
import pytest

from router_models.data.outcomes import OutcomeTable, read_outcomes, split
from router_models.data.starter import SHIPPED_SEED, SHIPPED_TASKS, STARTER_OUTCOMES, grade, starter_tasks
from router_models.data.starter.families.typed import NEVER_ASKED
from router_models.data.starter.variations import SAMPLED, SYSTEM_PROMPTS, system_prompt
from router_models.estimators.novelty import NoveltyDetector
from router_models.training.splits import SPLIT_SHARES
from router_models.types import Message, Prompts, Query
from router_models.types.condition_cells import CONDITION_COLUMNS
from router_models.types.conditions import Conditions, conditions_of, decoding_of, system_prompt_of
from router_models.versions.covering.covered_conditions import NOVELTY_QUANTILE, covered_conditions


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return read_outcomes(STARTER_OUTCOMES)


def asked_under(table: OutcomeTable) -> list[Conditions]:
    columns = {name: table.prompts.metadata[name] for name in CONDITION_COLUMNS if name in table.prompts.metadata}
    return [Conditions.from_columns({n: column[i] for n, column in columns.items()}) for i in range(len(table))]


def test_every_task_is_there_with_what_it_was_asked_under(table: OutcomeTable) -> None:
    tasks = {task.prompt: task for task in starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED)}
    unanswered = [tasks[text] for text in set(tasks) - set(table.prompts.texts)]
    assert set(table.prompts.texts) <= set(tasks)
    assert (len(tasks), len(table), len(unanswered)) == (4950, 4937, 13)
    assert all(task.family.startswith("typed_") for task in unanswered), "left out for want of an answer in 10 minutes"
    assert asked_under(table) == [conditions_of(tasks[text].query) for text in table.prompts.texts]
    assert {tier: Counter(sources) for tier, sources in table.label_sources.items()} == {
        tier: {"programmatic": 4937} for tier in table.tiers
    }


def test_typed_questions_have_the_grades_that_the_graders_give_today(table: OutcomeTable) -> None:
    tasks = {task.prompt: task for task in starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED)}
    for row, text in enumerate(table.prompts.texts):
        task = tasks[text]
        if task.family.startswith("typed_") and task.grader != "program":
            for tier in table.tiers:
                answer = table.answers[tier].texts[row]
                assert table.grade(tier)[row] == grade(task, answer), (task.question, tier, answer)


def test_what_a_newcomer_tries_first_is_no_farther_than_certified_prompts_and_none_of_them(
    table: OutcomeTable,
) -> None:
    """By the form of the prompts; the served distance takes their topics too."""
    parts = split(table, SPLIT_SHARES)
    detector = NoveltyDetector().fit(parts["train"].prompts, embedded=False)
    edge = np.quantile(detector.distance(parts["tune"].prompts), NOVELTY_QUANTILE)
    asked = sorted(NEVER_ASKED - {"2+2"})
    assert not NEVER_ASKED & set(table.prompts.texts)
    assert {
        text: far for text, far in zip(asked, detector.distance(Prompts(tuple(asked))), strict=True) if far > edge
    } == {}


def test_two_system_prompts_two_decodings_and_two_turns_are_covered(table: OutcomeTable) -> None:
    covered = covered_conditions(asked_under(split(table, SPLIT_SHARES)["cert"]))
    prompts = [system_prompt_of((Message("system", system_prompt(name)),)) for name in SYSTEM_PROMPTS]
    assert set(covered.system_prompts) == {"", *prompts}
    assert set(covered.decodings) == {"", decoding_of(SAMPLED)}
    assert (covered.turns, covered.tools) == (2, False)
    chat = tuple(Message(role, "Hello.") for role in ("user", "assistant", "user"))
    helpful = (Message("system", "You are a helpful assistant."), *chat)
    assert covered.uncovered(conditions_of(Query(helpful, {}, {"temperature": 0.7}))) is None
    assert covered.uncovered(conditions_of(Query(helpful, {}, {"temperature": 1.9}))) is not None
