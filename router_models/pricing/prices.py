"""Price calls in Decimal dollars, from the engine's own token counts and the time a call held an engine.

Every part of a cost is rounded to 1e-12 dollars, once, where it arises. Sums are then exact in Decimal's 28 digits:
parts add up to their bill, whatever the order of addition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from itertools import pairwise

from router_models.errors import DataError
from router_models.types import Usage

MILLION = Decimal(1_000_000)
SMALLEST = Decimal("1E-12")
NOTHING = Decimal(0)
_RATES = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok", "cache_write_usd_per_mtok")


def plain_decimal(usd: Decimal | float) -> str:
    """Return an amount of dollars as digits and a point, never with an exponent (0.0000001, not 1E-7)."""
    return f"{usd if isinstance(usd, Decimal) else Decimal(str(usd)):f}"


class Tariff(StrEnum):
    """Name how a call was served, where a provider charges differently for it."""

    STANDARD = "standard"
    BATCH = "batch"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class Rates:
    """Hold US dollars per million tokens.

    Parameters
    ----------
    input_usd_per_mtok, output_usd_per_mtok : Decimal
        Tokens sent and generated.
    cached_input_usd_per_mtok, cache_write_usd_per_mtok : Decimal, optional
        Tokens read from a prompt cache and written to it; None = the price of input.

    Raises
    ------
    DataError
        For amounts that are negative or not finite.
    """

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None

    def __post_init__(self) -> None:
        for name in _RATES:
            _check_amount(name, getattr(self, name))

    @property
    def cached_rate(self) -> Decimal:
        """Return dollars per million tokens read from a cache."""
        return self.input_usd_per_mtok if self.cached_input_usd_per_mtok is None else self.cached_input_usd_per_mtok

    @property
    def write_rate(self) -> Decimal:
        """Return dollars per million tokens written to a cache."""
        return self.input_usd_per_mtok if self.cache_write_usd_per_mtok is None else self.cache_write_usd_per_mtok

    def amounts(self, usage: Usage) -> dict[str, Decimal]:
        """Return the cost of one call's tokens, by what they were.

        Tokens read from and written to a cache are part of `prompt_tokens`; counts beyond it are cut off.

        Parameters
        ----------
        usage : Usage
            The call's tokens.

        Returns
        -------
        dict of str to Decimal
            Millionths of a dollar for `input`, `cache_read`, `cache_write` and `output`.
        """
        read = min(usage.cached_tokens, usage.prompt_tokens)
        written = min(usage.cache_write_tokens, usage.prompt_tokens - read)
        return {
            "input": self.input_usd_per_mtok * (usage.prompt_tokens - read - written),
            "cache_read": self.cached_rate * read,
            "cache_write": self.write_rate * written,
            "output": self.output_usd_per_mtok * usage.completion_tokens,
        }


@dataclass(frozen=True, slots=True)
class Price:
    """Hold what a tier's calls cost: rates per million tokens, and per second on an engine of one's own.

    Parameters
    ----------
    input_usd_per_mtok, output_usd_per_mtok : Decimal
        Dollars per million tokens sent and generated.
    cached_input_usd_per_mtok, cache_write_usd_per_mtok : Decimal, optional
        The same for tokens read from a cache and written to it; None = the price of input.
    batch_factor : Decimal
        Multiplies token prices of calls that may wait for a batch; 0.5 = half price.
    engine_usd_per_s : Decimal
        What one call's place in an engine costs a second.
    batch_cached_factor : Decimal, optional
        The batch factor of tokens read from a cache; None = the same.
    priority_factor : Decimal
        Multiplies token prices of calls that are served first.
    long_prompts : tuple of int and Rates, optional
        A call whose prompt has more tokens than the first is charged the second for all of its tokens.

    Raises
    ------
    DataError
        For amounts that are negative or not finite, and factors outside of [0, 1].
    """

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    batch_factor: Decimal = Decimal(1)
    engine_usd_per_s: Decimal = NOTHING
    batch_cached_factor: Decimal | None = field(default=None, kw_only=True)
    priority_factor: Decimal = field(default=Decimal(1), kw_only=True)
    long_prompts: tuple[int, Rates] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in (*_RATES, "engine_usd_per_s", "priority_factor"):
            _check_amount(name, getattr(self, name))
        for name in ("batch_factor", "batch_cached_factor"):
            factor = getattr(self, name)
            if factor is not None and not (factor.is_finite() and 0 <= factor <= 1):
                raise DataError(f"{name} must lie in [0, 1], found {factor}")
        if self.long_prompts is not None and self.long_prompts[0] < 1:
            raise DataError(f"long prompts have more than 1 token at least, found {self.long_prompts[0]}")

    def at(self, moment: datetime) -> Price:
        """Return this price, at any moment: the interface of `PriceList`."""
        return self

    def rates(self, prompt_tokens: int) -> Rates:
        """Return the rates for a prompt of that many tokens, cached ones included."""
        if self.long_prompts is not None and prompt_tokens > self.long_prompts[0]:
            return self.long_prompts[1]
        return Rates(*(getattr(self, name) for name in _RATES))

    def parts(self, usage: Usage, seconds: float = 0.0, *, tariff: Tariff = Tariff.STANDARD) -> dict[str, Decimal]:
        """Return the cost of one call by what it is for; parts that cost nothing are left out.

        Parameters
        ----------
        usage : Usage
            The call's tokens.
        seconds : float
            How long it held an engine; rounded to microseconds.
        tariff : Tariff
            How it was served.

        Returns
        -------
        dict of str to Decimal
            US dollars for `input`, `cache_read`, `cache_write`, `output` and `engine_time`.
        """
        factors = dict.fromkeys(("input", "cache_read", "cache_write", "output"), Decimal(1))
        if tariff is Tariff.PRIORITY:
            factors = dict.fromkeys(factors, self.priority_factor)
        if tariff is Tariff.BATCH:
            factors = dict.fromkeys(factors, self.batch_factor)
            if self.batch_cached_factor is not None:
                factors["cache_read"] = self.batch_cached_factor
        amounts = {
            name: millionths * factors[name] / MILLION
            for name, millionths in self.rates(usage.prompt_tokens).amounts(usage).items()
        }
        amounts["engine_time"] = self.engine_usd_per_s * Decimal(f"{seconds:.6f}")
        return {name: rounded_usd(amount) for name, amount in amounts.items() if amount}

    def cost(self, usage: Usage, seconds: float = 0.0, *, tariff: Tariff = Tariff.STANDARD) -> Decimal:
        """Return the price of one call: the sum of its parts.

        Parameters
        ----------
        usage : Usage
            The call's tokens.
        seconds : float
            How long it held an engine; rounded to microseconds.
        tariff : Tariff
            How it was served.

        Returns
        -------
        Decimal
            US dollars.
        """
        return sum(self.parts(usage, seconds, tariff=tariff).values(), NOTHING)


@dataclass(frozen=True, slots=True)
class PriceList:
    """Hold a tier's prices over time. A call is charged the price in force when it began.

    Parameters
    ----------
    first : Price
        In force before the first change.
    changes : tuple of (datetime, Price)
        Each in force from its moment on; moments have a time zone and rise.

    Raises
    ------
    DataError
        Where moments do not rise or lack a time zone.
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
        """Return the price in force at a moment with time zone."""
        return next((price for start, price in reversed(self.changes) if moment >= start), self.first)


