"""Break-even: the comparison of shares is that of dollars; overhead and engine time count."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.pricing.break_even import CallTotals, Tries, measured_break_even
from router_models.pricing.prices import Price
from router_models.types import Usage

TOKENS = st.integers(0, 3000)
PRICES = {"cheap": Price(Decimal("0.1"), Decimal("0.4")), "frontier": Price(Decimal("1"), Decimal("4"))}


def tries(tried: int = 100, repeated: int = 30, rows: int = 200, seconds: float = 0.0) -> Tries:
    kept = tried - repeated
    spared = CallTotals(kept, 100.0 * kept, 20.0 * kept)
    return Tries(
        rows, tried, repeated, "frontier", {"cheap": CallTotals(tried, 100.0 * tried, 20.0 * tried, seconds)}, spared
    )


@given(st.lists(st.tuples(TOKENS, TOKENS, TOKENS, st.booleans()), min_size=1, max_size=30), st.floats(0, 1e-3))
def test_tries_pay_exactly_where_they_save_dollars(
    calls: list[tuple[int, int, int, bool]], verdict_usd: float
) -> None:
    """Whatever the calls: a share under break-even is money saved against asking the last tier at once."""
    sent, made, top = (sum(call[i] for call in calls) for i in range(3))
    spared = [call for call in calls if call[3]] or calls
    measured = Tries(
        len(calls), len(calls), sum(not call[3] for call in calls), "frontier",
        {"cheap": CallTotals(len(calls), sent, made)},
        CallTotals(len(spared), sum(c[0] for c in spared), sum(c[2] for c in spared)),
    )  # fmt: skip
    found = measured_break_even(measured, PRICES, verifier_usd=verdict_usd)
    spent = sum(float(PRICES["cheap"].cost(Usage(s, m))) + verdict_usd for s, m, _, _ in calls)
    saved = sum(float(PRICES["frontier"].cost(Usage(s, t))) for s, _, t, kept in calls if kept)
    assert top >= 0
    if abs(saved - spent) > 1e-9:
        assert found.loses == (saved < spent)


@pytest.mark.parametrize(
    ("given", "loses"),
    [
        ({}, False),
        ({"router_usd": 4e-5}, False),
        ({"router_usd": 6e-5}, True),
        ({"verifier_usd": 1.2e-4}, True),
    ],
)
def test_router_and_verifier_count(given: dict[str, float], loses: bool) -> None:
    """100 of 200 prompts are tried, 30 % repeated: a try may cost 70 % of $0.00018, and itself costs $0.000018."""
    found = measured_break_even(tries(), PRICES, **given)
    assert found.loses is loses
    assert found.limit == pytest.approx(0.9 - sum(found.overhead_usd / 1.8e-4 for _ in (1,)))


def test_seconds_on_an_engine_count() -> None:
    by_time = {**PRICES, "cheap": Price(Decimal(0), Decimal(0), engine_usd_per_s=Decimal("0.0001"))}
    assert measured_break_even(tries(seconds=100.0), by_time).try_usd == pytest.approx(1e-4)
    assert measured_break_even(tries(seconds=500.0), by_time).loses


def test_what_is_measured_is_said_with_its_interval() -> None:
    found = measured_break_even(tries(repeated=95), PRICES)
    assert found.loses
    assert found.low < 0.95 < found.high
    text = found.text()
    assert "95.0% of 100 tries had to be repeated on frontier (95 % interval 88.7% to 98.4%)" in text
    assert "break-even is 90.0%" in text


def test_nothing_tried_loses_nothing() -> None:
    found = measured_break_even(tries(tried=0, repeated=0), PRICES)
    assert not found.loses
    assert "nothing is tried before frontier" in found.text()


def test_a_cheap_tier_that_costs_more_than_the_last_loses_whatever_is_accepted() -> None:
    dear = {**PRICES, "cheap": PRICES["frontier"], "frontier": PRICES["cheap"]}
    found = measured_break_even(tries(repeated=0), dear)
    assert found.loses
    assert "break-even is 0.0%" in found.text()


def test_tries_are_kept_as_json() -> None:
    assert Tries.from_json(tries(seconds=1.5).to_json()) == tries(seconds=1.5)
