"""Configuration of the tiers: what all have, and what each engine adds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

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

Modality = Literal["text", "image", "audio", "video", "file"]
TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class WeightsConfig(Frozen):
    """Where a tier's weights come from: exactly one of `package`, `hub` and `folder`."""

    package: str | None = None
    """Name of a model that is installed as a Python package (extra `local-models`)."""
    hub: str | None = None
    """Hugging Face Hub id; `org/model@revision` also sets `revision`."""
    folder: Path | None = None
    """A local model folder."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Commit, tag or branch of the hub id. Only a commit pins the weights that a certificate depends on."""

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


ServePolicy = Literal["IngressScaling", "TierScaling"]
"""A class of `cluster.load.scaling_policy`, which only Ray's controller imports."""


LOAD_TOLD = {
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
}
"""Environment of Ray: how often replicas and callers tell their load, in seconds; by default it is 10."""


class ScalingConfig(Frozen):
    """Autoscaling of one deployment, in Ray Serve's terms; equal bounds fix the number of replicas."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Least number of replicas."""
    max_replicas: Annotated[int, Field(ge=1)] = 1
    """Largest number of replicas."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 16.0
    """Requests in progress per replica that autoscaling aims at."""
    anticipate: bool = True
    """Whether a tier has room for what the ingress knows: the requests there and waiting now, and those at cheaper
    tiers that will be escalated to it, by the share that was lately; not only for its own of the last `look_back_s`.
    """
    target_kv_cache: Annotated[float, Field(gt=0, le=1)] | None = 0.75
    """Part of a vLLM replica's KV cache that autoscaling aims at, where that asks for more replicas; null: it is not
    looked at.
    """
    look_back_s: Annotated[float, Field(gt=10)] = 30.0
    """Seconds over which requests in progress are averaged."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 64
    """Requests that a replica takes at once."""
    max_queued_requests: int = -1
    """Requests that Ray Serve queues per caller; -1: no limit."""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 10.0
    """Seconds that the load must stay high before replicas are added."""
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300.0
    """Seconds that the load must stay low before replicas are removed."""
    num_cpus: Annotated[float, Field(ge=0)] = 0.1
    """Logical CPUs that Ray reserves per replica."""
    drain_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds that a stopping replica may take to finish its requests."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} > max_replicas {self.max_replicas}")
        return self

    @property
    def is_fixed(self) -> bool:
        """Whether the number of replicas never changes."""
        return self.min_replicas == self.max_replicas

    def autoscaling(self, policy: ServePolicy | None = None) -> dict[str, Any]:
        """Return Ray Serve's `autoscaling_config`; `policy`: whose rule decides; None: Ray Serve's own."""
        return ({} if policy is None else {"policy": self._policy(policy)}) | {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "target_ongoing_requests": self.target_ongoing_requests,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
            "look_back_period_s": self.look_back_s,
        }

    def _policy(self, policy: ServePolicy) -> dict[str, Any]:
        arguments = {"anticipate": self.anticipate, "target_kv_cache": self.target_kv_cache}
        function = f"serve_graph.cluster.load.scaling_policy:{policy}"
        return {"policy_function": function, "policy_kwargs": arguments if policy == "TierScaling" else {}}


class TierConfig(Frozen):
    """What every tier has: a name, a price, limits and scaling."""

    name: TierName
    """The tier's name, which requests may give as `model`."""
    price: PriceConfig
    """What its calls cost."""
    price_changes: tuple[PriceConfig, ...] = ()
    """Later prices, in the order of their `valid_from`."""
    scaling: ScalingConfig = ScalingConfig()
    """Scaling of the tier's deployment."""
    admission: AdmissionConfig = AdmissionConfig()
    """How many requests one ingress replica sends to the tier."""
    default_max_tokens: Annotated[int, Field(ge=1)] = 256
    """`max_tokens` of requests that set none."""
    decoding: dict[str, Any] = Field(default_factory=dict)
    """Sampling settings (temperature, top_p, …) of requests that set none; certificates depend on them."""
    context_tokens: Annotated[int, Field(ge=16)] | None = None
    """The model's context length, in tokens; null: of a vLLM tier its `max_model_len`, of an echo tier 2048, of a
    hosted tier not known, so that no prompt is taken to be too long for it.
    """
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for a whole answer (for a stream, until its first output), all attempts included."""
    prompt_cache_s: Annotated[float, Field(ge=0)] = 300.0
    """Seconds for which the tier keeps a prompt's prefix cached."""
    embeddings: bool = False
    """Whether the tier also serves `/v1/embeddings`."""
    modalities: tuple[Modality, ...] | None = None
    """What the tier's model takes and gives: `text` and any of `image`, `audio`, `video`, `file`. Requests that hold
    another kind are never sent to it. null: text; of the last tier it is not known, and its engine has the last word.
    """
    tools: bool | None = None
    """Whether the tier takes requests with tools; null: a vLLM tier where its `engine_kwargs` have
    `enable_auto_tool_choice`, others do.
    """
    json_schema: bool = True
    """Whether the tier takes a `response_format` of type `json_schema`."""
    reasoning: bool = True
    """Whether the tier takes a `reasoning_effort` other than `none`."""

    @field_validator("modalities")
    @classmethod
    def _text_first(cls, given: tuple[Modality, ...] | None) -> tuple[Modality, ...] | None:
        if given is None:
            return None
        if "text" not in given or len(set(given)) != len(given):
            raise ValueError(f"modalities are `text` and further ones, each once, found {list(given)}")
        return given

    @model_validator(mode="after")
    def _dated(self) -> Self:
        moments = [change.valid_from for change in self.price_changes]
        dated = [moment for moment in moments if moment is not None]
        if len(dated) < len(moments) or dated != sorted(set(dated)):
            raise ValueError("every one of price_changes needs a valid_from, later than the one before")
        return self

    @property
    def engine_name(self) -> str:
        """The tier whose engine answers."""
        return self.name

    @property
    def context_limit(self) -> int | None:
        """The tokens that a prompt and its answer may have; None where no limit is known."""
        return self.context_tokens

    @property
    def takes_tools(self) -> bool:
        """Whether requests with tools may be sent here: `tools`, or what the kind of tier makes of null."""
        return self.tools is not False

    @property
    def capabilities(self) -> frozenset[str]:
        """Everything that the tier takes: its modalities, and whichever of `tools`, `json_schema` and `reasoning`."""
        also = {"tools": self.takes_tools, "json_schema": self.json_schema, "reasoning": self.reasoning}
        return frozenset(self.modalities or ("text",)) | {name for name, takes in also.items() if takes}


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
