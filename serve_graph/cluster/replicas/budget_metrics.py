"""The `serve_graph_budget_*` gauges: how near keys are to the end of their budgets, without saying which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serve_graph.access.budgets import Spending
from serve_graph.config.access import KeyConfig


@dataclass(frozen=True, eq=False)
class BudgetMetrics(Collector):
    """The key that has spent the greatest share of its budget, by the budget's period."""

    spending: Spending
    keys: Callable[[], Iterable[KeyConfig]]

    def collect(self) -> Iterator[Metric]:
        """Yield the gauge; a period without a budget has no sample, and one of 0 is never nearly spent."""
        family = GaugeMetricFamily(
            "serve_graph_budget_spent_share",
            "The greatest share of a key's budget that is spent, 1 and above: it is, by period: day or month.",
            labels=["period"],
        )
        now = datetime.now(UTC)
        shares: dict[str, Decimal] = {}
        for key in self.keys():
            if key.usd_per_month is None and key.usd_per_day is None:
                continue
            month, day = self.spending.spent(key.name, now)
            for period, spent, most in (("day", day, key.usd_per_day), ("month", month, key.usd_per_month)):
                if most:
                    shares[period] = max(shares.get(period, Decimal(0)), spent / most)
        for period, share in sorted(shares.items()):
            family.add_metric([period], float(share))
        yield family
