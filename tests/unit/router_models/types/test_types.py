from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from router_models import types
from router_models.types import Answers, Message, Prompts, Query

NOUNS = [kind for kind in vars(types).values() if is_dataclass(kind) and isinstance(kind, type)]


def prompts(n: int = 4) -> Prompts:
    vectors = np.eye(n, dtype=np.float32)
    return Prompts(tuple(f"p{i}" for i in range(n)), vectors, {"lang": tuple("abcd"[:n])})


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_every_noun_is_frozen_and_slotted(noun: Any) -> None:
    assert noun.__dataclass_params__.frozen
    assert "__slots__" in vars(noun)
    assert noun.__doc__
    assert not noun.__doc__.startswith(f"{noun.__name__}(")


def test_a_query_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Query.from_prompt("x").messages = ()  # type: ignore[misc]


def test_routed_text_is_every_turn_in_order() -> None:
    query = Query((Message("system", "be brief"), Message("user", "why?"), Message("assistant", "")))
    assert query.text == "be brief\nwhy?\n"


def test_a_single_prompt_keeps_its_metadata() -> None:
    query = Query.from_prompt("why?", task="philosophy")
    assert (query.text, query.metadata) == ("why?", {"task": "philosophy"})


@pytest.mark.parametrize("index", [[2, 0], np.array([2, 0]), np.array([-2, 0])], ids=["list", "array", "from the end"])
def test_prompts_are_taken_in_the_order_asked_for(index: Any) -> None:
    some = prompts().take(index)
    assert some.texts == ("p2", "p0")
    assert some.metadata == {"lang": ("c", "a")}
    assert some.embeddings is not None
    assert some.embeddings.argmax(axis=1).tolist() == [2, 0]


def test_prompts_are_taken_by_mask() -> None:
    assert prompts().take(np.array([True, False, False, True])).texts == ("p0", "p3")


def test_no_prompts_can_be_taken() -> None:
    assert len(prompts().take(np.array([], dtype=np.int64))) == 0


def test_answers_are_taken_with_their_prompts_and_signals() -> None:
    answers = Answers(prompts(), tuple("wxyz"), ("stop",) * 4, {"lp_mean": np.arange(4.0)})
    some = answers.take(np.array([3, 1]))
    assert (some.texts, some.prompts.texts) == (("z", "x"), ("p3", "p1"))
    assert some.signals["lp_mean"].tolist() == [3.0, 1.0]
    assert len(some) == 2


def test_outcome_words_are_the_headers() -> None:
    assert sorted(types.Action) == ["abstained", "accepted", "ensemble", "escalated", "fallback", "forced", "routed"]


def test_a_record_holds_no_text_of_an_answer_and_a_prompts_only_where_it_was_asked_for() -> None:
    defaults = {field.name: field.default for field in fields(types.DecisionRecord)}
    assert defaults.keys().isdisjoint({"text", "answer", "messages", "completion"})
    assert defaults["prompt"] is None
