"""Conditions of requests and of rows: one spelling, nothing that decides an answer is overlooked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.types import Message, Query
from router_models.types.conditions import PLAIN, Conditions, conditions_of, decoding_of

USER = Message("user", "What is 2 + 2?")


def asked(*messages: Message, **parameters: object) -> Conditions:
    return conditions_of(Query(messages or (USER,), parameters=parameters))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"seed": 7, "user": "u", "stream": True, "logprobs": True, "n": 1, "metadata": {"task": "a"}},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "stop": None, "logit_bias": {}, "modalities": ["text"]},
        {"response_format": {"type": "text"}, "tools": [], "min_tokens": 0, "skip_special_tokens": True},
    ],
)
def test_what_changes_no_answer_leaves_a_request_plain(parameters: dict[str, object]) -> None:
    found = asked(**parameters)
    assert replace(found, decoding=found.effective_decoding({})) == PLAIN


def test_a_neutral_value_takes_the_place_of_a_tiers_own() -> None:
    for name, none, own in (
        ("presence_penalty", 0, 0.5),
        ("stop", [], ["END"]),
        ("chat_template_kwargs", {}, {"a": 1}),
    ):
        assert asked(**{name: none}).effective_decoding({name: own}) == asked().effective_decoding({})
        assert asked(**{name: none}).effective_decoding({name: own}) != asked().effective_decoding({name: own})


def test_the_order_inside_a_schema_of_an_engines_own_field_counts() -> None:
    """Fields that are forwarded hold schemas too, and constrained decoding writes members in their order."""
    schema = {"type": "object", "properties": {"reasoning": {}, "answer": {}}}
    other = {"type": "object", "properties": {"answer": {}, "reasoning": {}}}
    for name, one, two in (
        ("guided_json", schema, other),
        ("structured_outputs", {"json": schema}, {"json": other}),
        ("a_field_of_tomorrow", [schema], [other]),
        ("chat_template_kwargs", {"documents": [schema]}, {"documents": [other]}),
    ):
        assert asked(**{name: one}).decoding != asked(**{name: two}).decoding
        again = Conditions.from_columns({"decoding": asked(**{name: two}).decoding})
        assert again.decoding == again.effective_decoding({}) == asked(**{name: two}).decoding


def test_the_order_of_settings_and_of_those_that_are_read_by_name_does_not_count() -> None:
    free: dict[str, object] = {"logit_bias": {"5": 1, "7": 2}, "chat_template_kwargs": {"a": 1, "b": 2}, "top_p": 0.5}
    turned = {name: dict(reversed(one.items())) if isinstance(one, dict) else one for name, one in free.items()}
    assert asked(**free).decoding == asked(**dict(reversed(turned.items()))).decoding


def test_what_no_router_reads_of_a_message_is_named() -> None:
    said = {"role": "assistant", "content": "4"}
    for field in ("reasoning_content", "thinking_blocks", "refusal", "a_field_of_tomorrow"):
        assert asked(messages=[said | {field: "hm"}]).unread == field
        assert asked(messages=[said | {field: None}]).unread == ""
    for kind in ("refusal", "thinking"):
        assert asked(messages=[{"role": "assistant", "content": [{"type": kind}]}]).unread == kind
    for part in ({"type": "text", "text": "a"}, {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}):
        assert asked(messages=[{"role": "user", "content": [part]}]).unread == ""


def test_a_speakers_name_and_fields_beside_a_text_are_named_and_a_tools_name_is_not() -> None:
    assert asked(messages=[{"role": "user", "content": "hi", "name": "root"}]).unread == "name"
    assert asked(messages=[{"role": "system", "content": "hi", "name": ""}]).unread == ""
    assert asked(messages=[{"role": "tool", "content": "noon", "name": "now", "tool_call_id": "1"}]).unread == ""
    for kind in ("text", "input_text", "output_text", None):
        for field in ("citations", "annotations", "prefix", "a_field_of_tomorrow"):
            part = {"type": kind, "text": "hi", field: ["ignore what was said"]}
            assert asked(messages=[{"role": "user", "content": [part]}]).unread == field
            assert asked(messages=[{"role": "user", "content": [part | {field: []}]}]).unread == ""


@pytest.mark.parametrize(
    ("parameters", "field", "value"),
    [
        ({"temperature": 1.9}, "decoding", '{"temperature":1.9}'),
        ({"temperature": 0}, "decoding", '{"temperature":0.0}'),
        ({"temperature": 0, "top_p": 0.5, "top_k": 4}, "decoding", '{"temperature":0.0}'),
        ({"temperature": 1, "top_p": 0.5}, "decoding", '{"temperature":1.0,"top_p":0.5}'),
        ({"stop": "\n"}, "decoding", '{"stop":["\\n"]}'),
        ({"stop": ["\n"]}, "decoding", '{"stop":["\\n"]}'),
        ({"a_field_of_tomorrow": True}, "decoding", '{"a_field_of_tomorrow":true}'),
        ({"ignore_eos": True}, "decoding", '{"ignore_eos":true}'),
        ({"min_tokens": False}, "decoding", '{"min_tokens":false}'),
        ({"max_tokens": 5}, "max_tokens", 5),
        ({"max_completion_tokens": 5}, "max_tokens", 5),
        ({"n": 4}, "choices", 4),
        ({"tools": [{"type": "function"}]}, "tools", True),
        ({"functions": [{"name": "f"}]}, "tools", True),
        ({"tool_choice": "required"}, "decoding", '{"tool_choice":"required"}'),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
        ({"response_format": {"schema": {}}}, "response_format", "of no type"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "tool_loop", True),
    ],
)
def test_what_may_change_an_answer_is_a_condition(parameters: dict[str, object], field: str, value: object) -> None:
    found = asked(**parameters)
    assert getattr(found, field) == value
    assert replace(found, declared="", schema="") == Conditions(**{field: value})


def test_turns_system_prompts_and_a_begun_answer_are_read_from_the_messages() -> None:
    system, late = Message("system", "Be brief."), Message("developer", "Be brief.")
    assert asked(USER, Message("assistant", "4"), USER).turns == 2
    assert asked(USER, Message("assistant", "The answer is")).prefilled
    assert asked(Message("tool", "4"), USER).tool_loop
    assert asked(system, USER).system_prompt == asked(Message("developer", "Be brief."), USER).system_prompt != ""
    assert asked(USER, late, USER).system_prompt not in ("", asked(system, USER).system_prompt)
    assert asked(Message("system", ""), USER).system_prompt not in ("", asked(system, USER).system_prompt)
    assert asked(USER, Message("assistant", "The answer is"), Message("system", "")).prefilled
    assert asked(system).system_prompt not in ("", asked(system, USER).system_prompt), "nothing is asked under it"
    assert asked(Message("assistant", "Hello!"), USER).turns == 2


def test_the_settings_of_a_tier_count_unless_the_request_has_its_own() -> None:
    greedy = {"temperature": 0.0, "max_tokens": 64}
    assert asked().effective_decoding(greedy) == asked(temperature=0).effective_decoding(greedy)
    assert asked(top_p=0.3).effective_decoding(greedy) == asked().effective_decoding(greedy)
    assert asked(temperature=0.7).effective_decoding(greedy) != asked().effective_decoding(greedy)


texts = st.text(st.characters(codec="utf-8"), max_size=5)
settings = st.dictionaries(
    st.sampled_from(["temperature", "top_p", "stop", "seed", "other"]),
    st.one_of(
        *(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([2**53 + 1, -(10**400)]), st.floats(0, 2)),
        *(texts, st.lists(texts, max_size=2), st.dictionaries(texts, st.integers(), max_size=2)),
    ),
)


@given(settings)
def test_one_spelling_for_equal_settings(values: dict[str, object]) -> None:
    once = decoding_of(values)
    assert Conditions.from_columns({"decoding": once}).decoding == once
    assert decoding_of(dict(reversed(list(values.items())))) == once


@given(
    st.builds(
        Conditions,
        decoding=settings.map(decoding_of),
        max_tokens=st.none() | st.integers(1, 9999),
        system_prompt=st.sampled_from(["", "ab12" * 16]),
        turns=st.integers(1, 50),
        tools=st.booleans(),
        response_format=st.sampled_from(["", "json_object"]),
        tool_loop=st.booleans(),
        prefilled=st.booleans(),
        unread=st.sampled_from(["", "reasoning_content"]),
    )
)
def test_columns_are_read_back(found: Conditions) -> None:
    assert Conditions.from_columns(found.columns()) == found
    assert Conditions.from_columns({}) == PLAIN


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"turns": "many"}, "turns"),
        ({"max_tokens": "0"}, "max_tokens"),
        ({"decoding": "hot"}, "decoding"),
        ({"tools": "perhaps"}, "tools"),
        ({"tool_loop": "7"}, "tool_loop"),
        ({"response_format": '{"schema": {}}'}, "response_format"),
    ],
)
def test_a_column_that_cannot_be_read_is_named(row: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Conditions.from_columns(row)


def test_columns_may_hold_what_a_request_holds() -> None:
    row = {
        "system_prompt": "Be brief.",
        "tools": '[{"type": "function"}]',
        "response_format": '{"type": "json_object"}',
    }
    assert Conditions.from_columns(row) == asked(
        Message("system", "Be brief."), USER, tools=[{"type": "function"}], response_format={"type": "json_object"}
    )
    plain = {"tools": "[]", "response_format": "text", "prefilled": "False", "turns": "1.0", "tool_loop": "0"}
    assert Conditions.from_columns(plain) == PLAIN
