"""What a whole dataset will cost, from rows that were asked: means with 95 % intervals, and every tier by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from router_models.pricing.prices import Price
from router_models.types import Usage

FORECAST_LEVEL = 0.95
MOST_TOKENS_KEPT = 100_000


@dataclass(slots=True)
class CostMoments:
    """Number, mean and spread of costs, one after another: nothing is held of each (Welford's sums)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, costs: Iterable[float]) -> CostMoments:
        """The moments of these costs."""
        made = cls()
        for cost in costs:
            made.add(cost)
        return made

    def add(self, cost: float) -> None:
        """Count one more."""
        self.n += 1
        off = cost - self.mean
        self.mean += off / self.n
        self.squares += off * (cost - self.mean)

    def forecast(self, rows: int) -> dict[str, Any] | None:
        """Dollars of `rows` more rows like these: Student's t of their mean; None for fewer than two."""
        from scipy.stats import t

        if self.n < 2:
            return None
        spread = math.sqrt(self.squares / (self.n - 1))
        half = float(t.ppf(0.5 + FORECAST_LEVEL / 2, self.n - 1)) * spread / math.sqrt(self.n)
        low, high = max(0.0, self.mean - half), self.mean + half
        return {"usd": self.mean * rows, "low": low * rows, "high": high * rows, "of": self.n}


def mean_forecast(costs: Iterable[float], rows: int) -> dict[str, Any] | None:
    """What rows like these cost, as `CostMoments.forecast`."""
    return CostMoments.of(costs).forecast(rows)


def share_of(count: int, of: int) -> dict[str, Any]:
    """A share with Wilson's interval."""
    from scipy.stats import binomtest

    found = binomtest(count, of).proportion_ci(FORECAST_LEVEL, method="wilson")
    return {"share": count / of, "low": float(found.low), "high": float(found.high), "count": count}


def always_one_tier(
    usages: Iterable[tuple[int, int]], prices: Mapping[str, Price], rows: int
) -> dict[str, dict[str, Any] | None]:
    """What `rows` rows would cost at one tier alone, had its answers as many tokens as those that were given."""
    found = {tier: CostMoments() for tier in prices}
    for put, made in usages:
        usage = Usage(put, made)
        for tier, price in prices.items():
            found[tier].add(float(price.cost(usage)))
    return {tier: moments.forecast(rows) for tier, moments in found.items()}
