"""What was promised of a delivered answer: nothing, unless nothing but the certified policy let it out."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from router_models.types import Action, Completion, Decision, OperatingPoint, PrefixPoint, Query, Verdict
from router_models.types.coverage import Uncovered
from router_models.versions.policy import OverloadPoint, Policy
from serve_graph.cascade.certificate import CertificateSnapshot
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import RequestState, StreamMode, StreamTerms
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.context_length import Room
from serve_graph.gateway.handler import Service
from serve_graph.gateway.promise import AnswerPromise, CertifiedShares, RequestFacts, answer_promise, set_apart
from serve_graph.protocol.requests import RequestOptions

POINT = OperatingPoint(0.5, 0.5)
POLICY = Policy(("cheap", "frontier"), {"cheap": POINT}, overload_points={"cheap": OverloadPoint(0.3, 0.2)})
ABSTAINING = Policy(("cheap", "frontier"), {"cheap": POINT, "frontier": OperatingPoint(0.5, 0.5, 0.1)})
CHEAP = Decision("cheap", "so")
ACCEPT, ESCALATE = Verdict(Action.ACCEPTED, "so", 0.9), Verdict(Action.ESCALATED, "so", 0.4)
CALL = {"choices": [{"message": {"tool_calls": [{"function": {"name": "now"}}]}}]}
SHARES = CertifiedShares(0.9, prefixes={"cheap": 0.8})
JOINT = CertifiedShares(0.9, joint=True)


def context(**changes: Any) -> CascadeContext:
    return replace(fake_context(), policy=POLICY, **changes)


def accepted(**changes: Any) -> RequestState:
    values: Mapping[str, Any] = {
        "tier": "cheap",
        "action": Action.ACCEPTED,
        "decision": CHEAP,
        "verdict": ACCEPT,
        "completion": Completion("yes"),
    }
    return RequestState(**{**values, **changes})


def escalated(**changes: Any) -> RequestState:
    return accepted(**{"tier": "frontier", "action": Action.ESCALATED, "verdict": ESCALATE, **changes})


def test_an_accepted_cheap_answer_has_the_certified_share() -> None:
    assert answer_promise(SHARES, context(), accepted()) == AnswerPromise(0.9, "accepted cheap answers")
    assert answer_promise(SHARES, context()) == AnswerPromise(0.9, "accepted cheap answers"), "before it is generated"
    assert answer_promise(JOINT, context(), escalated()) == AnswerPromise(0.9, "answers")


def test_under_a_promise_of_harm_the_share_is_of_answers_that_are_no_worse_than_the_last_tiers() -> None:
    shares = replace(SHARES, harm=True)
    right = "to be right or no worse than the last tier's"
    assert answer_promise(shares, context(), accepted()) == AnswerPromise(0.9, f"accepted cheap answers, {right}")
    begun = answer_promise(shares, context(), accepted(by_prefix=True))
    assert begun == AnswerPromise(0.8, f"cheap answers accepted by their first tokens, {right}")
    last = answer_promise(shares, context(), escalated())
    assert (last.share, last.why_not is None) == (None, False), "nothing is said of the last tier's own errors"


ENDINGS: Mapping[str, tuple[RequestState, str]] = {
    "the last tier, escalated": (escalated(), "the last tier, answered"),
    "the last tier, routed": (
        accepted(tier="frontier", action=Action.ROUTED, decision=Decision("frontier", "so"), verdict=None),
        "the last tier, answered",
    ),
    "unjudged": (accepted(action=Action.ROUTED, verdict=None), "was not judged"),
    "router or verifier down": (accepted(action=Action.FALLBACK, decision=None, verdict=None), "was not routed"),
    "verifier down": (accepted(action=Action.FALLBACK, verdict=None), "answered as a fallback"),
    "asked for by name": (accepted(action=Action.FORCED, decision=None, verdict=None), "was not routed"),
    "a slice without proof": (accepted(decision=replace(CHEAP, promised=False, reason="open")), "open"),
    "moved by a rule": (accepted(decision=replace(CHEAP, moved="a session stays")), "a session stays"),
    "a verdict by rule": (accepted(verdict=replace(ACCEPT, promised=False, reason="a call")), "a call"),
    "a tool call": (accepted(completion=Completion("", payload=CALL)), "calls tools"),
    "withheld": (accepted(action=Action.ABSTAINED, verdict=Verdict(Action.ABSTAINED, "so")), "no answer was shown"),
    "no answer": (accepted(completion=None), "no answer was given in full"),
}


@pytest.mark.parametrize(("end", "why"), ENDINGS.values(), ids=ENDINGS)
def test_an_answer_that_went_another_way_is_promised_nothing(end: RequestState, why: str) -> None:
    found = answer_promise(SHARES, context(), end)
    assert found.share is None
    assert why in (found.why_not or "")


def test_an_answer_that_broke_off_is_promised_nothing() -> None:
    assert answer_promise(SHARES, context(), accepted(), failed=True).share is None


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (escalated(unjudged=True), "was not judged"),
        (escalated(verdict=None), "without a verdict"),
        (escalated(decision=replace(CHEAP, moved="a quality floor")), "a quality floor"),
        (escalated(action=Action.FALLBACK), "fallback"),
        (escalated(verdict=replace(ESCALATE, promised=False, reason="a short one")), "a short one"),
    ],
)
def test_a_promise_of_all_answers_needs_the_last_tiers_to_have_come_the_certified_way(
    end: RequestState, why: str
) -> None:
    found = answer_promise(JOINT, context(), end)
    assert (found.share, found.of) == (None, "answers")
    assert why in (found.why_not or "")


def test_answers_shown_early_and_on_overload_have_promises_of_their_own() -> None:
    early = accepted(by_prefix=True)
    assert answer_promise(SHARES, context(), early) == AnswerPromise(
        0.8, "cheap answers accepted by their first tokens"
    )
    assert answer_promise(CertifiedShares(0.9), context(), early).share is None
    full = accepted(action=Action.FALLBACK, verdict=ESCALATE, served_on_overload=True)
    assert answer_promise(SHARES, context(), full) == AnswerPromise(0.8, "answers served on overload")
    over = datetime(2026, 1, 1, tzinfo=UTC)
    for name, end in (("prefix:cheap", early), ("spill:cheap", full)):
        ended = CertificateSnapshot(ends={name: (over, f"{name} is over")}, clock=lambda: over + timedelta(days=1))
        assert answer_promise(SHARES, context(certificate=ended), end).why_not == f"{name} is over"
        assert answer_promise(SHARES, context(certificate=ended), accepted()).share == 0.9


def test_nothing_is_promised_where_nothing_is_certified_or_the_request_is_not_covered() -> None:
    assert answer_promise(CertifiedShares(), context(), accepted()).why_not == "nothing is certified"
    for changes in ({"unmeasured": "so"}, {"uncovered": Uncovered("turns", "so")}, {"set_apart": "so"}):
        for end in (None, accepted()):
            found = answer_promise(SHARES, context(**changes), end)
            assert found == AnswerPromise(None, SHARES.of, found.why_not)
            assert found.why_not in ("so", "the certificate does not cover this request: so")
    novel = accepted(decision=replace(CHEAP, uncovered=Uncovered("novelty", "far")))
    assert answer_promise(SHARES, context(), novel).why_not == "the certificate does not cover this request: far"
    void = CertificateSnapshot({"answers": "it expired"})
    assert answer_promise(SHARES, context(certificate=void), accepted()).why_not == "it expired"


ROUTE, SOON = StreamTerms(StreamMode.ROUTE), StreamTerms(first_token_s=1.0)
PLAIN = RequestFacts()


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (PLAIN, None),
        (replace(PLAIN, stream=StreamTerms(StreamMode.PREFIX)), None),
        (replace(PLAIN, choices=4), "4 answers at once"),
        (replace(PLAIN, judged_whole="a shape is judged whole"), "a shape is judged whole where others"),
        (replace(PLAIN, forced="cheap"), "cheap was asked for by name"),
        (replace(PLAIN, tool_loop="cheap"), "cheap began the tool loop"),
        (replace(PLAIN, is_continued=True), "a conversation that is remembered"),
        (replace(PLAIN, has_latency_budget=True), "a latency budget"),
        (replace(PLAIN, has_own_deadline=True), "a deadline of the request's own"),
        (replace(PLAIN, deadline_s=30.0, reserve_s=2.0, whole_try_s=29.0), "a deadline of 30 s"),
        (replace(PLAIN, deadline_s=30.0, reserve_s=2.0, whole_try_s=28.0), None),
        (replace(PLAIN, stream=SOON), "within 1 s"),
        (replace(PLAIN, stream=SOON, whole_try_s=1.0), None),
        (replace(PLAIN, stream=ROUTE), "shown unjudged"),
        (replace(PLAIN, stream=ROUTE, asks_quality=True), None),
        (replace(PLAIN, forbids_abstaining=True), None),
    ],
)
def test_what_a_request_asks_sets_it_apart_before_anything_is_generated(facts: RequestFacts, why: str | None) -> None:
    found = set_apart(facts, False, ABSTAINING)
    assert (found is None) if why is None else (why in (found or ""))


def test_without_the_abstentions_that_it_counts_on_a_joint_promise_is_none() -> None:
    for facts in (replace(PLAIN, forbids_abstaining=True), replace(PLAIN, stream=StreamTerms())):
        assert "abstentions" in (set_apart(facts, True, ABSTAINING) or "")
        assert set_apart(facts, True, POLICY) is None
    assert set_apart(PLAIN, True, ABSTAINING) is None


@pytest.mark.parametrize(
    ("asked", "parameters", "why"),
    [
        ({}, {}, None),
        ({}, {"n": 4}, "4 answers at once"),
        ({"latency_budget_s": 9.0}, {}, "a latency budget"),
        ({"deadline_s": 9.0}, {}, "a deadline of the request's own"),
        ({"session": "talk"}, {}, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_floor_that_is_not_promised_is_met_by_the_last_tier_before_anything_else_is_asked(
    asked: dict[str, Any], parameters: dict[str, Any], why: str | None, stream: bool
) -> None:
    for floor in (None, 0.9):
        cheap, sink = FakeEngine("yes"), ListSink()
        shared = fake_context(cheap, decider=FakeDecider("cheap"), judge=FakeJudge(Action.ACCEPTED))
        service = Service(shared, sink, routing=RoutingContext(0.9))
        options = RequestOptions.model_validate({**asked, "quality_floor": floor})
        query = replace(Query.from_prompt("hello"), parameters=parameters)
        request = service.open(query, "auto", stream, options)
        if stream:
            assert [chunk async for chunk in service.stream(request)]
        else:
            await service.answer(request)
        record = sink.records[-1]
        to_last = floor is not None and why is not None
        assert record.tier == ("frontier" if to_last else "cheap")
        assert bool(cheap.queries) is not to_last
        assert record.evidence["promised"] == (0.9 if why is None else None)
        assert (why or "") in record.evidence.get("not_promised", "")
        assert not to_last or f"quality floor 0.9: {why}" in record.route_reason


@pytest.mark.parametrize(
    ("longest", "parameters", "crowds"),
    [
        (4_000, {}, False),  # 1,600 tokens, 8 of the message and 256 of the answer
        (4_500, {}, True),
        (4_000, {"max_tokens": 1_000}, True),
        (4_500, {"max_completion_tokens": 100}, False),
        (
            4_000,
            {"messages": [{"role": "system", "content": "x" * 1_000}, {"role": "user", "content": "hello"}]},
            True,
        ),
    ],
)
async def test_where_some_certified_prompts_would_not_fit_nothing_is_promised_of_those_that_do(
    longest: int, parameters: dict[str, Any], crowds: bool
) -> None:
    rooms = {"cheap": Room(2_048, 256), "frontier": Room(None, 256)}
    for known in (longest, None):
        sink = ListSink()
        shared = fake_context(FakeEngine("yes"), decider=FakeDecider("cheap"), judge=FakeJudge(Action.ACCEPTED))
        service = Service(shared, sink, routing=RoutingContext(0.9, rooms=rooms, longest_prompt=known))
        request = service.open(replace(Query.from_prompt("hello"), parameters=parameters), "auto", False)
        await service.answer(request)
        found = sink.records[-1]
        assert found.tier == "cheap"
        assert (found.evidence["promised"] is None) is (crowds and known is not None)
        assert (
            "less room than certified prompts took" in found.evidence.get("not_promised", "")
            or not crowds
            or not known
        )


async def test_a_shape_in_a_prefix_stream_is_promised_nothing_and_in_any_other_what_is_certified() -> None:
    policy = replace(POLICY, prefixes={"cheap": PrefixPoint(3, 0.5)})
    parameters = {"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "hello"}]}
    query = replace(Query.from_prompt("hello"), parameters=parameters)
    for mode, points, promised in (("prefix", policy, None), ("verify", policy, 0.9), ("prefix", POLICY, 0.9)):
        sink = ListSink()
        shared = fake_context(FakeEngine("{}"), decider=FakeDecider("cheap"), judge=FakeJudge(Action.ACCEPTED))
        service = Service(replace(shared, policy=points), sink, routing=RoutingContext(0.9))
        request = service.open(query, "auto", True, RequestOptions.model_validate({"stream": mode}))
        assert [chunk async for chunk in service.stream(request)]
        assert sink.records[-1].evidence["promised"] == promised


def test_a_try_without_an_end_is_cut_off_by_any_deadline() -> None:
    assert set_apart(replace(PLAIN, deadline_s=1e9, whole_try_s=math.inf), False, POLICY) is not None


@pytest.mark.parametrize("stream", [StreamTerms(StreamMode.ROUTE), StreamTerms(first_token_s=0.1)])
def test_a_stream_that_waits_for_nothing_is_the_certified_way_of_what_is_pre_routed(stream: StreamTerms) -> None:
    facts = RequestFacts(stream=stream, whole_try_s=5.0)
    assert set_apart(facts, False, POLICY) is not None
    assert set_apart(facts, False, Policy(POLICY.tiers, {"cheap": OperatingPoint(0.5, -math.inf)})) is None
