"""Whatever a request or an answer holds counts for the room that it takes while it waits, wherever it stands."""

from __future__ import annotations

import time
from typing import Any

import pytest

from router_models.types import Completion, Message, Query
from serve_graph.learning.held import HELD_CHARS, HeldRoom, held_chars

LONG = "x" * 1_000_000
ASKED: dict[str, dict[str, Any]] = {
    "a picture": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": LONG}}]}]},
    "a part's depth": {"messages": [{"role": "user", "content": [{"type": "x", "x": {"y": [{"z": LONG}]}}]}]},
    "a text": {"messages": [{"role": "user", "content": LONG}]},
    "arguments": {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": LONG}}]}]},
    "a tool": {"tools": [{"type": "function", "function": {"name": "f", "description": LONG}}]},
    "a name in a schema": {"tools": [{"function": {"parameters": {"properties": {LONG: {}}}}}]},
    "a format": {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": [LONG]}}}},
    "a prediction": {"prediction": {"type": "content", "content": LONG}},
    "a suffix": {"suffix": LONG},
    "digits": {"x": [10**400] * 2500},
}
ANSWERS: dict[str, Completion] = {
    "its text": Completion(LONG),
    "reasoning": Completion("4", payload={"choices": [{"message": {"content": "4", "reasoning_content": LONG}}]}),
    "log probabilities": Completion("4", payload={"choices": [{"logprobs": {"content": [{"token": "a"}] * 4000}}]}),
}


@pytest.mark.parametrize("parameters", ASKED.values(), ids=ASKED)
def test_all_of_a_request_counts(parameters: dict[str, Any]) -> None:
    assert 1_000_000 <= held_chars(Query((), {}, parameters)) < 1_500_000


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_all_of_an_answer_counts_once(answer: Completion) -> None:
    held = held_chars(Query.from_prompt("2 + 2?"), answer, answer, None)
    assert 1_000_000 <= held < 1_500_000


def test_a_text_that_is_held_once_counts_once() -> None:
    sent = {"messages": [{"role": "user", "content": LONG}]}
    assert held_chars(Query((Message("user", LONG),), {}, sent)) < 1_500_000
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": LONG}]}]}
    assert held_chars(Query((Message("user", LONG + "."),), {}, parts)) > 2_000_000


def test_a_request_of_very_many_values_has_no_room_and_is_not_counted_for_long() -> None:
    began = time.process_time()
    for many in ([[]] * 1_000_000, [[{"a": 1}] * 5000] * 2, {str(i): i for i in range(100_000)}):
        assert not HeldRoom().take(held_chars(Query((), {}, {"x": many})))
    assert time.process_time() - began < 0.5


def test_room_that_was_taken_is_there_again_once_it_is_given_back() -> None:
    room = HeldRoom()
    assert room.take(HELD_CHARS)
    assert not room.take(1)
    room.give_back(HELD_CHARS)
    assert room.take(1)
