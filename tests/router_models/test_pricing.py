from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.pricing import Price, cascade_break_even, plain, prices_digest_input
from router_models.types import Usage

tokens = st.integers(0, 10**7)
amounts = st.decimals(0, 1000, places=4)


@given(amounts, amounts, tokens, tokens)
def test_a_call_costs_its_tokens(sent: Decimal, made: Decimal, prompt: int, completion: int) -> None:
    assert Price(sent, made).cost(Usage(prompt, completion)) == (sent * prompt + made * completion) / 1_000_000


def test_money_is_exact() -> None:
    assert Price(Decimal("0.1"), Decimal("0.2")).cost(Usage(1, 1)) == Decimal("0.0000003")


def test_cached_tokens_cost_their_own_rate() -> None:
    price = Price(Decimal(10), Decimal(0), Decimal(1))
    assert price.cost(Usage(100, 0, 40)) == Decimal("0.00064")


def test_cached_tokens_cost_the_input_rate_where_none_is_given() -> None:
    assert Price(Decimal(10), Decimal(0)).cost(Usage(100, 0, 40)) == Decimal("0.001")


def test_more_cached_than_prompt_tokens_never_cost_less_than_nothing() -> None:
    assert Price(Decimal(10), Decimal(0), Decimal(0)).cost(Usage(100, 0, 500)) == 0


@given(amounts, amounts, tokens, tokens, st.integers(0, 10**7))
def test_a_cost_is_never_negative(sent: Decimal, made: Decimal, prompt: int, completion: int, cached: int) -> None:
    assert Price(sent, made, sent / 2).cost(Usage(prompt, completion, cached)) >= 0


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "-0.0001"])
@pytest.mark.parametrize("field", range(3))
def test_a_price_is_a_finite_amount(amount: str, field: int) -> None:
    amounts = [Decimal(1)] * 3
    amounts[field] = Decimal(amount)
    with pytest.raises(DataError, match="finite amount"):
        Price(*amounts)


def test_break_even_is_the_share_that_may_escalate() -> None:
    assert cascade_break_even(Decimal(1), Decimal(10)) == Decimal("0.9")
    assert cascade_break_even(Decimal(20), Decimal(10)) == 0
    with pytest.raises(DataError):
        cascade_break_even(Decimal(1), Decimal(0))


def test_prices_are_hashed_by_tier_whatever_their_order() -> None:
    a, b = Price(Decimal(1), Decimal(2)), Price(Decimal(3), Decimal(4), Decimal("0.5"))
    assert prices_digest_input({"x": a, "y": b}) == prices_digest_input({"y": b, "x": a})
    assert prices_digest_input({"x": a}) != prices_digest_input({"x": b})


def test_money_is_written_without_an_exponent() -> None:
    assert [plain(Decimal("1E-7")), plain(Decimal("2.50")), plain(Decimal("1E+3"))] == ["0.0000001", "2.50", "1000"]
