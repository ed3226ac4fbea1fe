"""What calls cost that were made: dollars per prompt from recorded token counts."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.types import FloatArray, Usage


def call_costs(table: OutcomeTable, tier: str, price: Price) -> FloatArray:
    """Dollars per prompt at a tier, from recorded token counts; DataError where there are none, or not for all.

    A tier that is paid for by the second needs the seconds of its calls too.
    """
    if tier not in table.prompt_tokens or tier not in table.completion_tokens:
        raise DataError(f"outcomes of tier {tier!r} carry no token counts: costs cannot be computed")
    sent, made = table.prompt_tokens[tier], table.completion_tokens[tier]
    if gaps := int((~np.isfinite(sent) | ~np.isfinite(made)).sum()):
        raise DataError(f"{gaps} of {len(sent)} outcomes of tier {tier!r} carry no token counts: record or drop them")
    seconds = np.zeros(len(sent))
    if price.engine_usd_per_s:
        seconds = table.latency_s.get(tier, np.full(len(sent), np.nan))
        if gaps := int((~np.isfinite(seconds)).sum()):
            raise DataError(
                f"tier {tier!r} is paid for by the second, and {gaps} of its {len(sent)} outcomes carry no latency_s: "
                "record or drop them"
            )
    costs: list[Decimal] = [
        price.cost(Usage(int(p), int(c)), float(s)) for p, c, s in zip(sent, made, seconds, strict=True)
    ]
    return np.array([float(cost) for cost in costs])
