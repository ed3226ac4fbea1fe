"""Tools and schemas have one digest in every API's form, and another where a word or an order in them is."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.types.declared import LARGE, LONGEST_DECLARED, MOST_DECLARED, format_digest, tools_digest

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
OTHER = {"type": "function", "function": {"name": "now"}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
GRAMMAR = {"syntax": "lark", "definition": 'start: "a"'}
PATCH = {"name": "patch", "description": "Patch a file."}
CUSTOM = {"type": "custom", "custom": {**PATCH, "format": {"type": "grammar", "grammar": GRAMMAR}}}
HINTS_THAT_SPEAK: list[Any] = [
    "Prove it.",
    ["Prove it."],
    {"type": "Prove it."},
    {"type": "ephemeral", "ttl": "Prove it."},
    {"type": "ephemeral", "note": "Prove it."},
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "same",
    [
        {"function": FUNCTION},
        {"type": "function", **FUNCTION},
        {"type": "function", "strict": False, **FUNCTION},
        {"type": "function", "function": {**FUNCTION, "strict": None}, "cache_control": {"type": "ephemeral"}},
        {"function": {**FUNCTION, "cache_control": {"ttl": "1h", "type": "ephemeral"}}},
        {"name": "weather", "description": "The weather.", "input_schema": SCHEMA},
        {"type": "custom", "name": "weather", "description": "The weather.", "input_schema": SCHEMA},
        {"function": dict(reversed(FUNCTION.items())), "type": "function"},
    ],
)
def test_one_tool_in_every_providers_form_is_the_same(same: dict[str, Any]) -> None:
    assert tools_digest([same, OTHER]) == tools_digest([TOOL, OTHER])
    assert tools_digest(None, [FUNCTION]) == tools_digest([TOOL])


@pytest.mark.parametrize(
    "other",
    [
        [],
        [TOOL, OTHER],
        [TOOL, TOOL],
        [{**TOOL, "a_field_of_tomorrow": "Solve it."}],
        [{"type": "function", "function": {**FUNCTION, "description": "The weather. First prove the theorem."}}],
        [{"type": "function", "function": {**FUNCTION, "name": "prove_the_theorem"}}],
        [{"type": "function", "function": {**FUNCTION, "strict": True}}],
        [{"type": "function", "function": {**FUNCTION, "parameters": {**SCHEMA, "description": "Prove it."}}}],
        [{"type": "function", "function": {**FUNCTION, "parameters": {**SCHEMA, "properties": {"Prove it.": {}}}}}],
        [{"type": "custom", "custom": {"name": "weather", "description": "The weather."}}],
        *([{**TOOL, "cache_control": said}] for said in HINTS_THAT_SPEAK),
        *([{**TOOL, "function": {**FUNCTION, "cache_control": said}}] for said in HINTS_THAT_SPEAK),
        [{**TOOL, "custom": {"name": "prove", "description": "Prove it."}}],
        [{**FUNCTION, "input_schema": {"description": "Prove it."}}],
        [{"input_schema": {"description": "Prove it."}, **FUNCTION}],
        [{"type": "custom", "input_schema": {"description": "Prove it."}, **FUNCTION}],
        [{"input_schema": SCHEMA, **FUNCTION, "parameters": {"description": "Prove it."}}],
        "Prove it.",
        ["Prove it."],
    ],
)
def test_any_other_word_is_another_tool(other: Any) -> None:
    assert tools_digest(other) != tools_digest([TOOL])


@pytest.mark.parametrize(
    "same",
    [
        {"type": "custom", **PATCH, "format": {"type": "grammar", **GRAMMAR}},
        {"format": {**dict(reversed(GRAMMAR.items())), "type": "grammar"}, **PATCH, "type": "custom", "strict": None},
        {
            "custom": {"format": {"grammar": dict(reversed(GRAMMAR.items())), "type": "grammar"}, **PATCH},
            "type": "custom",
        },
    ],
)
def test_a_custom_tool_of_responses_is_that_of_chat(same: dict[str, Any]) -> None:
    assert tools_digest([same]) == tools_digest([CUSTOM])
    free = {"type": "custom", **PATCH}
    for unconstrained in ({**free, "format": {"type": "text"}}, {"type": "custom", "custom": PATCH}):
        assert tools_digest([unconstrained]) == tools_digest([free]) != tools_digest([CUSTOM])


@pytest.mark.parametrize(
    "other",
    [
        {"type": "custom", **PATCH, "format": {"type": "grammar", **GRAMMAR, "definition": "Prove it."}},
        {"type": "custom", **PATCH, "format": {"type": "grammar", **GRAMMAR, "note": "Prove it."}},
        {"type": "custom", **PATCH, "format": {"type": "grammar", **GRAMMAR, "grammar": GRAMMAR}},
        {"type": "custom", **PATCH, "format": {"type": "Prove it.", **GRAMMAR}},
        {"type": "custom", **PATCH, "format": "Prove it."},
        {"type": "custom", **PATCH, "format": {"type": "text", "note": "Prove it."}},
        {**CUSTOM, "name": "prove"},
        {**CUSTOM, "function": FUNCTION},
        {"type": "function", **PATCH, "format": {"type": "grammar", **GRAMMAR}},
        {"type": "function", **PATCH},
    ],
)
def test_any_other_word_is_another_custom_tool(other: dict[str, Any]) -> None:
    plain = {"type": "custom", "custom": PATCH}
    assert tools_digest([other]) not in (tools_digest([CUSTOM]), tools_digest([plain]))


ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {"reasoning": {"type": "string", "title": "r"}, "answer": {"type": "number"}},
    "$defs": {"a": {"anyOf": [{"type": "string", "title": "a"}]}},
}


@pytest.mark.parametrize(
    "other",
    [
        {**ANSWER, "properties": dict(reversed(ANSWER["properties"].items()))},
        {**ANSWER, "$defs": {"a": {"anyOf": [{"title": "a", "type": "string"}]}}},
        dict(reversed(ANSWER.items())),
    ],
    ids=["properties", "inside a list", "the schema itself"],
)
def test_another_order_inside_a_schema_is_another_schema(other: dict[str, Any]) -> None:
    """Constrained decoding writes members in the order of the schema: the answer before, or after, its reasoning."""
    assert other == ANSWER, "the same but for its order"
    for place in ("parameters", "input_schema"):
        assert tools_digest([{"name": "f", place: other}]) != tools_digest([{"name": "f", place: ANSWER}])
    assert tools_digest(None, [{"name": "f", "parameters": other}]) != tools_digest(
        [{"type": "function", "function": {"name": "f", "parameters": ANSWER}}]
    )
    for made in (
        lambda schema: {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        lambda schema: {"type": "json_object", "schema": schema},
        lambda schema: {"type": "structural_tag", "structures": [{"schema": schema}]},
    ):
        assert format_digest(made(other)) != format_digest(made(ANSWER))


def test_tools_in_another_order_are_others() -> None:
    assert tools_digest([OTHER, TOOL]) != tools_digest([TOOL, OTHER])


def test_the_order_of_a_formats_own_members_does_not_count() -> None:
    inner = dict(reversed(FORMAT["json_schema"].items()))  # type: ignore[attr-defined]
    assert format_digest({"json_schema": inner, "type": "json_schema"}) == format_digest(FORMAT)


def test_formats_have_a_digest_where_they_hold_more_than_a_type_that_explains_itself() -> None:
    for plain in (
        None,
        "json_object",
        {"type": "text"},
        {"type": "json_object"},
        {"type": "text", "json_schema": None},
    ):
        assert format_digest(plain) == ""
    found = {
        format_digest(one)
        for one in (
            FORMAT,
            {"type": "json_schema"},
            {"type": "json_object", "schema": SCHEMA},
            {"type": "json_schema", "json_schema": {"name": "b", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {**SCHEMA, "title": "x"}, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "description": "x"}},
            {"type": "grammar", "grammar": "root ::= 'a'"},
        )
    }
    assert "" not in found
    assert len(found) == 7
    lenient: dict[str, Any] = {"name": "a", "schema": SCHEMA}
    said = {"type": "json_schema", "json_schema": {**lenient, "strict": False}}
    assert format_digest(said) == format_digest({"type": "json_schema", "json_schema": lenient})


@given(values)
def test_whatever_is_declared_has_a_digest_that_is_the_same_after_json(declared: Any) -> None:
    again = json.loads(json.dumps(declared))
    assert tools_digest(declared) == tools_digest(again)
    assert format_digest({"type": "x", "y": declared}) == format_digest({"type": "x", "y": again})


def test_more_than_can_be_compared_has_no_digest_and_is_not_taken_long() -> None:
    many = [{"type": "function", "function": {"name": f"f{i}"}} for i in range(MOST_DECLARED // 4)]
    began = time.process_time()
    assert tools_digest(many * 20) == LARGE
    for kind in ("json_schema", "json_object"):
        assert format_digest({"type": kind, "json_schema": {"schema": {"enum": [1] * MOST_DECLARED}}}) == LARGE
    assert time.process_time() - began < 0.5
    assert len(tools_digest(many[:512])) == 64


@pytest.mark.parametrize(
    "schema",
    [
        {"description": "x" * LONGEST_DECLARED},
        {"x" * LONGEST_DECLARED: {}},
        {"enum": ["x" * 64] * (LONGEST_DECLARED // 64)},
        {"$defs": {"x" * (LONGEST_DECLARED // 2): {"title": "x" * (LONGEST_DECLARED // 2)}}},
        {"enum": [10**400] * (LONGEST_DECLARED // 400)},
    ],
    ids=["one text", "a name", "many texts", "over levels", "digits"],
)
def test_longer_texts_than_are_compared_have_no_digest(schema: dict[str, Any]) -> None:
    """One text of megabytes is one member, and would keep others waiting for as long as many do."""
    assert tools_digest([{"name": "f", "parameters": schema}]) == LARGE
    assert tools_digest(None, [{"name": "f", "parameters": schema}]) == LARGE
    assert format_digest({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}) == LARGE


def test_long_declarations_of_agents_are_compared() -> None:
    tools = [{"name": f"f{i}", "description": "x" * 2000, "parameters": SCHEMA} for i in range(120)]
    assert len(tools_digest(tools)) == 64
    assert tools_digest("x" * (LONGEST_DECLARED + 1)) == tools_digest(["x" * (LONGEST_DECLARED + 1)]) == LARGE
