"""By failures, sessions or verdicts: only tiers that take a request are asked, and nothing is promised."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.types import Action, Decision, OperatingPoint, Query
from router_models.versions.policy import Policy
from serve_graph.cascade.fakes import PRICES, FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.errors import EngineError, EngineRequestError, PolicyUnavailableError, RequestError
from serve_graph.gateway.capabilities import CapableTiers, needs_of
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.gateway.tool_affinity import bound
from tests.unit.serve_graph.gateway.capabilities.capable import BOTH_CAN, EVERYTHING, LAST_CAN, Asked
from tests.unit.serve_graph.gateway.capabilities.parts import (
    CALL,
    KINDS,
    PARTS,
    query_of,
    user,
)


@pytest.mark.parametrize("safe_tier", ["cheap", "frontier"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tier_that_does_not_take_it_is_no_fallback(safe_tier: str, stream: bool) -> None:
    image = query_of([user(PARTS["image"])])
    broken = Asked(frontier=FakeEngine(error=EngineError("died")), safe_tier=safe_tier)
    with pytest.raises(EngineError):
        await broken.ask(image, stream=stream)
    assert broken.asked("cheap") == 0
    down = Asked(decider=FakeDecider(error=PolicyUnavailableError("down")), safe_tier=safe_tier)
    record = await down.ask(image, stream=stream)
    assert (record.tier, record.outcome, down.asked("cheap")) == ("frontier", "fallback", 0)
    assert record.evidence["promised"] is None


@pytest.mark.parametrize("error", [EngineError("died"), EngineRequestError("I see no images")])
@pytest.mark.parametrize("stream", [False, True])
async def test_where_a_cheaper_tier_fails_at_it_the_last_that_takes_it_answers(error: Exception, stream: bool) -> None:
    record = await Asked(BOTH_CAN, cheap=FakeEngine(error=error)).ask(query_of([user(PARTS["image"])]), stream=stream)
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("frontier", "fallback", None)


async def test_sessions_and_tool_loops_hold_no_request_on_a_tier_that_does_not_take_it() -> None:
    at = Asked()
    await at.ask(query_of([user("look")]), session="talk")
    record = await at.ask(query_of([user("look"), user(PARTS["image"])]), session="talk")
    assert record.tier == "frontier"
    tag = at.service.tool_affinity.tag("cheap", "c1", bound([user("look")], None))
    call = {**CALL, "id": tag}
    result = {"role": "tool", "tool_call_id": tag, "content": PARTS["image"][:1]}
    began = query_of([user("look"), {"role": "assistant", "content": None, "tool_calls": [call]}, result])
    record = await at.ask(began)
    assert record.tier == "frontier"
    assert "not held on cheap, which began it" in record.route_reason


def test_a_request_of_text_is_not_read_any_further() -> None:
    at = Asked(dict.fromkeys(LAST_CAN, frozenset()))
    assert at.service.open(Query.from_prompt("hello"), "auto", False).context.policy == at.context.policy
    assert at.service.open(query_of([user("hello")], temperature=0.5), "auto", False).context.unmeasured is None


LADDER = ("small", "medium", "large")
DECLARED = st.fixed_dictionaries({tier: st.frozensets(st.sampled_from(sorted(EVERYTHING))) for tier in LADDER})
REQUESTS = st.builds(
    query_of,
    st.lists(st.sampled_from([user("hello"), *[user([part]) for _, part in KINDS]]), min_size=1, max_size=3),
    tools=st.sampled_from([None, [{"type": "function", "function": {"name": "f"}}]]),
)


@settings(max_examples=150)
@given(DECLARED, REQUESTS, st.sampled_from(LADDER))
def test_a_decision_only_moves_up_and_only_to_a_tier_that_takes_the_request(
    declared: dict[str, frozenset[str]], query: Query, chosen: str
) -> None:
    capable = CapableTiers(LADDER, declared, needs_of(query))
    try:
        decision = capable.apply(Decision(chosen, "so"))
    except RequestError:
        assert all(capable.lacks(tier) for tier in LADDER[LADDER.index(chosen) :])
        return
    assert LADDER.index(decision.tier) >= LADDER.index(chosen)
    assert not capable.lacks(decision.tier)
    if capable.needs.unmeasured is not None:
        assert not decision.promised
        assert not capable.needs.needs_last or decision.tier == capable.able[-1]


@settings(max_examples=60, deadline=None)
@given(
    DECLARED,
    REQUESTS,
    st.sampled_from(LADDER),
    st.sampled_from([Action.ACCEPTED, Action.ESCALATED]),
    st.sets(st.sampled_from(LADDER)),
    st.sampled_from(LADDER),
    st.booleans(),
)
def test_whatever_fails_no_tier_is_ever_asked_for_what_it_does_not_take(
    declared: dict[str, frozenset[str]],
    query: Query,
    chosen: str,
    verdict: Action,
    broken: set[str],
    safe_tier: str,
    stream: bool,
) -> None:
    engines = {tier: FakeEngine(error=EngineError("died") if tier in broken else None) for tier in LADDER}
    made = fake_context(decider=FakeDecider(chosen), judge=FakeJudge(verdict), safe_tier=safe_tier)
    policy = Policy(LADDER, {tier: OperatingPoint(0.5, 0.5) for tier in LADDER[:-1]})
    prices = dict.fromkeys(LADDER, PRICES["cheap"])
    context = replace(made, engines=engines, streams=engines, policy=policy, prices=prices)
    service = Service(context, ListSink(), routing=RoutingContext(0.9, capabilities=declared))

    async def ask() -> None:
        request = service.open(query, "auto", stream)
        if stream:
            assert [chunk async for chunk in service.stream(request)]
        else:
            await service.answer(request)

    with suppress(RequestError, EngineError):
        asyncio.run(ask())
    needs = CapableTiers(LADDER, declared, needs_of(query))
    asked = {tier for tier, engine in engines.items() if engine.queries}
    assert not [tier for tier in asked if needs.lacks(tier)]


@pytest.mark.parametrize(
    ("asked", "outcome", "why_not"),
    [
        ({}, "accepted", None),
        ({"stream": True, "mode": "verify"}, "accepted", None),
        ({"stream": True, "mode": "route"}, "routed", "a stream that is shown unjudged (route)"),
        ({"model": "cheap"}, "forced", "cheap was asked for by name"),
        ({"model": "frontier"}, "forced", "frontier was asked for by name"),
    ],
)
async def test_a_cheap_answer_that_nobody_judged_is_not_promised(
    asked: dict[str, Any], outcome: str, why_not: str | None
) -> None:
    record = await Asked().ask(Query.from_prompt("hello"), **asked)
    assert (record.outcome, record.evidence["promised"]) == (outcome, None if why_not else 0.9)
    assert record.evidence.get("not_promised") == why_not


async def test_a_cheap_fallback_is_not_promised() -> None:
    down = Asked(decider=FakeDecider(error=PolicyUnavailableError("down")), safe_tier="cheap")
    record = await down.ask(Query.from_prompt("hello"))
    assert (record.tier, record.outcome, record.evidence["promised"]) == ("cheap", "fallback", None)
