"""The kinds of tiers: what each engine adds to what all have."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from serve_graph.config.tiers.parts import (
    FailoverConfig,
    HostedApi,
    HostedDeploymentConfig,
    LoraSection,
    check_deployments,
)
from serve_graph.config.tiers.tier import TierConfig, TierName
from serve_graph.config.tiers.weights import WeightsConfig


class EngineTierConfig(TierConfig):
    """A tier with an engine on our own machines, or with a part in another tier's."""

    engine_of: TierName | None = None
    """The tier whose engine answers for this one too, with this tier's LoRA adapter: what the engine is started with
    (weights, `engine_kwargs`, `scaling`, …) is set there alone. null: an engine of its own.
    """

    @property
    def engine_name(self) -> str:
        """The tier whose engine answers."""
        return self.engine_of or self.name


class VllmTierConfig(EngineTierConfig):
    """A tier served by vLLM through `ray.serve.llm`."""

    engine: Literal["vllm"]
    """Selects this kind of tier."""
    weights: WeightsConfig
    """Where the weights come from."""
    speculation: dict[str, Any] | None = None
    """vLLM's `speculative_config`, passed through: `{method: ngram, …}`, `{method: draft_model, model: …}`, `eagle3`,
    `mtp`; null: off.
    """
    lora: LoraSection | None = None
    """A LoRA adapter on the weights; null: none."""
    engine_kwargs: dict[str, Any] = Field(default_factory=dict)
    """vLLM's engine arguments, passed through."""
    accelerator: Literal["cpu", "gpu", "tpu"] = "gpu"
    """The hardware that the replicas run on."""
    accelerator_type: str | None = None
    """Ray's accelerator type, such as `L4` or `H100`; null: any."""
    request_router: Literal["load", "prefix"] = "load"
    """How a replica is chosen: `load`, or `prefix`, Ray Serve's PrefixCacheAffinityRouter, which prefers the replica
    that has the prompt's prefix cached unless it is much busier.
    """
    prefix_cache: Literal["key", "shared"] = "key"
    """Whose prompts find a prefix in the cache: those of one access key (vLLM's `cache_salt`), since `cached_tokens`
    tells whether somebody has sent it before; or everybody's, which saves more where keys share long prompts.
    """
    placement_bundles: list[dict[str, float]] | None = None
    """Ray placement-group bundles of a replica; null: derived from `accelerator`."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the replicas."""

    @property
    def context_limit(self) -> int | None:
        """The smaller of `context_tokens` and vLLM's own `max_model_len`, where these are set."""
        engines_own = self.engine_kwargs.get("max_model_len")
        given = (self.context_tokens, engines_own if isinstance(engines_own, int) and engines_own > 0 else None)
        return min((tokens for tokens in given if tokens is not None), default=None)

    @property
    def takes_tools(self) -> bool:
        """`tools`, or whether vLLM reads calls out of answers."""
        return bool(self.engine_kwargs.get("enable_auto_tool_choice")) if self.tools is None else self.tools


class HostedTierConfig(HostedApi, TierConfig):
    """A tier behind an OpenAI-compatible API or Anthropic's, or behind several `deployments` of one model.

    Which of several is called goes by weight.
    """

    engine: Literal["openai"]
    """Selects this kind of tier."""
    deployments: tuple[HostedDeploymentConfig, ...] = ()
    """Several deployments instead of the tier's own API."""
    failover: FailoverConfig = FailoverConfig()
    """Retries and failover."""
    placement: Literal["replicas", "ingress"] = "replicas"
    """Where it is called from: replicas of its own, or every ingress replica itself, which is quicker."""

    @model_validator(mode="after")
    def _replicas_where_they_scale(self) -> Self:
        if self.placement == "ingress" and "scaling" in self.model_fields_set:
            raise ValueError("placement: ingress leaves no replicas to `scaling`; see `admission.max_in_flight`")
        return self

    @model_validator(mode="after")
    def _one_api_or_several(self) -> Self:
        check_deployments(self, self.deployments)
        if self.embeddings and any(api.api == "anthropic" for api in self.apis):
            raise ValueError("embeddings: Anthropic's API makes none")
        return self

    @property
    def apis(self) -> tuple[HostedDeploymentConfig, ...]:
        """The deployments behind the tier; a tier with a single API has one, named after the tier."""
        own = {name: getattr(self, name) for name in HostedApi.model_fields}
        return self.deployments or (HostedDeploymentConfig(name=self.name, **own),)


class EchoTierConfig(EngineTierConfig):
    """A tier without a model, for tests and benchmarks: answers repeat the prompt and say so."""

    engine: Literal["echo"]
    """Selects this kind of tier."""
    latency_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds before each answer."""
    start_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that a replica takes to start, as an engine does."""
    skill: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of prompts that are answered with high confidence, 0 to 1."""

    @property
    def context_limit(self) -> int:
        """The context length, which the engine holds its prompts to."""
        return self.context_tokens or 2048


AnyTierConfig = Annotated[VllmTierConfig | HostedTierConfig | EchoTierConfig, Field(discriminator="engine")]
