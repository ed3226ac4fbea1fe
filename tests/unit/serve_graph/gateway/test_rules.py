from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.metrics.score_shares import ScoreShares
from router_models.pricing.prices import Price
from router_models.types import Action, Decision, DecisionRecord, Message, Query
from router_models.types.coverage import Coverage, Uncovered
from serve_graph.access.caller import CALLER, Caller
from serve_graph.cascade.fakes import FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamTerms
from serve_graph.config.access import KeyConfig
from serve_graph.errors import AccessError, RequestError
from serve_graph.gateway.arms import RolloutArms
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.context_length import Room, fit_context, prompt_tokens
from serve_graph.gateway.handler import Service
from serve_graph.gateway.rules import Expectations, by_share, hold_tool_loop, keep_session, within_latency
from serve_graph.gateway.sessions import Session
from serve_graph.policy.served_version import ServedRollout
from serve_graph.protocol.requests import RequestOptions

TIERS = ("cheap", "middle", "frontier")
ROOMS = {"cheap": Room(1_000, 100), "middle": Room(4_000, 100), "frontier": Room(100_000, 100)}
CHEAP = Decision("cheap", "estimated 0.9", 0.9)


def of_tokens(n: int) -> Query:
    return Query.from_prompt("x" * int((n - 8) * 2.5))


@pytest.mark.parametrize(
    ("tokens", "tier"), [(900, "cheap"), (901, "middle"), (3_901, "frontier"), (99_901, "frontier")]
)
def test_a_prompt_goes_to_the_first_tier_from_the_chosen_one_that_it_fits(tokens: int, tier: str) -> None:
    decision = fit_context(CHEAP, of_tokens(tokens), ROOMS, TIERS)
    assert decision.tier == tier
    assert ("may not fit cheap's 1000" in decision.reason) is (tier != "cheap")


@pytest.mark.parametrize(
    ("contexts", "chosen", "tier"),
    [
        ((50_000, 50_000, 1_000), "frontier", "frontier"),  # a larger tier below is no way out
        ((1_000, 1_000, 1_000), "cheap", "frontier"),  # equally large: the dearer one
        ((1_000, 2_000, 1_500), "cheap", "middle"),
        ((2_000, 1_000, 1_000), "cheap", "cheap"),
        ((2_000, 1_000, 1_000), "middle", "frontier"),
    ],
)
def test_a_prompt_that_fits_nowhere_goes_to_the_largest_from_the_chosen_tier_up(
    contexts: tuple[int, ...], chosen: str, tier: str
) -> None:
    rooms = {name: Room(tokens, 10) for name, tokens in zip(TIERS, contexts, strict=True)}
    decision = fit_context(Decision(chosen, "x"), of_tokens(60_000), rooms, TIERS)
    assert decision.tier == tier
    assert "nor any dearer tier's" in decision.reason


def test_a_tier_whose_context_is_not_known_takes_any_prompt() -> None:
    rooms = {"cheap": Room(1_000, 100), "middle": Room(None, 100), "frontier": Room(100_000, 100)}
    assert fit_context(CHEAP, of_tokens(3_000_000), rooms, TIERS).tier == "middle"
    assert fit_context(Decision("middle", "x"), of_tokens(3_000_000), rooms, TIERS) == Decision("middle", "x")


def test_a_tool_loop_is_held_upwards_only() -> None:
    assert hold_tool_loop(CHEAP, "middle", TIERS).tier == "middle"
    assert hold_tool_loop(Decision("frontier", "x"), "middle", TIERS).tier == "frontier"
    assert hold_tool_loop(CHEAP, "not in this ladder", TIERS).tier == "cheap"


def test_the_answer_needs_room_too() -> None:
    query = Query((Message("user", "hello"),), {}, {"max_tokens": 991})
    assert fit_context(CHEAP, query, ROOMS, TIERS).tier == "middle"


def test_the_whole_conversation_counts_and_tools_with_it() -> None:
    last = Query((Message("user", "and now?"),))
    talk = Query((Message("user", "long " * 1_000), Message("assistant", "yes"), *last.messages))
    tools = Query(last.messages, {}, {"tools": [{"type": "function", "function": {"name": "f" * 5_000}}]})
    assert prompt_tokens(talk) > 2_000 > prompt_tokens(last)
    assert fit_context(CHEAP, talk, ROOMS, TIERS).tier == "middle"
    assert fit_context(CHEAP, tools, ROOMS, TIERS).tier == "middle"


@given(st.text(max_size=500), st.text(max_size=500))
def test_more_text_is_never_fewer_tokens(a: str, b: str) -> None:
    assert prompt_tokens(Query.from_prompt(a + b)) >= prompt_tokens(Query.from_prompt(a))


