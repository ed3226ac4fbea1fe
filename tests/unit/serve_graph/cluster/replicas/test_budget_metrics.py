"""How near keys are to the end of their budgets, without saying which."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from serve_graph.access.budgets import Spending
from serve_graph.cluster.replicas.budget_metrics import BudgetMetrics
from serve_graph.config.access import KeyConfig


def key(name: str, **budget: Any) -> KeyConfig:
    return KeyConfig.model_validate({"name": name, "sha256": "a" * 64, **budget})


def shown(*keys: KeyConfig, **spent: str) -> dict[str, float]:
    spending = Spending()
    for name, usd in spent.items():
        spending.note(name, datetime.now(UTC), Decimal(usd))
    [family] = BudgetMetrics(spending, lambda: keys).collect()
    assert family.name == "serve_graph_budget_spent_share"
    assert all(set(sample.labels) == {"period"} for sample in family.samples)
    return {sample.labels["period"]: sample.value for sample in family.samples}


def test_the_key_nearest_to_its_end_counts() -> None:
    keys = (key("a", usd_per_day=10), key("b", usd_per_day=100), key("c"))
    assert shown(*keys, a="9", b="50", c="1000") == {"day": 0.9}


def test_each_period_by_itself() -> None:
    assert shown(key("a", usd_per_day=10, usd_per_month=100), a="5") == {"day": 0.5, "month": 0.05}


def test_a_key_that_may_spend_nothing_is_no_reason_for_an_alert() -> None:
    assert shown(key("a", usd_per_day=0), key("b", usd_per_day=10), b="1") == {"day": 0.1}
    assert shown(key("a", usd_per_day=0)) == {}


def test_nothing_where_no_key_has_a_budget() -> None:
    assert shown(key("a"), a="5") == {}
    assert shown() == {}
