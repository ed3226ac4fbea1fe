"""A chain of three tiers: what is rejected goes to the next one, and is judged there with that tier's own estimate."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from router_models.pricing.prices import Price
from router_models.types import Action, Completion, Decision, DecisionRecord, OperatingPoint, Query, Verdict
from router_models.versions.policy import Policy
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import PRICES, FakeEngine, ListSink, fake_context
from serve_graph.cascade.next_step import advance
from serve_graph.cascade.steps import Answered, Decided, Do, Judged, RequestState, Rules, Started, StreamTerms
from serve_graph.errors import EngineError
from serve_graph.gateway.capabilities import AsleepTiers
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.context_length import Room, fit_context
from serve_graph.gateway.handler import Service
from serve_graph.gateway.rules import raised
from tests.fixtures.serving import Endpoint

LADDER = ("cheap", "medium", "frontier")
POINTS = {"cheap": OperatingPoint(0.2, 0.7), "medium": OperatingPoint(0.4, 0.6)}
CHAIN = Policy(LADDER, POINTS, chain=True)
ESTIMATES = {"cheap": 0.3, "medium": 0.5}
QUERY = Query.from_prompt("why?")


class Judge:
    """Gives each tier's answer the estimate that is set for it, and keeps what it was shown."""

    def __init__(self, policy: Policy, **p_ok: float) -> None:
        self.policy, self.p_ok = policy, p_ok
        self.shown: list[tuple[str, float | None]] = []

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        self.shown.append((decision.tier, decision.p_cheap_ok))
        return self.policy.judge(decision.tier, self.p_ok[decision.tier])


class Router:
    def __init__(self, policy: Policy, estimates: dict[str, float]) -> None:
        self.policy, self.estimates = policy, estimates

    async def decide(self, query: Query) -> Decision:
        return self.policy.decide(self.estimates)


def chain(policy: Policy = CHAIN, middle: FakeEngine | None = None, **p_ok: float) -> CascadeContext:
    made = fake_context()
    engines = {**made.engines, "medium": middle or FakeEngine("medium says")}
    prices = {**PRICES, "medium": Price(Decimal(3), Decimal(6))}
    return replace(
        made,
        engines=engines,
        streams=engines,
        prices=prices,
        policy=policy,
        decider=Router(policy, ESTIMATES),
        judge=Judge(policy, **p_ok),
    )


async def asked(
    context: CascadeContext, *, stream: bool = False, terms: StreamTerms | None = None, **routing: Any
) -> tuple[str, DecisionRecord]:
    """The text that was shown, and the record."""
    sink = ListSink()
    service = Service(context, sink, terms, routing=RoutingContext(0.9, harm=True, **routing))
    request = service.open(QUERY, "auto", stream)
    if stream:
        chunks = [chunk async for chunk in service.stream(request)]
        text = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])
    else:
        text = (await service.answer(request))["choices"][0]["message"]["content"]
    return text, sink.records[0]


def tiers_of(record: DecisionRecord) -> Sequence[tuple[str, str]]:
    return [(call.tier, call.what) for call in record.calls]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_first_tier_fails_at_the_second_one_answers_and_both_are_on_the_bill(stream: bool) -> None:
    context = chain(cheap=0.1, medium=0.65)
    text, record = await asked(context, stream=stream)
    assert text == "medium says"
    assert (record.tier, record.outcome) == ("medium", "accepted")
    assert tiers_of(record) == [("cheap", "attempt"), ("medium", "answer")]
    assert [call.cost_usd for call in record.calls] == [Decimal("0.00002"), Decimal("0.00006")]
    assert [line.what for line in record.overhead].count("judging") == 2
    assert (record.evidence["pattern"], record.evidence["layer"]) == ("chain", "verifier")
    assert (record.evidence["promised"], record.p_answer_ok) == (0.9, 0.65)
    assert "cheap's answer was rejected: medium" in record.route_reason
    assert context.judge.shown == [("cheap", 0.3), ("medium", 0.5)], "each with the router's estimate of its own tier"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_tier_answers_what_every_other_fails_at(stream: bool) -> None:
    text, record = await asked(chain(cheap=0.1, medium=0.1), stream=stream)
    assert (text, record.outcome) == ("frontier says", "escalated")
    assert [call.tier for call in record.calls] == list(LADDER)


async def test_a_tier_that_the_router_would_not_try_is_passed_over() -> None:
    points = POINTS | {"medium": OperatingPoint(0.8, 0.6)}
    _, record = await asked(chain(Policy(LADDER, points, chain=True), cheap=0.1))
    assert [call.tier for call in record.calls] == ["cheap", "frontier"]