@pytest.mark.parametrize(
    ("budget_s", "tier", "why"),
    [(5.0, "cheap", "estimated"), (2.5, "frontier", "may take 3.00 s"), (1.0, "cheap", "may miss it too")],
)
def test_a_latency_budget_skips_the_try_that_it_has_no_time_for(budget_s: float, tier: str, why: str) -> None:
    decision = within_latency(CHEAP, budget_s, {"cheap": 1.0, "frontier": 2.0}, TIERS)
    assert decision.tier == tier
    assert why in decision.reason


def test_a_latency_budget_never_makes_a_request_cheaper_and_says_that_it_may_be_missed() -> None:
    top = Decision("frontier", "below")
    decision = within_latency(top, 0.001, {"cheap": 0.0001, "frontier": 9.0}, TIERS)
    assert decision.tier == "frontier"
    assert "latency budget 0.001 s: frontier may take 9.00 s, and no cheaper tier replaces it" in decision.reason
    assert within_latency(top, 9.0, {"cheap": 0.0001, "frontier": 9.0}, TIERS) == top


def test_unknown_latencies_change_nothing_and_say_so() -> None:
    decision = within_latency(CHEAP, 1.0, {"cheap": None, "frontier": 2.0}, TIERS)
    assert decision.tier == "cheap"
    assert "no latencies known" in decision.reason


WARM = Price(Decimal("0.20"), Decimal("0.60"), Decimal("0.01"))
PRICES = {"frontier": WARM, "cheap": Price(Decimal("0.15"), Decimal("0.60"))}
TALK = Session("frontier", 10_000, 50, "", 0.0)
ONE_TURN = Expectations(1.0, 100)


def test_a_warm_conversation_stays_where_that_is_cheaper() -> None:
    decision = keep_session(CHEAP, TALK, PRICES, TIERS, ONE_TURN)
    assert decision.tier == "frontier"
    assert "session stays" in decision.reason


def test_a_cold_or_small_one_moves_and_says_what_was_compared() -> None:
    sure = Decision("cheap", "estimated 0.99", 0.99)
    decision = keep_session(sure, Session("frontier", 10, 50, "", 0.0), PRICES, TIERS, ONE_TURN)
    assert decision.tier == "cheap"
    assert "session moves" in decision.reason


def test_the_router_is_obeyed_when_it_wants_the_dearer_tier() -> None:
    up = Decision("frontier", "below", 0.2)
    assert keep_session(up, Session("cheap", 10_000, 50, "", 0.0), PRICES, TIERS, ONE_TURN) == up


SCORES = ScoreShares((0.0, 0.25, 0.5, 0.75, 1.0))
NOVEL = Uncovered("novel", "far from what was certified")


class Router:
    """Reads its estimate from the prompt; of a prompt that says `novel` the version sends it to the last tier."""

    async def decide(self, query: Query) -> Decision:
        estimate = float(query.text.split()[-1])
        if "novel" in query.text:
            return Decision("frontier", "novel", estimate, 2.0, promised=False, uncovered=NOVEL)
        return Decision("frontier" if estimate < 0.99 else "cheap", "as certified", estimate, 0.1)


def service(share: float | None = None, scores: ScoreShares = SCORES, **routing: Any) -> Service:
    context = fake_context(decider=Router(), judge=FakeJudge(Action.ESCALATED))
    return Service(
        context,
        ListSink(),
        StreamTerms(),
        routing=RoutingContext(0.9, share=share, score_shares=scores, coverage=Coverage(novelty=1.0), **routing),
    )


async def asked(of: Service, prompt: str, model: str = "auto", stream: bool = False, **options: Any) -> DecisionRecord:
    request = of.open(Query.from_prompt(prompt), model, stream, RequestOptions.model_validate(options))
    if stream:
        assert [chunk async for chunk in of.stream(request)]
    else:
        assert await of.answer(request)
    sink = of.sink
    assert isinstance(sink, ListSink)
    return sink.records[-1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("share", "estimate", "tier"),
    [
        (0.0, 0.0, "cheap"),
        (0.3, 0.29, "frontier"),
        (0.3, 0.31, "cheap"),
        (0.9, 0.31, "frontier"),
        (1.0, 1.0, "frontier"),
    ],
)
async def test_the_lowest_estimates_go_to_the_last_tier_and_nobody_judges_the_others(
    share: float, estimate: float, tier: str, stream: bool
) -> None:
    """The judge of these tests would escalate everything."""
    for record in (
        await asked(service(), f"p {estimate}", stream=stream, cost_quality=share),
        await asked(service(share), f"p {estimate}", stream=stream),
    ):
        assert (record.tier, record.outcome) == (tier, "routed")
        assert [call.tier for call in record.calls] == [tier]
        assert record.evidence["promised"] is None
        assert "a share of" in record.evidence["not_promised"]
        assert f"a share of {share:g} to frontier, not a promise" in record.route_reason
        assert "uncovered" not in record.evidence


async def test_the_share_counts_where_the_certificate_does_not_cover_the_request() -> None:
    """Nothing is promised either way; `policy.uncovered` is about the certificate."""
    record = await asked(service(), "novel 0.9", cost_quality=0.3)
    assert (record.tier, record.evidence.get("uncovered")) == ("cheap", None)
    assert (await asked(service(), "novel 0.9")).tier == "frontier"


