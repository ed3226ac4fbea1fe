"""The YAML files of the offline commands: what tiers cost and how fast they are, and what traffic looks like."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router_models.errors import DataError
from router_models.planning.traffic_mix import TrafficSlice
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Batch(Strict):
    factor: float
    share: float


class TokenPrices(Strict):
    input: float | None = None
    output: float | None = None


class Latency(Strict):
    p50: float
    p95: float


class TierInputs(Strict):
    """One tier in a terms file; the same words as `tier_costs.TierTerms`."""

    price: Annotated[list[Decimal], Field(min_length=2, max_length=3)]
    batch: Batch | None = None
    tokens: TokenPrices = TokenPrices()
    token_ratio: float = 1.0
    chars_per_token: float | None = None
    cached_share: float | None = None
    latency_s: Latency | None = None

    def terms(self) -> TierCosts:
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
    tiers: dict[str, TierInputs]


def read_tier_inputs(path: Path, tier: str) -> TierCosts:
    """One tier's terms from a YAML file; DataError naming file and key where it does not hold them."""
    found = validated(TierInputsFile, path).tiers
    if tier not in found:
        raise DataError(f"{path}: no terms of tier {tier!r}; it has: {', '.join(found)}")
    return found[tier].terms()


def validated(model: type[M], path: Path) -> M:
    """A YAML file as a model of its content; DataError naming the file, the key and what is wrong with it."""
    try:
        return model.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({error})") from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: {found}") from error


class MixSignals(Strict):
    """How well router and verifier are taken to tell right from wrong within a slice (AUC)."""

    router_auc: float
    verifier_auc: float


class TrafficMixFile(Strict):
    tiers: dict[str, TierInputs]
    signals: MixSignals
    slices: Annotated[list[TrafficSlice], Field(min_length=1)]

    def terms_of(self, tier: str, path: Path) -> TierCosts:
        if tier not in self.tiers:
            raise DataError(f"{path}: no terms of tier {tier!r}; it has: {', '.join(self.tiers)}")
        return self.tiers[tier].terms()


def read_traffic_mix(path: Path) -> TrafficMixFile:
    """A traffic mix from a YAML file; DataError naming file and key where it is none."""
    return validated(TrafficMixFile, path)
