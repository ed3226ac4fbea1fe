"""Configuration of what a tier's calls cost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, model_validator

from serve_graph.config.base import Frozen

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


RATES = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok", "cache_write_usd_per_mtok")
FOREIGN = frozenset(name.replace("_usd_per_", "_per_") for name in (*RATES, "gpu_usd_per_s"))


class LongPromptsConfig(Frozen):
    """The rates for all tokens of a call whose prompt has more than `over_tokens` tokens."""

    over_tokens: Annotated[int, Field(ge=1)]
    """Prompt tokens above which these rates apply."""
    input_usd_per_mtok: Amount
    """US dollars per million prompt tokens."""
    output_usd_per_mtok: Amount
    """US dollars per million completion tokens."""
    cached_input_usd_per_mtok: Amount | None = None
    """US dollars per million prompt tokens read from a cache; null: the input price."""
    cache_write_usd_per_mtok: Amount | None = None
    """US dollars per million tokens written to a prompt cache; null: the input price."""


class PriceConfig(Frozen):
    """What a tier's calls cost, in US dollars: per million tokens, and per second of self-hosted engines.

    Prices in another `currency` are named `input_per_mtok` and so on, and need `usd_per_unit`, the exchange rate.
    """

    input_usd_per_mtok: Amount
    """US dollars per million prompt tokens."""
    output_usd_per_mtok: Amount
    """US dollars per million completion tokens."""
    cached_input_usd_per_mtok: Amount | None = None
    """US dollars per million prompt tokens read from a cache; null: the input price."""
    cache_write_usd_per_mtok: Amount | None = None
    """US dollars per million tokens written to a prompt cache; null: the input price."""
    batch_factor: Annotated[Decimal, Field(ge=0, le=1)] = Decimal(1)
    """Factor on the token prices of a batched call."""
    batch_cached_factor: Annotated[Decimal, Field(ge=0, le=1)] | None = None
    """Factor on the price of cached tokens of a batched call; null: `batch_factor`."""
    priority_factor: Amount = Decimal(1)
    """Factor on the token prices of a call served with priority."""
    long_prompts: LongPromptsConfig | None = None
    """Separate rates for calls with long prompts."""
    gpu_usd_per_s: Amount = Decimal(0)
    """US dollars per second of one replica."""
    gpu_shared_by: Annotated[Decimal, Field(ge=1)] = Decimal(1)
    """Calls that a replica usually serves at once, among which `gpu_usd_per_s` is divided."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    """ISO 4217 code of the currency in which the prices are given."""
    usd_per_unit: Annotated[Decimal, Field(gt=0)] = Decimal(1)
    """US dollars per unit of `currency`."""
    valid_from: AwareDatetime | None = None
    """Date and time, with time zone, from which the price applies; used in `price_changes`."""

    @model_validator(mode="before")
    @classmethod
    def _in_dollars(cls, data: Any) -> Any:
        """Convert `input_per_mtok` and the like to dollars at the configured rate."""
        if not isinstance(data, Mapping):
            return data
        if data.get("currency", "USD") == "USD":
            if data.get("usd_per_unit", 1) != 1:
                raise ValueError("usd_per_unit is for another currency than USD")
            return data
        long = data.get("long_prompts")
        if named := [name for name in (*data, *(long if isinstance(long, Mapping) else ())) if "_usd_" in name]:
            raise ValueError(f"prices in {data['currency']} must be given without usd in their names; found {named}")
        if "usd_per_unit" not in data:
            raise ValueError(f"prices in {data['currency']} need usd_per_unit, the exchange rate to US dollars")
        try:
            rate = Decimal(str(data["usd_per_unit"]))
            dollars = _exchanged(data, rate)
            return dollars | {"long_prompts": _exchanged(long, rate)} if isinstance(long, Mapping) else dollars
        except ArithmeticError as error:
            raise ValueError("prices and usd_per_unit must be numbers") from error


def _exchanged(data: Mapping[str, Any], rate: Decimal) -> dict[str, Any]:
    """Return `data` with every foreign amount in dollars, under its dollar name."""
    return {
        name.replace("_per_", "_usd_per_") if name in FOREIGN else name: (
            Decimal(str(value)) * rate if name in FOREIGN and value is not None else value
        )
        for name, value in data.items()
    }
