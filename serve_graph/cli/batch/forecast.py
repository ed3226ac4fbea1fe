"""What a whole dataset will cost, from rows that were asked: means with 95 % intervals, and every tier by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from router_models.pricing.prices import Price
from router_models.types import Usage

FORECAST_LEVEL = 0.95
MOST_TOKENS_KEPT = 100_000


def mean_forecast(costs: Sequence[float], rows: int) -> dict[str, Any] | None:
    """Dollars of `rows` more rows like these: Student's t of their mean; None for fewer than two."""
    from scipy.stats import t

    n = len(costs)
    if n < 2:
        return None
    mean = math.fsum(costs) / n
    spread = math.sqrt(math.fsum((cost - mean) ** 2 for cost in costs) / (n - 1))
    half = float(t.ppf(0.5 + FORECAST_LEVEL / 2, n - 1)) * spread / math.sqrt(n)
    return {"usd": mean * rows, "low": max(0.0, mean - half) * rows, "high": (mean + half) * rows, "of": n}


def share_of(count: int, of: int) -> dict[str, Any]:
    """A share with Wilson's interval."""
    from scipy.stats import binomtest

    found = binomtest(count, of).proportion_ci(FORECAST_LEVEL, method="wilson")
    return {"share": count / of, "low": float(found.low), "high": float(found.high), "count": count}


def always_one_tier(
    usages: Sequence[tuple[int, int]], prices: Mapping[str, Price], rows: int
) -> dict[str, dict[str, Any] | None]:
    """What `rows` rows would cost at one tier alone, had its answers as many tokens as those that were given."""
    return {
        tier: mean_forecast([float(price.cost(Usage(put, made))) for put, made in usages], rows)
        for tier, price in prices.items()
    }
