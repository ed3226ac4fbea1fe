"""Read the YAML files of the offline commands: what tiers cost and how fast they are, and what traffic looks like."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router_models.data.formats.text_files import read_text
from router_models.errors import DataError
from router_models.planning.traffic_mix import TrafficSlice
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Base class of models that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Batch(Strict):
    """Hold the price factor of batched calls, and the share of calls that may be batched."""

    factor: float
    share: float


class TokenPrices(Strict):
    """Hold the tokens assumed of every call."""

    input: float | None = None
    output: float | None = None


class Latency(Strict):
    """Hold the assumed latency's median and 95th percentile, in seconds."""

    p50: float
    p95: float


class TierInputs(Strict):
    """Hold one tier of a planning inputs file; its keys are those of `tier_costs.TierCosts`."""

    price: Annotated[list[Decimal], Field(min_length=2, max_length=3)]
    batch: Batch | None = None
    tokens: TokenPrices = TokenPrices()
    token_ratio: float = 1.0
    chars_per_token: float | None = None
    cached_share: float | None = None
    latency_s: Latency | None = None

    def terms(self) -> TierCosts:
        """Convert to prices and assumptions."""
        return TierCosts(
            price=Price(*self.price),
            batch_factor=self.batch.factor if self.batch else 1.0,
            batch_share=self.batch.share if self.batch else 0.0,
            token_ratio=self.token_ratio,
            chars_per_token=self.chars_per_token,
            input_tokens=self.tokens.input,
            output_tokens=self.tokens.output,
            cached_share=self.cached_share,
            latency_p50_s=self.latency_s.p50 if self.latency_s else None,
            latency_p95_s=self.latency_s.p95 if self.latency_s else None,
        )


class TierInputsFile(Strict):
    """Hold a planning inputs file: tiers by name."""

    tiers: dict[str, TierInputs]


def read_tier_inputs(path: Path, tier: str) -> TierCosts:
    """Read one tier's prices and assumptions from a YAML file.

    Parameters
    ----------
    path : Path
        The file.
    tier : str
        The tier.

    Returns
    -------
    TierCosts

    Raises
    ------
    DataError
        Naming the file and key where it does not have them.
    """
    found = validated(TierInputsFile, path).tiers
    if tier not in found:
        raise DataError(f"{path}: no terms of tier {tier!r}; it has: {', '.join(found)}")
    return found[tier].terms()


def validated(model: type[M], path: Path) -> M:
    """Read a YAML file into a model; DataError names the file, the key and what is wrong with it."""
    try:
        data = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-13-45
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: {found}") from error


class MixSignals(Strict):
    """Hold the assumed AUC of router and verifier within a slice."""

    router_auc: float
    verifier_auc: float


class TrafficMixFile(Strict):
    """Hold a traffic mix file: tiers, assumed signals and slices."""

    tiers: dict[str, TierInputs]
    signals: MixSignals
    slices: Annotated[list[TrafficSlice], Field(min_length=1)]

    def terms_of(self, tier: str, path: Path) -> TierCosts:
        """Return one tier's prices and assumptions; DataError where the file has no such tier."""
        if tier not in self.tiers:
            raise DataError(f"{path}: no terms of tier {tier!r}; it has: {', '.join(self.tiers)}")
        return self.tiers[tier].terms()


def read_traffic_mix(path: Path) -> TrafficMixFile:
    """Read a traffic mix from a YAML file; DataError names the file and key where it is not one."""
    return validated(TrafficMixFile, path)
