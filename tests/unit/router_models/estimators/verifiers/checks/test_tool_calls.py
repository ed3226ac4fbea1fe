"""What a reply's tool calls are read to be, against what the request declares of tools."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.estimators.verifiers.checks.formats import (
    CALLS_NOT_MEASURED,
    AnswerReading,
    declares_shape,
    read_answer,
)
from router_models.types import Completion, Query

AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
NOTHING = {"type": "object", "properties": {}}


def function(name: str, schema: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **({} if schema is None else {"parameters": schema})}}


TOOLS = {"tools": [function("now", NOTHING), function("age_of", AGE), function("bare")]}
ALLOWED = {"mode": "auto", "tools": [function("now")]}
CUSTOM = {"tools": [{"type": "custom", "custom": {"name": "shell"}}]}


def call(name: Any = "now", arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def read(asked: dict[str, Any], message: dict[str, Any], finish: str = "tool_calls", **knows: bool) -> AnswerReading:
    payload = {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    completion = Completion(message.get("content") or "", finish, payload=payload)
    return read_answer(Query(Query.from_prompt("?").messages, {}, asked), completion, **knows)


def calling(*calls: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


AS_DECLARED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (TOOLS, calling(call())),
    (TOOLS, calling(call(), content="One moment.")),
    (TOOLS, calling(call(), content="")),
    (TOOLS, calling(call(arguments=""))),
    (TOOLS, calling(call(arguments=" \n\t"))),
    (TOOLS, calling(call(arguments=None))),
    (TOOLS, calling(call("bare", "")), ),
    (TOOLS, calling(call("bare", '{"anything": [1]}'))),
    (TOOLS, calling(call("age_of", '{"age": 3}'))),
    (TOOLS, calling(call(), call("age_of", '{"age": 3}'), call())),
    (TOOLS, calling({k: v for k, v in call().items() if k != "type"})),
    (TOOLS, {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": ""}}),
    ({"functions": [{"name": "now", "parameters": NOTHING}]}, {"function_call": {"name": "now", "arguments": "{}"}}),
    ({**TOOLS, "tool_choice": "required"}, calling(call())),
    ({**TOOLS, "tool_choice": function("now")}, calling(call())),
    ({**TOOLS, "tool_choice": {"type": "function", "name": "now"}}, calling(call())),
    ({**TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED}}, calling(call())),
    ({**TOOLS, "parallel_tool_calls": False}, calling(call())),
    ({**TOOLS, "response_format": {"type": "json_object"}}, calling(call())),
    (CUSTOM, calling({"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls"}})),
    ({"tools": [{"type": "web_search"}]}, calling({"id": "c", "type": "web_search"})),
]  # fmt: skip

NOT_AS_DECLARED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, calling(call()), "names no declared tool"),
    (TOOLS, calling(call("later")), "names no declared tool"),
    (TOOLS, calling(call(None)), "names no declared tool"),
    (TOOLS, calling({"id": "c", "type": "function"}), "names no declared tool"),
    (TOOLS, calling(call("age_of", "")), "breaks its tool's schema"),
    (TOOLS, calling(call("age_of", '{"age": "three"}')), "breaks its tool's schema"),
    (TOOLS, calling(call("age_of", '{"age": 3')), "do not parse"),
    (TOOLS, calling(call("age_of", '{"age": 3} and so on')), "do not parse"),
    (TOOLS, calling(call("age_of", '{"age": NaN}')), "do not parse"),
    (TOOLS, calling(call("age_of", "[3]")), "no object"),
    (TOOLS, calling(call(arguments="null")), "no object"),
    (TOOLS, calling(call(), call("age_of", "{}")), "breaks its tool's schema"),
    (TOOLS, {"function_call": {"name": "later", "arguments": "{}"}}, "names no declared tool"),
    ({**TOOLS, "tool_choice": "none"}, calling(call()), "does not permit"),
    ({**TOOLS, "tool_choice": function("age_of")}, calling(call()), "does not permit"),
    (
        {**TOOLS, "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [function("age_of")]}},
        calling(call()),
        "does not permit",
    ),
    ({**TOOLS, "parallel_tool_calls": False}, calling(call(), call()), "2 tool calls where"),
    ({**TOOLS, "tool_choice": "required"}, {"content": "It is noon."}, "required tool call is missing"),
    ({**TOOLS, "tool_choice": function("now")}, {"content": "It is noon."}, "required tool call is missing"),
    (
        {"functions": [{"name": "now"}], "function_call": {"name": "now"}},
        {"content": "It is noon."},
        "required tool call is missing",
    ),
    (TOOLS, calling({"id": "c", "type": "custom", "custom": {"name": "now", "input": ""}}), "names no declared tool"),
    (CUSTOM, calling({"id": "c", "type": "custom", "custom": {"name": "shell"}}), "has no input"),
    (TOOLS, calling({"id": "c", "type": "web_search"}), "kind that was not declared"),
]


@pytest.mark.parametrize(("asked", "message"), AS_DECLARED)
def test_a_call_as_declared_is_an_answer_of_which_nothing_is_promised(
    asked: dict[str, Any], message: dict[str, Any]
) -> None:
    found = read(asked, message)
    assert found.calls == len(message.get("tool_calls", "1"))
    assert (found.fault, found.not_promised) == (None, CALLS_NOT_MEASURED)
    assert read(asked, message, knows_calls=True).not_promised is None


@pytest.mark.parametrize(("asked", "message", "fault"), NOT_AS_DECLARED)
def test_a_call_that_is_not_as_declared_is_a_fault(asked: dict[str, Any], message: dict[str, Any], fault: str) -> None:
    found = read(asked, message, knows_calls=True).fault
    assert found is not None
    assert fault in found


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_a_call_that_was_cut_off_is_a_fault_even_where_what_came_parses(finish: str) -> None:
    assert read(TOOLS, calling(call(arguments="")), finish).fault == "a tool call was cut off"


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call"])
def test_what_the_finish_reason_says_does_not_make_a_call(finish: str) -> None:
    assert read(TOOLS, calling(call()), finish).calls == 1
    assert read(TOOLS, {"content": "It is noon.", "tool_calls": []}, finish) == AnswerReading()


def test_text_where_tools_may_be_called_is_text() -> None:
    for choice in ({}, {"tool_choice": "auto"}, {"tool_choice": "none"}):
        assert read({**TOOLS, **choice}, {"content": "It is noon."}, "stop") == AnswerReading()


def test_tools_under_their_former_name_declare_a_shape_too() -> None:
    assert declares_shape(Query((), {}, {"functions": [{"name": "now"}]}))
    assert not declares_shape(Query((), {}, {"tools": []}))


NAMES = ["type", "function", "custom", "name", "arguments", "input", "mode", "tools", "allowed_tools"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(tools=JSON, choice=JSON, calls=JSON, former=JSON)
def test_whatever_a_request_declares_and_a_reply_calls_it_is_read(
    tools: Any, choice: Any, calls: Any, former: Any
) -> None:
    asked = {"tools": tools, "functions": tools, "tool_choice": choice}
    found = read(asked, {"content": None, "tool_calls": calls, "function_call": former})
    assert found.fault is None or isinstance(found.fault, str)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["age", "name"]), st.integers() | st.text(max_size=3)))
def test_arguments_are_read_as_their_schema_reads_them(arguments: dict[str, Any]) -> None:
    fault = read(TOOLS, calling(call("age_of", json.dumps(arguments)))).fault
    assert (fault is None) == isinstance(arguments.get("age"), int)


@pytest.mark.parametrize("finish", ["tool_calls", "function_call"])
@pytest.mark.parametrize("message", [{"content": None}, {"content": " \n"}, {"content": "", "tool_calls": []}])
def test_an_answer_that_ends_in_a_call_and_holds_none_is_a_fault(message: dict[str, Any], finish: str) -> None:
    for asked in ({}, TOOLS):
        assert read(asked, message, finish).fault == "it ends in a tool call, and holds none"


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
        'Let me look. [TOOL_CALLS][{"name": "now"}]',
        "<function=now>{}</function>",
    ],
)
def test_a_call_written_as_text_is_a_fault_where_tools_are_declared(text: str) -> None:
    assert "written as text" in (read(TOOLS, {"content": text}, "stop").fault or "")
    assert read({}, {"content": text}, "stop") == AnswerReading()