def _check_amount(name: str, value: Decimal | None) -> None:
    if value is not None and (not value.is_finite() or value < 0):
        raise DataError(f"price {name} must be a finite amount ≥ 0, found {value}")


def rounded_usd(amount: Decimal) -> Decimal:
    """Round an amount to 1e-12 dollars, half-even; amounts without finer digits are unchanged."""
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        return amount.quantize(SMALLEST, rounding=ROUND_HALF_EVEN)
    return amount


def cascade_break_even(cheap_usd: Decimal, frontier_usd: Decimal) -> Decimal:
    """Return the escalation share above which trying cheap first costs more than going straight to frontier.

    p* = 1 − c_cheap / c_frontier, from c_cheap + p · c_frontier < c_frontier.

    Parameters
    ----------
    cheap_usd, frontier_usd : Decimal
        The mean price of a call.

    Returns
    -------
    Decimal
        At least 0; 0 where cheap is not cheaper.

    Raises
    ------
    DataError
        Where frontier costs nothing: then nothing can be saved.
    """
    if frontier_usd <= 0:
        raise DataError("the frontier tier costs nothing: a cascade cannot save anything")
    return max(Decimal(0), 1 - cheap_usd / frontier_usd)


def prices_digest_input(prices: Mapping[str, Price]) -> dict[str, list[str]]:
    """Return prices as strings, for hashing into a certificate; fields at their defaults are left out."""
    return {tier: _strings(price) for tier, price in sorted(prices.items())}


def _strings(p: Price | Rates) -> list[str]:
    strings = [str(p.input_usd_per_mtok), str(p.output_usd_per_mtok), str(p.cached_input_usd_per_mtok)]
    if p.cache_write_usd_per_mtok is not None:
        strings.append(f"write {p.cache_write_usd_per_mtok}")
    if isinstance(p, Rates):
        return strings
    if p.batch_factor != 1:
        strings.append(f"batch {p.batch_factor}")
    if p.engine_usd_per_s:
        strings.append(f"second {p.engine_usd_per_s}")
    if p.batch_cached_factor is not None:
        strings.append(f"batch cached {p.batch_cached_factor}")
    if p.priority_factor != 1:
        strings.append(f"priority {p.priority_factor}")
    if p.long_prompts is not None:
        strings.append(f"over {p.long_prompts[0]}: {' '.join(_strings(p.long_prompts[1]))}")
    return strings
