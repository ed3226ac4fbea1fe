from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.pricing.prices import Price
from router_models.types import Decision, Message, Query
from serve_graph.gateway.context_length import Room, fit_context, prompt_tokens
from serve_graph.gateway.rules import Expectations, hold_tool_loop, keep_session, within_latency
from serve_graph.gateway.sessions import Session

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
