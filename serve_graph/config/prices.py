"""What a tier's calls cost, as the configuration says it."""

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
    """Rates for every token of a call whose prompt has more than `over_tokens` tokens."""

    over_tokens: Annotated[int, Field(ge=1)]
    input_usd_per_mtok: Amount
    output_usd_per_mtok: Amount
    cached_input_usd_per_mtok: Amount | None = None
    cache_write_usd_per_mtok: Amount | None = None


class PriceConfig(Frozen):
    """What a tier's calls cost, in US dollars: per million tokens, and per second of one's own engines.

    Prices in another `currency` are given as `input_per_mtok`, … with `usd_per_unit`, the rate they are reported at.
    `cache_write_…`: tokens written to a prompt cache (null: the input price). `batch_factor`: what a batched call's
    token prices are multiplied by (`batch_cached_factor`: those of tokens read from a cache, null: the same),
    `priority_factor`: those of a call served with priority. `long_prompts`: rates of their own. `gpu_usd_per_s`: a
    replica's price a second, divided among the `gpu_shared_by` calls that it usually serves at once. `valid_from`
    (with a time zone) is for `price_changes`.
    """

    input_usd_per_mtok: Amount
    output_usd_per_mtok: Amount
    cached_input_usd_per_mtok: Amount | None = None
    cache_write_usd_per_mtok: Amount | None = None
    batch_factor: Annotated[Decimal, Field(ge=0, le=1)] = Decimal(1)
    batch_cached_factor: Annotated[Decimal, Field(ge=0, le=1)] | None = None
    priority_factor: Amount = Decimal(1)
    long_prompts: LongPromptsConfig | None = None
    gpu_usd_per_s: Amount = Decimal(0)
    gpu_shared_by: Annotated[Decimal, Field(ge=1)] = Decimal(1)
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    usd_per_unit: Annotated[Decimal, Field(gt=0)] = Decimal(1)
    valid_from: AwareDatetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_dollars(cls, data: Any) -> Any:
        """Turn `input_per_mtok` and the like into dollars at the stated rate."""
        if not isinstance(data, Mapping):
            return data
        if data.get("currency", "USD") == "USD":
            if data.get("usd_per_unit", 1) != 1:
                raise ValueError("usd_per_unit is for another currency than USD")
            return data
        long = data.get("long_prompts")
        if named := [name for name in (*data, *(long if isinstance(long, Mapping) else ())) if "_usd_" in name]:
            raise ValueError(f"prices in {data['currency']} are given without usd in their names; found {named}")
        if "usd_per_unit" not in data:
            raise ValueError(f"prices in {data['currency']} need usd_per_unit, the rate they are reported at")
        try:
            rate = Decimal(str(data["usd_per_unit"]))
            dollars = _exchanged(data, rate)
            return dollars | {"long_prompts": _exchanged(long, rate)} if isinstance(long, Mapping) else dollars
        except ArithmeticError as error:
            raise ValueError("prices and usd_per_unit must be numbers") from error


def _exchanged(data: Mapping[str, Any], rate: Decimal) -> dict[str, Any]:
    """`data` with every foreign amount in dollars, under its dollar name."""
    return {
        name.replace("_per_", "_usd_per_") if name in FOREIGN else name: (
            Decimal(str(value)) * rate if name in FOREIGN and value is not None else value
        )
        for name, value in data.items()
    }
