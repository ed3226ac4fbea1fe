import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.pricing.prices import (
    Price,
    PriceList,
    Rates,
    Tariff,
    cascade_break_even,
    plain_decimal,
    prices_digest_input,
    rounded_usd,
)
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


rates = st.decimals(0, 1000, places=12)
usages = st.builds(Usage, tokens, tokens, tokens, tokens)
shares = st.decimals(0, 1, places=6)
prices = st.builds(
    Price, rates, rates, st.none() | rates, st.none() | rates, shares, rates.map(lambda r: r / 7),
    batch_cached_factor=st.none() | shares, priority_factor=st.decimals(0, 5, places=2),
    long_prompts=st.none() | st.tuples(tokens.filter(bool), st.builds(Rates, rates, rates, st.none() | rates)),
)  # fmt: skip
tariffs = st.sampled_from(Tariff)
calls = st.lists(st.tuples(prices, usages, st.floats(0, 10_000), tariffs), max_size=20)


@given(prices, usages, st.floats(0, 10_000), tariffs)
def test_parts_sum_to_the_cost(price: Price, usage: Usage, seconds: float, tariff: Tariff) -> None:
    parts = price.parts(usage, seconds, tariff=tariff)
    assert sum(parts.values(), Decimal(0)) == price.cost(usage, seconds, tariff=tariff)
    assert all(amount == rounded_usd(amount) >= 0 for amount in parts.values())


@given(calls, st.randoms(use_true_random=False))
def test_a_bill_does_not_depend_on_the_order_of_events(
    made: list[tuple[Price, Usage, float, Tariff]], order: random.Random
) -> None:
    amounts = [part for p, u, s, tariff in made for part in p.parts(u, s, tariff=tariff).values()]
    shuffled = order.sample(amounts, len(amounts))
    assert sum(amounts, Decimal(0)) == sum(shuffled, Decimal(0))
    whole = [p.cost(u, s, tariff=tariff) for p, u, s, tariff in made]
    assert sum(whole, Decimal(0)) == sum(amounts, Decimal(0))


def test_without_rounding_the_order_would_matter() -> None:
    third = Decimal(1) / 3
    assert third + Decimal(10**6) + third != third + third + Decimal(10**6)
    assert rounded_usd(third) + Decimal(10**6) + rounded_usd(third) == rounded_usd(third) + rounded_usd(
        third
    ) + Decimal(10**6)


def test_written_tokens_never_exceed_what_was_sent() -> None:
    price = Price(Decimal(1), Decimal(0), Decimal(2), Decimal(3))
    assert price.cost(Usage(10, 0, 6, 9)) == (6 * Decimal(2) + 4 * Decimal(3)) / 1_000_000


def test_batch_factor_is_a_share() -> None:
    with pytest.raises(DataError, match="batch_factor"):
        Price(Decimal(1), Decimal(1), batch_factor=Decimal("1.5"))


def test_a_long_prompt_has_a_length() -> None:
    with pytest.raises(DataError, match="more than 1 token"):
        Price(Decimal(1), Decimal(1), long_prompts=(0, Rates(Decimal(1), Decimal(1))))
    with pytest.raises(DataError, match="finite amount"):
        Rates(Decimal(1), Decimal("NaN"))


def test_a_price_list_is_in_order_and_knows_its_time_zone() -> None:
    price, then = Price(Decimal(1), Decimal(1)), datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(DataError, match="order"):
        PriceList(price, ((then, price), (then - timedelta(days=1), price)))
    with pytest.raises(DataError, match="time zone"):
        PriceList(price, ((then.replace(tzinfo=None), price),))


def test_plain_prices_keep_the_hash_that_certificates_were_made_with() -> None:
    plain_decimal = Price(Decimal("0.01"), Decimal("0.02"))
    assert prices_digest_input({"cheap": plain_decimal}) == {"cheap": ["0.01", "0.02", "None"]}
    changed = [
        Price(Decimal("0.01"), Decimal("0.02"), None, Decimal(1)),
        Price(Decimal("0.01"), Decimal("0.02"), batch_factor=Decimal("0.5")),
        Price(Decimal("0.01"), Decimal("0.02"), engine_usd_per_s=Decimal(1)),
        Price(Decimal("0.01"), Decimal("0.02"), batch_cached_factor=Decimal(1)),
        Price(Decimal("0.01"), Decimal("0.02"), priority_factor=Decimal(2)),
        Price(Decimal("0.01"), Decimal("0.02"), long_prompts=(9, Rates(Decimal(1), Decimal(1)))),
        Price(Decimal("0.01"), Decimal("0.02"), long_prompts=(9, Rates(Decimal(1), Decimal(1), None, Decimal(2)))),
    ]
    digests = [str(prices_digest_input({"cheap": price})) for price in (plain_decimal, *changed)]
    assert len(set(digests)) == 1 + len(changed)


def test_money_is_written_without_an_exponent() -> None:
    assert [plain_decimal(Decimal("1E-7")), plain_decimal(Decimal("2.50")), plain_decimal(Decimal("1E+3"))] == [
        "0.0000001",
        "2.50",
        "1000",
    ]