@pytest.mark.parametrize("stream", [False, True])
async def test_below_a_share_an_answer_that_is_not_the_declared_json_is_sent_on(stream: bool) -> None:
    """The fake's text is no JSON. Nobody estimates anything: the rule alone looks at it, and the reason says so."""
    asked_for_json = replace(Query.from_prompt("p 0.9"), parameters={"response_format": {"type": "json_object"}})
    of = service(0.3)
    request = of.open(asked_for_json, "auto", stream)
    if stream:
        assert [chunk async for chunk in of.stream(request)]
    else:
        assert await of.answer(request)
    assert isinstance(of.sink, ListSink)
    record = of.sink.records[-1]
    assert (record.tier, record.outcome) == ("frontier", "escalated")
    assert [call.tier for call in record.calls] == ["cheap", "frontier"]
    assert record.verdict_reason == "the answer is not the JSON that response_format asks for"
    assert record.p_answer_ok is None
    assert record.evidence["layer"] == "check"


async def test_a_request_without_a_share_is_answered_as_certified() -> None:
    assert (await asked(service(), "p 0.5")).tier == "frontier"
    assert (await asked(service(), "p 1")).outcome == "escalated"
    assert "a share" not in (await asked(service(), "p 1")).route_reason


async def test_a_quality_floor_and_a_chosen_tier_take_a_request_out_of_the_configured_share() -> None:
    floor = await asked(service(0.0), "p 0.5", quality_floor=0.5)
    assert (floor.tier, "a share" in floor.route_reason) == ("frontier", False)
    assert (await asked(service(0.0), "p 0.5", model="frontier")).outcome == "forced"


async def test_a_requests_own_share_counts_before_the_configured_one() -> None:
    assert (await asked(service(1.0), "p 0.5", cost_quality=0.0)).tier == "cheap"
    zero = await asked(service(), "p 0.5", cost_quality=0.0)
    assert zero.evidence["wishes"] == {"cost_quality": 0.0}


@pytest.mark.parametrize(
    ("options", "model", "said"),
    [
        ({"cost_quality": 0.3, "quality_floor": 0.5}, "auto", "not a promise"),
        ({"cost_quality": 0.3}, "cheap", "was asked for"),
    ],
)
def test_a_share_beside_what_speaks_against_it_is_refused(options: dict[str, Any], model: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        service().open(Query.from_prompt("p 1"), model, False, RequestOptions.model_validate(options))


def test_a_share_is_refused_where_the_version_does_not_know_its_scores() -> None:
    with pytest.raises(RequestError, match="does not know how its scores are distributed"):
        service(scores=ScoreShares()).open(Query.from_prompt("p 1"), "auto", False, RequestOptions(cost_quality=0.5))


async def test_a_configured_share_waits_for_a_version_that_knows_its_scores() -> None:
    assert "a share" not in (await asked(service(0.0, ScoreShares()), "p 0.5")).route_reason


def test_a_key_that_is_limited_in_quality_has_no_share() -> None:
    key = KeyConfig.model_validate({"name": "k", "sha256": "0" * 64, "max_quality_floor": 0.5})
    token = CALLER.set(Caller(key))
    try:
        with pytest.raises(AccessError, match="no cost_quality"):
            service().open(Query.from_prompt("p 1"), "auto", False, RequestOptions(cost_quality=0.5))
    finally:
        CALLER.reset(token)


def test_without_an_estimate_the_last_tier_answers_unless_none_is_to_go_there() -> None:
    known = Decision("frontier", "too long", None, promised=False)
    assert by_share(known, 0.1, SCORES, TIERS).tier == "frontier"
    assert by_share(known, 0.0, SCORES, TIERS).tier == "cheap"
    assert by_share(replace(known, p_cheap_ok=0.5), 0.1, SCORES, TIERS).tier == "cheap"


@pytest.mark.parametrize(("promised", "tier"), [(True, "frontier"), (False, "cheap")])
def test_what_is_not_sent_on_has_the_whole_budget_of_latency(promised: bool, tier: str) -> None:
    decision = replace(CHEAP, promised=promised)
    assert within_latency(decision, 5.0, {"cheap": 1.0, "frontier": 4.5}, TIERS).tier == tier


async def test_a_share_is_recorded_and_part_of_no_rollout() -> None:
    of = service()
    assert (await asked(of, "p 0.5", cost_quality=0.3)).evidence["share"] == 0.3
    assert "share" not in (await asked(of, "p 0.5")).evidence
    rollout = ServedRollout("rol-1", "canary", 1.0, 0.1, candidate=None)  # type: ignore[arg-type]
    of.try_beside(RolloutArms(rollout, of.context, RoutingContext(0.9)))
    assert "rollout" in (await asked(of, "p 0.5")).evidence
    assert "rollout" not in (await asked(of, "p 0.5", cost_quality=0.3)).evidence
