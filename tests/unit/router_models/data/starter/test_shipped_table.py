"""The shipped outcomes are of the starter tasks, say what they were asked under, and cover what a newcomer tries."""

from collections import Counter

import pytest

from router_models.data.outcomes import OutcomeTable, read_outcomes, split
from router_models.data.starter import SHIPPED_SEED, SHIPPED_TASKS, STARTER_OUTCOMES, starter_tasks
from router_models.data.starter.variations import SAMPLED, SYSTEM_PROMPTS, system_prompt
from router_models.training.splits import SPLIT_SHARES
from router_models.types import Message, Query
from router_models.types.conditions import CONDITION_COLUMNS, Conditions, conditions_of, decoding_of, system_prompt_of
from router_models.types.coverage import Coverage


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return read_outcomes(STARTER_OUTCOMES)


def asked_under(table: OutcomeTable) -> list[Conditions]:
    columns = {name: table.prompts.metadata[name] for name in CONDITION_COLUMNS if name in table.prompts.metadata}
    return [Conditions.from_columns({n: column[i] for n, column in columns.items()}) for i in range(len(table))]


def test_every_task_is_there_with_what_it_was_asked_under(table: OutcomeTable) -> None:
    tasks = {task.prompt: task for task in starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED)}
    assert set(table.prompts.texts) == set(tasks)
    assert len(table) == len(tasks) == 4000
    assert asked_under(table) == [conditions_of(tasks[text].query) for text in table.prompts.texts]
    assert {tier: Counter(sources) for tier, sources in table.label_sources.items()} == {
        tier: {"programmatic": 4000} for tier in table.tiers
    }


def test_two_system_prompts_two_decodings_and_two_turns_are_covered(table: OutcomeTable) -> None:
    covered = Coverage.of(asked_under(split(table, SPLIT_SHARES)["cert"]))
    prompts = [system_prompt_of((Message("system", system_prompt(name)),)) for name in SYSTEM_PROMPTS]
    assert set(covered.system_prompts) == {"", *prompts}
    assert set(covered.decodings) == {"", decoding_of(SAMPLED)}
    assert (covered.turns, covered.tools) == (2, False)
    chat = tuple(Message(role, "Hello.") for role in ("user", "assistant", "user"))
    helpful = (Message("system", "You are a helpful assistant."), *chat)
    assert covered.uncovered(conditions_of(Query(helpful, {}, {"temperature": 0.7}))) is None
    assert covered.uncovered(conditions_of(Query(helpful, {}, {"temperature": 1.9}))) is not None
