"""Tool calls of a stream are assembled by who they are, whatever indices an API gives them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.protocol.tool_calls import ToolCallAssembler, arguments_of

OSLO, ROME = '{"city":"Oslo"}', '{"city":"Rome"}'
Part = dict[str, Any]


def part(name: str | None = None, arguments: str | None = None, **fields: Any) -> Part:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**fields, "function": function}


TWO = [("a1", "weather", OSLO), ("a2", "weather", ROME)]
# name → (deltas of one choice, the calls: id or None where any will do, name, arguments)
STREAMS: dict[str, tuple[list[list[Part]], list[tuple[str | None, str, str]]]] = {
    "as OpenAI sends them": (
        [
            [part("weather", "", index=0, id="a1", type="function")],
            [part(arguments='{"city":', index=0)],
            [part(arguments='"Oslo"}', index=0)],
            [part("weather", "", index=1, id="a2", type="function")],
            [part(arguments=ROME, index=1)],
        ],
        TWO,
    ),
    "one index": ([[part("weather", OSLO, index=0, id="a1")], [part("weather", ROME, index=0, id="a2")]], TWO),
    "no index": ([[part("weather", OSLO, id="a1")], [part("weather", ROME, id="a2")]], TWO),
    "null index": ([[part("weather", OSLO, id="a1", index=None)], [part("weather", ROME, id="a2", index=None)]], TWO),
    "both in one delta": ([[part("weather", OSLO, id="a1"), part("weather", ROME, id="a2")]], TWO),
    "indices from 1": ([[part("weather", OSLO, index=1, id="a1")], [part("weather", ROME, index=2, id="a2")]], TWO),
    "arbitrary indices": (
        [[part("weather", OSLO, index=10**9, id="a1")], [part("weather", ROME, index=7, id="a2")]],
        TWO,
    ),
    "one index, in pieces, continued without an id": (
        [
            [part("weather", "", index=0, id="a1")],
            [part(arguments='{"city":', index=0)],
            [part(arguments='"Oslo"}', index=0, id=None)],
            [part("weather", "", index=0, id="a2")],
            [part(arguments='{"city":', index=0, id="")],
            [part(arguments='"Rome"}', index=0)],
        ],
        TWO,
    ),
    "interleaved by id": (
        [
            [part("weather", '{"city":', index=0, id="a1")],
            [part("weather", '{"city":', index=0, id="a2")],
            [part(arguments='"Oslo"}', index=0, id="a1")],
            [part(arguments='"Rome"}', index=0, id="a2")],
        ],
        TWO,
    ),
    "interleaved by index": (
        [
            [part("weather", '{"city":', index=0, id="a1"), part("weather", '{"city":', index=1, id="a2")],
            [part(arguments='"Oslo"}', index=0), part(arguments='"Rome"}', index=1)],
        ],
        TWO,
    ),
    "interleaved by place": (
        [
            [part("weather", '{"city":', id="a1"), part("weather", '{"city":', id="a2")],
            [part(arguments='"Oslo"}'), part(arguments='"Rome"}')],
        ],
        TWO,
    ),
    "id and name in every piece": (
        [
            [part("weather", "", index=0, id="a1")],
            [part("weather", '{"city":', index=0, id="a1")],
            [part("weather", '"Oslo"}', index=0, id="a1")],
            [part("weather", ROME, index=1, id="a2")],
        ],
        TWO,
    ),
    "name in every piece, no id": (
        [[part("weather", '{"city":', index=0)], [part("weather", '"Oslo"}', index=0)]],
        [(None, "weather", OSLO)],
    ),
    "another id in every piece": (
        [[part("weather", "", index=0, id="a1")], [part(None, OSLO, index=0, id="r2")]],
        [("a1", "weather", OSLO)],
    ),
    "an id that comes late": (
        [[part("weather", "", index=0)], [part(arguments=OSLO, index=0, id="a1")]],
        [(None, "weather", OSLO)],
    ),
    "a name that comes late": (
        [[part(None, "", index=0, id="a1")], [part("weather", OSLO, index=0)]],
        [("a1", "weather", OSLO)],
    ),
    "no ids at all": (
        [[part("weather", OSLO)], [part("weather", ROME)], [part("now", "{}")]],
        [(None, "weather", OSLO), (None, "weather", ROME), (None, "now", "{}")],
    ),
    "no ids, one index": (
        [[part("weather", OSLO, index=0, id="")], [part("weather", ROME, index=0, id="")]],
        [(None, "weather", OSLO), (None, "weather", ROME)],
    ),
    "one id for two calls": (
        [[part("weather", OSLO, index=0, id="weather")], [part("weather", ROME, index=1, id="weather")]],
        [("weather", "weather", OSLO), (None, "weather", ROME)],
    ),
    "functions without parameters": (
        [[part("now", "", index=0)], [part("today", "", index=0)]],
        [(None, "now", ""), (None, "today", "")],
    ),
    "a declared name in pieces": ([[part("wea", "", index=0, id="a1")], [part("ther", OSLO)]], [TWO[0]]),
    "a declared name that grows": ([[part("wea", "", index=0)], [part("weather", OSLO)]], [(None, "weather", OSLO)]),
}


def assembled_by_client(deltas: list[Part]) -> list[Part]:
    """What OpenAI's own client makes of deltas: by index, everything else added up."""
    calls: dict[int, Part] = {}
    for delta in deltas:
        call = calls.setdefault(delta["index"], {"id": "", "type": "", "function": {"name": "", "arguments": ""}})
        call["id"] += delta.get("id") or ""
        call["type"] = delta.get("type") or call["type"]
        for field, value in delta["function"].items():
            call["function"][field] += value
    assert list(calls) == list(range(len(calls)))
    return list(calls.values())


