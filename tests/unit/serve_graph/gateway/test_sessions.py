from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from router_models.pricing.prices import Price
from router_models.types import Call, DecisionRecord, Message, Query, Usage
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, ListSink, fake_context
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.gateway.sessions import Sessions
from serve_graph.protocol.requests import RequestOptions

Records = Callable[..., DecisionRecord]
FIRST = Query((Message("system", "be brief"), Message("user", "hello")))
SECOND = Query((*FIRST.messages, Message("assistant", "hi"), Message("user", "and then?")))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answered(a_record: Records, session: str = "s", **fields: Any) -> DecisionRecord:
    calls = (Call("frontier", Usage(90, 10), 0.1, Decimal(1), "answer"),)
    return a_record(session=session, tier="frontier", calls=calls, **fields)


def test_a_conversation_is_found_until_its_cache_is_cold(a_record: Records) -> None:
    clock = Clock()
    sessions = Sessions({"frontier": 300.0}, 10, clock)
    sessions.note(answered(a_record), FIRST)
    found = sessions.get("s", SECOND)
    assert found is not None
    assert (found.tier, found.prefix_tokens, found.answer_tokens) == ("frontier", 100, 10)
    clock.now = 299.9
    assert sessions.get("s", SECOND) is not None
    clock.now = 300.0
    assert sessions.get("s", SECOND) is None
    assert len(sessions) == 0


def test_another_conversation_of_the_same_name_is_another(a_record: Records) -> None:
    sessions = Sessions({"frontier": 300.0}, 10, Clock())
    sessions.note(answered(a_record), FIRST)
    assert sessions.get("s", Query.from_prompt("something else")) is None
    assert sessions.get("t", SECOND) is None


def test_failures_and_tiers_without_a_cache_are_not_remembered(a_record: Records) -> None:
    sessions = Sessions({"frontier": 0.0}, 10, Clock())
    sessions.note(answered(a_record), FIRST)
    sessions.note(answered(a_record, status=503), FIRST)
    assert len(sessions) == 0


def test_the_longest_silent_is_forgotten_first(a_record: Records) -> None:
    sessions = Sessions({"frontier": 300.0}, 2, Clock())
    for name in ("a", "b", "a", "c"):
        sessions.note(answered(a_record, name), FIRST)
    assert [sessions.get(name, FIRST) is not None for name in "abc"] == [True, False, True]


async def test_a_conversation_stays_on_its_warm_tier_through_the_service() -> None:
    sink, clock = ListSink(), Clock()
    decider = FakeDecider("frontier")
    context = fake_context(frontier=FakeEngine(usage=Usage(10_000, 50)), decider=decider)
    prices = {
        "cheap": Price(Decimal("0.15"), Decimal("0.60")),
        "frontier": Price(Decimal("0.20"), Decimal("0.60"), Decimal("0.01")),
    }
    routing = RoutingContext(sessions=Sessions({"frontier": 300.0, "cheap": 300.0}, 10, clock))
    service = Service(replace(context, prices=prices), sink, routing=routing)

    async def turn(query: Query, session: str | None) -> str:
        await service.answer(service.open(query, "auto", False, RequestOptions(session=session)))
        return sink.records[-1].tier

    assert await turn(FIRST, "talk") == "frontier"
    decider.tier = "cheap"
    assert await turn(SECOND, "talk") == "frontier"
    assert "session stays" in sink.records[-1].route_reason
    assert await turn(SECOND, None) == "cheap"
    assert await turn(SECOND, "another") == "cheap"
    clock.now = 300.0
    assert await turn(SECOND, "talk") == "cheap"
