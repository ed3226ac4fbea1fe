import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.types import Action, Message, Query
from serve_graph.access.caller import CALLER, Caller
from serve_graph.cascade.fakes import FakeJudge, ListSink, fake_context
from serve_graph.config.access import KeyConfig
from serve_graph.errors import AccessError
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.gateway.tool_affinity import ToolAffinity, bound
from serve_graph.protocol.requests import RequestOptions

MARKS = ToolAffinity(b"secret")
HERE = bound([{"role": "user", "content": "weather?"}], None)
TIERS = st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True)


def loop(*ids: str, last: str = "tool") -> Query:
    """A conversation with one tool call and its result per id, ending in a message of role `last`."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "weather?"}]
    for call_id in ids:
        call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": "rain"},
        ]
    if last != "tool":
        messages.append({"role": last, "content": "and now?"})
    return Query((Message("user", "weather?"),), {}, {"messages": messages})


def ids_in(query: Query) -> list[str]:
    return re.findall(r"'(?:id|tool_call_id)': '([^']*)'", repr(query.parameters))


@given(TIERS, st.text(max_size=60))
def test_what_is_marked_is_read_again(tier: str, call_id: str) -> None:
    assert MARKS.read(MARKS.tag(tier, call_id)) == (tier, call_id)


@given(st.text(max_size=80))
def test_any_other_id_stays_as_it_is(call_id: str) -> None:
    assert MARKS.read(call_id) == (None, call_id)


def test_a_mark_is_of_letters_that_every_provider_takes() -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", MARKS.tag("cheap-1_b", "call_8f"))


def test_nobody_else_can_make_a_mark() -> None:
    forged = ToolAffinity(b"guess").tag("frontier", "call_1")
    assert MARKS.read(forged) == (None, forged)
    moved = MARKS.tag("cheap", "call_1").replace("cheap", "dearr")
    assert MARKS.read(moved) == (None, moved)


def test_the_engine_gets_its_own_ids_and_the_loop_its_tier() -> None:
    query, began = MARKS.untag(loop(MARKS.tag("cheap", "call_1", HERE)))
    assert began == "cheap"
    assert ids_in(query) == ["call_1", "call_1"]


def test_the_newest_call_names_the_tier() -> None:
    _, began = MARKS.untag(loop(MARKS.tag("cheap", "a", HERE), MARKS.tag("frontier", "b", HERE)))
    assert began == "frontier"


def test_a_loop_that_has_ended_does_not_bind_the_next_question() -> None:
    query, began = MARKS.untag(loop(MARKS.tag("cheap", "call_1", HERE), last="user"))
    assert began is None
    assert ids_in(query) == ["call_1", "call_1"]


def test_a_mark_holds_for_its_key_and_its_question_alone() -> None:
    mark = MARKS.tag("frontier", "call_1", HERE)
    assert MARKS.untag(loop(mark), "another key")[1] is None
    asked = loop(mark)
    asked.parameters["messages"][0]["content"] = "something else entirely"
    query, began = MARKS.untag(asked)
    assert began is None
    assert ids_in(query) == [mark, mark], "call and result must go on naming each other"


@pytest.mark.parametrize("floor", [None, 0.5])
async def test_a_mark_used_again_brings_no_more_than_a_wish_that_every_key_has(floor: float | None) -> None:
    """Keys that may not choose a tier: with a mark of the last tier, and without. A promised floor is not held."""
    key = KeyConfig(name="k", sha256="0" * 64, scopes=("use",), quality_floor=floor)
    context = fake_context(judge=FakeJudge(Action.ESCALATED))
    service = Service(context, ListSink(), routing=RoutingContext(certified=0.9))
    token = CALLER.set(Caller(key))
    try:
        mark = service.tool_affinity.tag("frontier", "call_1", bound([{"role": "user", "content": "weather?"}], "k"))
        marked = [service.open(loop(mark), "auto", False) for _ in range(2)]
        options_from = service.open(loop(), "auto", False, RequestOptions(quality_floor=1.0))
        with pytest.raises(AccessError):
            service.open(loop(), "frontier", False)
    finally:
        CALLER.reset(token)
    for request in (*marked, options_from):
        await service.answer(request)
        assert request.state.tier == "frontier"
    decisions = [request.state.decision for request in marked]
    assert ["began the tool loop" in decision.reason for decision in decisions if decision] == [floor is None] * 2
    assert (
        [len(request.state.calls) for request in (*marked, options_from)] == [1, 1, 1] if floor is None else [2, 2, 1]
    )


def test_a_word_of_the_user_between_call_and_result_parts_no_ids() -> None:
    asked = loop(MARKS.tag("cheap", "call_1", HERE))
    asked.parameters["messages"].insert(2, {"role": "user", "content": "hurry"})
    query, began = MARKS.untag(asked)
    assert (began, ids_in(query)) == ("cheap", ["call_1", "call_1"])


def test_ids_of_others_pass_untouched() -> None:
    asked = loop("call_of_another_service")
    assert MARKS.untag(asked) == (asked, None)


@pytest.mark.parametrize("odd", [None, 3, [], {"id": 5}, {"id": None}, {"id": ""}])
def test_odd_tool_calls_pass_untouched(odd: Any) -> None:
    asked = Query((), {}, {"messages": [{"role": "assistant", "tool_calls": [odd]}]})
    assert MARKS.untag(asked) == (asked, None)
