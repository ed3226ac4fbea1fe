"""The tiers of a graph's configuration: what every tier has, and what each kind adds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from serve_graph.config.base import Frozen
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tier_parts import (
    AdmissionConfig,
    FailoverConfig,
    HostedApi,
    HostedDeploymentConfig,
    LoraSection,
    check_deployments,
)

TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class WeightsConfig(Frozen):
    """Where a tier's weights come from: exactly one of a package, a hub id or a folder.

    `revision` of a hub id is a commit, tag or branch; `hub: org/model@revision` says the same.
    """

    package: str | None = None
    hub: str | None = None
    folder: Path | None = None
    revision: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _split_revision(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("hub"), str) or "@" not in data["hub"]:
            return data
        hub, _, revision = data["hub"].partition("@")
        if data.get("revision") not in (None, revision):
            raise ValueError(f"weights.hub names revision {revision!r}, weights.revision {data['revision']!r}")
        return data | {"hub": hub, "revision": revision}

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("package", "hub", "folder") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"weights need exactly one of package, hub, folder; found {given or 'none'}")
        if self.revision is not None and self.hub is None:
            raise ValueError(f"weights.revision belongs to a hub id, not to a {given[0]}")
        return self


class ScalingConfig(Frozen):
    """One deployment's autoscaling, in Ray Serve's terms; equal bounds mean a fixed number of replicas.

    `drain_s` is how long a stopping replica may finish what it has begun.
    """

    min_replicas: Annotated[int, Field(ge=0)] = 1
    max_replicas: Annotated[int, Field(ge=1)] = 1
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 16.0
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 64
    max_queued_requests: int = -1
    upscale_delay_s: Annotated[float, Field(ge=0)] = 10.0
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300.0
    num_cpus: Annotated[float, Field(ge=0)] = 0.1
    drain_s: Annotated[float, Field(gt=0)] = 5.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} > max_replicas {self.max_replicas}")
        return self


class TierConfig(Frozen):
    """What every tier has: a name, a price, limits and scaling. Tiers are listed cheapest first.

    `price_changes` come into force at their `valid_from`, in that order. `prompt_cache_s` is how long the tier keeps
    a prompt's prefix cached. `decoding` are sampling settings (temperature, top_p, …) used where a request does not
    say; certificates are made for them. `embeddings`: whether the tier answers `/v1/embeddings` too.
    """

    name: TierName
    price: PriceConfig
    price_changes: tuple[PriceConfig, ...] = ()
    scaling: ScalingConfig = ScalingConfig()
    admission: AdmissionConfig = AdmissionConfig()
    default_max_tokens: Annotated[int, Field(ge=1)] = 256
    decoding: dict[str, Any] = Field(default_factory=dict)
    context_tokens: Annotated[int, Field(ge=16)] = 2048
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    prompt_cache_s: Annotated[float, Field(ge=0)] = 300.0
    embeddings: bool = False

    @model_validator(mode="after")
    def _dated(self) -> Self:
        moments = [change.valid_from for change in self.price_changes]
        dated = [moment for moment in moments if moment is not None]
        if len(dated) < len(moments) or dated != sorted(set(dated)):
            raise ValueError("every one of price_changes needs a valid_from, later than the one before")
        return self


class VllmTierConfig(TierConfig):
    """A tier served by vLLM through `ray.serve.llm`.

    `engine_kwargs` are vLLM's own engine arguments, passed through untouched. `speculation` is vLLM's
    `speculative_config`, untouched as well: `{method: ngram, …}`, `{method: draft_model, model: …}`, `eagle3`, `mtp`;
    null turns it off. `lora` puts an adapter on the weights. `request_router` picks the replica: `prefix` is Ray
    Serve's PrefixCacheAffinityRouter, which sends a prompt to the replica that has seen its beginning, unless that one
    is much busier.
    """

    engine: Literal["vllm"]
    weights: WeightsConfig
    speculation: dict[str, Any] | None = None
    lora: LoraSection | None = None
    engine_kwargs: dict[str, Any] = Field(default_factory=dict)
    accelerator: Literal["cpu", "gpu", "tpu"] = "gpu"
    accelerator_type: str | None = None
    request_router: Literal["load", "prefix"] = "load"
    placement_bundles: list[dict[str, float]] | None = None
    env: dict[str, str] = Field(default_factory=dict)


class HostedTierConfig(HostedApi, TierConfig):
    """A tier behind any OpenAI-compatible API, or behind several `deployments` of one model, by weight."""

    engine: Literal["openai"]
    deployments: tuple[HostedDeploymentConfig, ...] = ()
    failover: FailoverConfig = FailoverConfig()

    @model_validator(mode="after")
    def _one_api_or_several(self) -> Self:
        check_deployments(self, self.deployments)
        return self

    @property
    def apis(self) -> tuple[HostedDeploymentConfig, ...]:
        """The deployments behind the tier; a tier with an API of its own has one, named after the tier."""
        own = {name: getattr(self, name) for name in HostedApi.model_fields}
        return self.deployments or (HostedDeploymentConfig(name=self.name, **own),)


class EchoTierConfig(TierConfig):
    """No model: answers by echoing the prompt. For tests and benches only, and says so in its answers."""

    engine: Literal["echo"]
    latency_s: Annotated[float, Field(ge=0)] = 0.0
    skill: Annotated[float, Field(ge=0, le=1)] = 1.0


AnyTierConfig = Annotated[VllmTierConfig | HostedTierConfig | EchoTierConfig, Field(discriminator="engine")]
