"""What a call costs, in Decimal dollars, from the engine's own token counts and the time it held an engine.

Every part of a cost is rounded to a millionth of a millionth of a dollar, once, where it arises. Sums are then exact
in Decimal's 28 digits: parts add up to their bill, and no order of adding changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise

from router_models.errors import DataError
from router_models.types import Usage

MILLION = Decimal(1_000_000)
SMALLEST = Decimal("1E-12")
NOTHING = Decimal(0)
_RATES = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok", "cache_write_usd_per_mtok")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, and per second of a call on an engine of one's own.

    `cached_input_usd_per_mtok` and `cache_write_usd_per_mtok`: tokens read from and written to a prompt cache; None =
    they cost the input price. `batch_factor` multiplies token prices of calls that may wait for a batch (0.5 = half
    price). `engine_usd_per_s` is what one call's place in an engine costs a second.
    """

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    batch_factor: Decimal = Decimal(1)
    engine_usd_per_s: Decimal = NOTHING

    def __post_init__(self) -> None:
        for name in (*_RATES, "engine_usd_per_s"):
            value = getattr(self, name)
            if value is not None and (not value.is_finite() or value < 0):
                raise DataError(f"price {name} must be a finite amount ≥ 0, found {value}")
        if not (self.batch_factor.is_finite() and 0 <= self.batch_factor <= 1):
            raise DataError(f"batch_factor must lie in [0, 1], found {self.batch_factor}")

    def at(self, moment: datetime) -> Price:
        """This price, whenever."""
        return self

    @property
    def cached_rate(self) -> Decimal:
        """Dollars per million tokens read from a cache."""
        return self.input_usd_per_mtok if self.cached_input_usd_per_mtok is None else self.cached_input_usd_per_mtok

    @property
    def write_rate(self) -> Decimal:
        """Dollars per million tokens written to a cache."""
        return self.input_usd_per_mtok if self.cache_write_usd_per_mtok is None else self.cache_write_usd_per_mtok

    def parts(self, usage: Usage, seconds: float = 0.0, *, batch: bool = False) -> dict[str, Decimal]:
        """The cost of one call by what it is for; parts that cost nothing are left out.

        Tokens read from and written to a cache are part of `prompt_tokens` and charged at their own rates; counts
        beyond it are cut off. `seconds` are rounded to microseconds.
        """
        read = min(usage.cached_tokens, usage.prompt_tokens)
        written = min(usage.cache_write_tokens, usage.prompt_tokens - read)
        factor = (self.batch_factor if batch else Decimal(1)) / MILLION
        amounts = {
            "input": self.input_usd_per_mtok * (usage.prompt_tokens - read - written) * factor,
            "cache_read": self.cached_rate * read * factor,
            "cache_write": self.write_rate * written * factor,
            "output": self.output_usd_per_mtok * usage.completion_tokens * factor,
            "engine_time": self.engine_usd_per_s * Decimal(f"{seconds:.6f}"),
        }
        return {name: rounded(amount) for name, amount in amounts.items() if amount}

    def cost(self, usage: Usage, seconds: float = 0.0, *, batch: bool = False) -> Decimal:
        """The price of one call: the sum of its parts."""
        return sum(self.parts(usage, seconds, batch=batch).values(), NOTHING)


@dataclass(frozen=True, slots=True)
class PriceList:
    """A tier's prices over time: `first` from ever, each of `changes` (moment with time zone, price) from then on.

    A call is charged the price in force when it began. Raises DataError where moments do not rise or lack a zone.
    """

    first: Price
    changes: tuple[tuple[datetime, Price], ...] = ()

    def __post_init__(self) -> None:
        moments = [moment for moment, _ in self.changes]
        if any(moment.tzinfo is None for moment in moments):
            raise DataError("a price's valid_from needs a time zone")
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise DataError("prices must be listed in the order in which they come into force")

    def at(self, moment: datetime) -> Price:
        """The price in force at `moment`."""
        return next((price for start, price in reversed(self.changes) if moment >= start), self.first)


def rounded(amount: Decimal) -> Decimal:
    """An amount as it goes on a bill: unchanged down to 1e-12 dollars, half-even below."""
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        return amount.quantize(SMALLEST, rounding=ROUND_HALF_EVEN)
    return amount


def cascade_break_even(cheap_usd: Decimal, frontier_usd: Decimal) -> Decimal:
    """The escalation share above which trying cheap first costs more than going straight to frontier.

    p* = 1 − c_cheap / c_frontier, from c_cheap + p · c_frontier < c_frontier; 0 where cheap is not cheaper.
    Raises DataError where frontier costs nothing: then there is nothing to save.
    """
    if frontier_usd <= 0:
        raise DataError("the frontier tier costs nothing: a cascade cannot save anything")
    return max(Decimal(0), 1 - cheap_usd / frontier_usd)


def prices_digest_input(prices: Mapping[str, Price]) -> dict[str, list[str]]:
    """Prices as plain strings, for hashing into a certificate; what is left at its default is left out."""
    return {tier: _strings(price) for tier, price in sorted(prices.items())}


def _strings(p: Price) -> list[str]:
    strings = [str(p.input_usd_per_mtok), str(p.output_usd_per_mtok), str(p.cached_input_usd_per_mtok)]
    if p.cache_write_usd_per_mtok is not None:
        strings.append(f"write {p.cache_write_usd_per_mtok}")
    if p.batch_factor != 1:
        strings.append(f"batch {p.batch_factor}")
    if p.engine_usd_per_s:
        strings.append(f"second {p.engine_usd_per_s}")
    return strings
