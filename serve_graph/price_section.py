"""What a tier's calls cost, as the configuration says it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, model_validator

from serve_graph.section import Frozen

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class PriceConfig(Frozen):
    """What a tier's calls cost, in US dollars: per million tokens, and per second of one's own engines.

    Prices in another `currency` are given as `input_per_mtok`, … with `usd_per_unit`, the rate they are reported at.
    `cache_write_…`: tokens written to a prompt cache (null: the input price). `batch_factor`: what a batched call's
    token prices are multiplied by. `gpu_usd_per_s`: a replica's price a second, divided among the `gpu_shared_by`
    calls that it usually serves at once. `valid_from` (with a time zone) is for `price_changes`.
    """

    input_usd_per_mtok: Amount
    output_usd_per_mtok: Amount
    cached_input_usd_per_mtok: Amount | None = None
    cache_write_usd_per_mtok: Amount | None = None
    batch_factor: Annotated[Decimal, Field(ge=0, le=1)] = Decimal(1)
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
        foreign = {"input_per_mtok", "output_per_mtok", "cached_input_per_mtok", "cache_write_per_mtok", "gpu_per_s"}
        if data.get("currency", "USD") == "USD":
            if data.get("usd_per_unit", 1) != 1:
                raise ValueError("usd_per_unit is for another currency than USD")
            return data
        if named := [name for name in data if "_usd_" in name]:
            raise ValueError(f"prices in {data['currency']} are given without usd in their names; found {named}")
        if "usd_per_unit" not in data:
            raise ValueError(f"prices in {data['currency']} need usd_per_unit, the rate they are reported at")
        try:
            rate = Decimal(str(data["usd_per_unit"]))
            amounts = {
                name.replace("_per_", "_usd_per_"): None if data[name] is None else Decimal(str(data[name])) * rate
                for name in foreign & set(data)
            }
        except ArithmeticError as error:
            raise ValueError("prices and usd_per_unit must be numbers") from error
        return {name: value for name, value in data.items() if name not in foreign} | amounts
