"""Tasks are data: they survive JSON, and a damaged record is refused with the reason."""

import json

import pytest

from router_models.data.starter import Task, generate
from router_models.data.starter.task import ID_VERSION, task_id
from router_models.types.conditions import conditions_of


def test_every_task_survives_a_json_line() -> None:
    for task in generate(300, seed=3):
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_id_is_a_hash_of_the_prompt_alone() -> None:
    assert task_id("What is 1 + 1?") == "72f8917549de2d6d"
    assert all(task.id == task_id(task.prompt) for task in generate(50, seed=3))


def test_ids_of_tasks_with_parameters_stay_and_conditions_tell_apart_what_they_do_not() -> None:
    """Tables that were collected, and runs that go on, know rows by these ids; certificates go by conditions."""
    plain = generate(1, seed=3)[0].to_json()
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {key: {} for key in names}}}}
        for names in ("ab", "ba")
    ]
    one, other = (Task.from_json(plain | {"prompt": "Hi", "tools": [tool]}) for tool in tools)
    assert ID_VERSION == 1
    assert one.prompt_id == other.prompt_id == "ab805170dd441b6c"
    assert conditions_of(one.query).declared != conditions_of(other.query).declared


@pytest.mark.parametrize(
    ("key", "value"), [("prompt", None), ("difficulty", "2"), ("difficulty", True), ("reference", 3)]
)
def test_record_with_a_wrong_field_is_refused_by_name(key: str, value: object) -> None:
    record = generate(1, seed=3)[0].to_json() | {key: value}
    with pytest.raises(ValueError, match=key):
        Task.from_json(record)
