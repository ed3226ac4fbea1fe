from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from serve_graph.access.budgets import Spending, starts
from serve_graph.config.access import KeyConfig

NOON = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
D = Decimal


def key(**limits: str) -> KeyConfig:
    return KeyConfig.model_validate({"name": "a", "sha256": "0" * 64, **limits})


def test_a_daily_budget_is_spent_until_midnight() -> None:
    spending, limited = Spending(), key(usd_per_day="1.00")
    spending.note("a", NOON, D("0.999999"))
    assert spending.exceeded(limited, NOON) is None
    spending.note("a", NOON, D("0.000001"))
    assert spending.exceeded(limited, NOON) == ("daily budget of $1.00", 12 * 3600)
    assert spending.exceeded(limited, NOON + timedelta(hours=12)) is None


def test_a_monthly_budget_is_spent_until_the_first() -> None:
    spending = Spending()
    spending.note("a", NOON - timedelta(days=10), D(5))
    assert spending.exceeded(key(usd_per_month="5"), NOON) == ("monthly budget of $5", 16.5 * 86_400)
    assert spending.exceeded(key(usd_per_day="5"), NOON) is None


@pytest.mark.parametrize("now", [datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC)])
def test_months_end_where_the_calendar_says(now: datetime) -> None:
    spending = Spending()
    spending.note("a", now, D(1))
    found = spending.exceeded(key(usd_per_month="1"), now)
    assert found is not None
    assert (now + timedelta(seconds=found[1])).day == 1


def test_other_keys_money_is_theirs() -> None:
    spending = Spending()
    spending.note("b", NOON, D(100))
    assert spending.exceeded(key(usd_per_day="1"), NOON) is None


def test_no_budget_is_no_limit_and_zero_lets_nothing_through() -> None:
    assert Spending().exceeded(key(), NOON) is None
    assert Spending().exceeded(key(usd_per_day="0"), NOON) is not None


def test_the_stores_sums_take_the_place_of_what_they_include() -> None:
    spending = Spending()
    spending.note("a", NOON, D(1))
    spending.mark()
    spending.note("a", NOON, D(2))  # written while the store was being read
    spending.settle({"a": [D(41), D(11)]}, NOON)
    assert spending.spent("a", NOON) == (D(43), D(13))


def test_what_is_noted_takes_no_more_memory_the_more_there_is() -> None:
    spending = Spending()
    for _ in range(1000):
        spending.note("a", NOON, D("0.001"))
        spending.mark()  # a store that is down is never settled
    assert spending.spent("a", NOON) == (D(1), D(1))
    assert len(spending._fresh) + len(spending._marked) <= 2


def test_yesterdays_sums_are_not_todays() -> None:
    spending = Spending()
    spending.settle({"a": [D(41), D(11)]}, NOON)
    assert spending.spent("a", NOON + timedelta(days=1)) == (D(41), D(0))
    assert spending.spent("a", NOON + timedelta(days=31)) == (D(0), D(0))


def test_moments_compare_as_records_write_them() -> None:
    assert starts(NOON) == ("2026-03-01T00:00:00.000+00:00", "2026-03-15T00:00:00.000+00:00")


def test_an_estimate_stays_when_the_stores_sums_are_taken_until_the_month_is_over() -> None:
    """The store knows nothing of it: the bill of a call that nobody counted says 0."""
    spending = Spending()
    spending.estimate("a", NOON, D("0.5"))
    for _ in range(3):
        spending.mark()
        spending.settle({"a": (D("0.25"), D("0.25"))}, NOON)
        assert spending.spent("a", NOON) == (D("0.75"), D("0.75"))
    april = NOON + timedelta(days=30)
    spending.settle({}, april)
    assert spending.spent("a", april) == (D(0), D(0))
