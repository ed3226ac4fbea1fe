"""What a call costs, in Decimal dollars, from the engine's own token counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from router_models.errors import DataError
from router_models.types import Usage

MILLION = Decimal(1_000_000)


def plain(usd: Decimal | float) -> str:
    """Return an amount of dollars as people write it: digits and a point, never an exponent (0.0000001, not 1E-7)."""
    return f"{usd if isinstance(usd, Decimal) else Decimal(str(usd)):f}"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; `cached_input_usd_per_mtok` None = cached tokens cost the input price."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None

    def __post_init__(self) -> None:
        for name in ("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok"):
            value = getattr(self, name)
            if value is not None and (not value.is_finite() or value < 0):
                raise DataError(f"price {name} must be a finite amount ≥ 0, found {value}")

    def cost(self, usage: Usage) -> Decimal:
        """The price of one call. Cached prompt tokens are part of `prompt_tokens` and charged at their own rate."""
        cached_rate = self.cached_input_usd_per_mtok
        cached = 0 if cached_rate is None else min(usage.cached_tokens, usage.prompt_tokens)
        total = (
            self.input_usd_per_mtok * (usage.prompt_tokens - cached)
            + (cached_rate or Decimal(0)) * cached
            + self.output_usd_per_mtok * usage.completion_tokens
        )
        return total / MILLION


def cascade_break_even(cheap_usd: Decimal, frontier_usd: Decimal) -> Decimal:
    """The escalation share above which trying cheap first costs more than going straight to frontier.

    p* = 1 − c_cheap / c_frontier, from c_cheap + p · c_frontier < c_frontier; 0 where cheap is not cheaper.
    Raises DataError where frontier costs nothing: then there is nothing to save.
    """
    if frontier_usd <= 0:
        raise DataError("the frontier tier costs nothing: a cascade cannot save anything")
    return max(Decimal(0), 1 - cheap_usd / frontier_usd)


def prices_digest_input(prices: Mapping[str, Price]) -> dict[str, list[str]]:
    """Prices as plain strings, for hashing into a certificate."""
    return {
        tier: [str(p.input_usd_per_mtok), str(p.output_usd_per_mtok), str(p.cached_input_usd_per_mtok)]
        for tier, p in sorted(prices.items())
    }
