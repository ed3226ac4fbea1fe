from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.pricing.session_cost import Conversation, session_cost

WARM = Price(Decimal("2.50"), Decimal("10"), Decimal("0.25"))
OTHER = Price(Decimal("0.15"), Decimal("0.60"))
TALK = Conversation(prefix=10_000, cached=10_000, new=100, answer=50, turns=2, p_escalate=0.25)
count = st.integers(0, 200_000)
talks = st.builds(Conversation, count, count, count, count, st.floats(1, 50), st.floats(0, 1))
rates = st.decimals(0, 100, places=4)
prices = st.builds(Price, rates, rates, st.none() | rates, st.none() | rates)


def test_both_amounts_by_hand() -> None:
    found = session_cost(TALK, WARM, OTHER)
    # stay: 2 turns x (10,000 x 0.25 + 100 x 2.50 + 50 x 10) = 2 x 3,250 millionths
    # move: 2 turns x (10,000 x 0.15 + 100 x 0.15 + 50 x 0.60) = 2 x 1,545 millionths, and a quarter of staying
    assert found.stay_usd == Decimal("0.0065")
    assert found.move_usd == Decimal("0.00309") + Decimal("0.0065") / 4
    assert not found.stay
    assert "moves" in found.reason


def test_a_warm_cache_is_worth_staying_for_where_the_move_would_mostly_be_escalated() -> None:
    found = session_cost(replace(TALK, p_escalate=0.9), WARM, OTHER)
    assert found.stay
    assert "stays" in found.reason


def test_a_cold_prefix_is_no_reason_to_stay() -> None:
    dearer = Price(Decimal("0.20"), Decimal("0.60"), Decimal("0.01"))
    warm, cold = (session_cost(replace(TALK, cached=n, turns=1, p_escalate=0.0), dearer, OTHER) for n in (10_000, 0))
    assert warm.stay
    assert not cold.stay


def test_the_cache_write_surcharge_of_the_other_tier_counts_once() -> None:
    one, two = (
        session_cost(
            replace(TALK, turns=turns, p_escalate=0.0), WARM, replace(OTHER, cache_write_usd_per_mtok=Decimal(9))
        )
        for turns in (1, 2)
    )
    assert two.move_usd - one.move_usd == Decimal("0.001545")  # the second turn reads what the first one wrote


@given(talks, prices)
def test_between_equal_prices_a_conversation_stays(talk: Conversation, price: Price) -> None:
    if price.rates(0).cached_rate <= price.rates(0).write_rate:
        assert session_cost(talk, price, price).stay


@given(talks, prices, prices, st.integers(1, 10_000))
def test_more_of_the_prefix_in_the_cache_never_makes_a_stayer_move(
    talk: Conversation, warm: Price, other: Price, more: int
) -> None:
    if warm.rates(0).cached_rate <= warm.rates(0).write_rate and session_cost(talk, warm, other).stay:
        assert session_cost(replace(talk, cached=talk.cached + more), warm, other).stay


@given(talks, prices, prices, st.floats(0, 1))
def test_a_likelier_escalation_never_makes_a_stayer_move(
    talk: Conversation, warm: Price, other: Price, p: float
) -> None:
    likelier = replace(talk, p_escalate=max(talk.p_escalate, p))
    if session_cost(talk, warm, other).stay:
        assert session_cost(likelier, warm, other).stay


@pytest.mark.parametrize("field", [{"prefix": -1}, {"turns": 0.5}, {"p_escalate": 1.1}])
def test_nonsense_is_refused(field: dict[str, float]) -> None:
    with pytest.raises(DataError):
        replace(TALK, **field)