@pytest.mark.parametrize("name", STREAMS)
def test_calls_are_told_apart_and_clients_assemble_the_same(name: str) -> None:
    given, expected = STREAMS[name]
    assembler = ToolCallAssembler({"weather", "now", "today"})
    deltas = [delta for parts in given for delta in assembler.take(parts)]
    assert assembled_by_client(deltas) == assembler.calls
    ids = [call["id"] for call in assembler.calls]
    assert [(c["function"]["name"], c["function"]["arguments"]) for c in assembler.calls] == [c[1:] for c in expected]
    assert [id_ for id_, (wanted, *_) in zip(ids, expected, strict=True) if wanted not in (None, id_)] == []
    assert all(ids)
    assert len(set(ids)) == len(ids)
    assert {call["type"] for call in assembler.calls} == {"function"}


def test_fields_of_one_api_alone_go_through() -> None:
    assembler = ToolCallAssembler()
    signed = {"google": {"thought_signature": "x"}}
    [delta] = assembler.take([part("now", "{}", id="a", extra_content=signed)])
    assert delta["extra_content"] == assembler.calls[0]["extra_content"] == signed


def test_a_custom_tools_input_is_text() -> None:
    assembler = ToolCallAssembler()
    [first] = assembler.take([{"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "select"}}])
    [second] = assembler.take([{"index": 0, "custom": {"input": " 1"}}])
    assert (first["custom"], second["custom"]) == ({"name": "sql", "input": "select"}, {"input": " 1"})
    assert assembler.calls == [{"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}]


CALLS = st.lists(st.tuples(st.sampled_from(["weather", "now", "f"]), st.dictionaries(st.text(), st.integers())))


@given(CALLS, st.booleans(), st.integers(1, 9), st.booleans())
def test_any_calls_with_ids_survive_any_cut(
    calls: list[tuple[str, dict[str, int]]], indexed: bool, size: int, repeats: bool
) -> None:
    assembler, deltas = ToolCallAssembler(), []
    for at, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        for start in range(0, len(text), size):
            head = {"id": f"call-{at}"} if start == 0 or repeats else {}
            where = {"index": at} if indexed else {"index": 0}
            named = name if start == 0 or repeats else None
            deltas += assembler.take([part(named, text[start : start + size], **head, **where)])
    expected = [(f"call-{at}", name, json.dumps(arguments)) for at, (name, arguments) in enumerate(calls)]
    found = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in assembled_by_client(deltas)]
    assert found == expected


@pytest.mark.parametrize(
    ("arguments", "value"),
    [("", {}), (" \n", {}), (None, {}), ('{"a":1}', {"a": 1}), ({}, {}), ("[1]", {"INVALID_JSON": "[1]"})],
)
def test_empty_arguments_are_an_empty_object(arguments: Any, value: Any) -> None:
    assert arguments_of(arguments) == value