async def test_without_a_chain_what_is_rejected_goes_to_the_last_tier() -> None:
    policy = Policy(LADDER, POINTS)
    _, record = await asked(chain(policy, cheap=0.1))
    assert [call.tier for call in record.calls] == ["cheap", "frontier"]
    assert policy.pattern == record.evidence["pattern"] == "layered"


async def test_a_link_that_accepts_everything_is_asked_without_a_verdict() -> None:
    points = POINTS | {"medium": OperatingPoint(0.4, float("-inf"))}
    context = chain(Policy(LADDER, points, chain=True), cheap=0.1)
    for stream in (False, True):
        text, record = await asked(context, stream=stream)
        assert (text, record.tier, record.outcome) == ("medium says", "medium", "escalated")
        assert record.evidence["promised"] == 0.9
    assert context.judge.shown == [("cheap", 0.3)] * 2


async def test_where_a_link_fails_the_last_tier_takes_over_and_nothing_is_promised() -> None:
    context = replace(chain(middle=FakeEngine(error=EngineError("died")), cheap=0.1), safe_tier="cheap")
    for stream in (False, True):
        text, record = await asked(context, stream=stream)
        assert (text, record.outcome) == ("frontier says", "fallback")
        assert "promised" not in record.evidence or record.evidence["promised"] is None


async def test_what_could_not_be_judged_goes_to_the_last_tier_at_once() -> None:
    context = chain(cheap=0.1, medium=0.9)

    class Blind(Judge):
        async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
            return Verdict(Action.ESCALATED, "not judged: no signals", promised=False)

    _, record = await asked(replace(context, judge=Blind(CHAIN)))
    assert [call.tier for call in record.calls] == ["cheap", "frontier"]


async def test_a_chain_ends_where_time_is_left_for_the_last_tier_alone() -> None:
    _, record = await asked(chain(cheap=0.1, medium=0.9), stream=True, terms=StreamTerms(first_token_s=5.0))
    assert [call.tier for call in record.calls] == ["cheap", "frontier"], "something has to be shown in time"
    rules = Rules(CHAIN, "frontier", False, "frontier", deadline_s=30.0, reserve_s=8.0)
    for left_s, tier in ((9.0, "medium"), (8.0, "frontier")):
        state = RequestState()
        rejected = Judged([Verdict(Action.ESCALATED, "no", 0.1)], left_s)
        for event in (Started(rules, 30.0), Decided(CHAIN.decide(ESTIMATES)), Answered(Completion("cheap says"))):
            advance(state, event)
        step = advance(state, rejected)
        assert (step.do, step.tier, step.on_trial) == (Do.CALL, tier, tier == "medium")


def test_a_decision_that_is_moved_has_no_chain_any_more() -> None:
    decision = CHAIN.decide(ESTIMATES)
    assert decision.then == (("medium", 0.5),)
    assert decision.after("cheap") == "medium"
    assert decision.after("medium") is decision.after("frontier") is None
    moved = raised(decision, "medium", "so", LADDER)
    assert (moved.tier, moved.then) == ("medium", ())
    assert moved.after("medium") is None


def test_a_link_that_cannot_take_the_request_is_left_out_and_nothing_is_promised_then() -> None:
    decision = CHAIN.decide(ESTIMATES)
    asleep = AsleepTiers(tiers=frozenset({"medium"})).apply(decision, LADDER)
    rooms = {tier: Room(4 if tier == "medium" else None, 10) for tier in LADDER}
    for shortened in (asleep, fit_context(decision, QUERY, rooms, LADDER)):
        assert (shortened.tier, shortened.then) == ("cheap", ())
        assert shortened.moved is not None
        assert "medium" in shortened.moved


async def test_a_chain_is_served_over_http() -> None:
    endpoint = Endpoint(chain(cheap=0.1, medium=0.65), ListSink())
    whole = await endpoint.chat()
    assert whole.headers["x-serve-graph-tier"] == "medium"
    assert whole.headers["x-serve-graph-outcome"] == "accepted"
    assert whole.json()["choices"][0]["message"]["content"] == "medium says"
    streamed = await endpoint.chat(stream=True)
    assert "medium" in streamed.text
    assert [record.tier for record in endpoint.sink.records] == ["medium", "medium"]
    assert [len(record.calls) for record in endpoint.sink.records] == [2, 2]
