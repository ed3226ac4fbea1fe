"""The graph's configuration: typed, frozen, and refusing what it does not know.

Read once with `load_config`, passed down from there. Nothing reads it at import, no environment variable changes the
graph's shape; `${NAME}` inside a YAML string is replaced by an environment variable, for secrets and paths only.
"""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from serve_graph.access_sections import AccessConfig, SessionsConfig
from serve_graph.errors import ConfigError
from serve_graph.price_section import Amount, PriceConfig
from serve_graph.section import Frozen
from serve_graph.tier_sections import (
    AdmissionConfig,
    FailoverConfig,
    HostedApi,
    HostedDeploymentConfig,
    LoraSection,
    check_deployments,
)

TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
STORE_DRIVERS = MappingProxyType(
    {
        "sqlite": "sqlite+aiosqlite",
        "sqlite+aiosqlite": "sqlite+aiosqlite",
        "postgres": "postgresql+asyncpg",
        "postgresql": "postgresql+asyncpg",
        "postgresql+asyncpg": "postgresql+asyncpg",
    }
)
RESERVED_NAMES = frozenset({"auto", "router", "verifier", "ingress"})


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


class PolicyConfig(Frozen):
    """Which router version serves, and what is promised where none does.

    `version`: an alias or number of the registered model. `safe_tier` answers when the policy cannot decide.
    `stream` is when a cheap answer may be shown (docs/streaming.md); after `first_token_s` seconds without a word,
    `at_first_token` is done regardless. `tool_loop`: whether a conversation's tool calls hold the tier that made them.
    `router_usd_per_s` and `verifier_usd_per_s` put their time on every bill.
    """

    model_name: str = "serve-graph-router"
    version: str = "stable"
    safe_tier: TierName = "frontier"
    timeout_s: Annotated[float, Field(gt=0)] = 2.0
    abstain: Literal["allow", "forbid"] = "allow"
    stream: Literal["verify", "prefix", "route"] = "verify"
    first_token_s: Annotated[float, Field(gt=0)] | None = None
    at_first_token: Literal["commit", "escalate"] = "escalate"
    tool_loop: Literal["stay", "route"] = "stay"
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.10
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.10
    router_usd_per_s: Amount = Decimal(0)
    verifier_usd_per_s: Amount = Decimal(0)
    router_scaling: ScalingConfig = ScalingConfig(max_replicas=2)
    verifier_scaling: ScalingConfig = ScalingConfig(max_replicas=2)


class RecordsConfig(Frozen):
    """The decision store: an SQLAlchemy URL of SQLite or PostgreSQL; default SQLite (WAL) under the state folder.

    Records older than `keep_days` are deleted (null: none are). With `keep_prompts` they hold the routed text, in
    which everything that a pattern of `redact` finds, and whatever `redact_with` (`module:function`, text to text)
    changes, is replaced first.
    """

    url: str | None = None
    keep_days: Annotated[float, Field(gt=0)] | None = None
    keep_prompts: bool = False
    redact: tuple[re.Pattern[str], ...] = ()
    redact_with: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    retry_s: Annotated[float, Field(gt=0)] = 2.0

    @field_validator("url")
    @classmethod
    def _with_async_driver(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, _, rest = url.partition("://")
        if scheme not in STORE_DRIVERS:
            raise ValueError(f"records.url must begin with sqlite:// or postgresql://, found {scheme!r}")
        return f"{STORE_DRIVERS[scheme]}://{rest}"


class HttpConfig(Frozen):
    """Where the endpoint listens. Ray Serve's HAProxy and throughput mode are on unless the binary does not run.

    A stream that is silent for `keep_alive_s` seconds gets a comment, which callers ignore. With
    `start_before_commit` that includes the silence before anybody speaks: the reply then begins with status 200 before
    it is known who answers, and a later failure is an error event instead of a status.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    haproxy: bool = True
    max_body_bytes: Annotated[int, Field(ge=1024)] = 2 * 1024 * 1024
    keep_alive_s: Annotated[float, Field(gt=0)] = 5.0
    start_before_commit: bool = True
    scaling: ScalingConfig = ScalingConfig(max_replicas=2, max_ongoing_requests=512, target_ongoing_requests=128)


class GraphConfig(Frozen):
    """The whole graph. `state_folder` holds everything the project writes: weights, MLflow, records, spools."""

    tiers: Annotated[tuple[AnyTierConfig, ...], Field(min_length=1)]
    policy: PolicyConfig = PolicyConfig()
    records: RecordsConfig = RecordsConfig()
    http: HttpConfig = HttpConfig()
    access: AccessConfig = AccessConfig()
    sessions: SessionsConfig = SessionsConfig()
    tracking_uri: str | None = None
    state_folder: Path = Path(".serve_graph")
    logical_cpus: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) != len(names):
            raise ValueError(f"tier names must differ: {names}")
        if reserved := RESERVED_NAMES & set(names):
            raise ValueError(f"reserved tier name(s): {sorted(reserved)}")
        if self.policy.safe_tier not in names:
            raise ValueError(f"policy.safe_tier {self.policy.safe_tier!r} is not a tier; tiers: {names}")
        if self.sessions.ttl_s > (cached := max(tier.prompt_cache_s for tier in self.tiers)):
            raise ValueError(
                f"sessions.ttl_s {self.sessions.ttl_s:g} outlives every tier's prompt cache ({cached:g} s)"
            )
        return self

    def tier(self, name: str) -> AnyTierConfig:
        """Look a tier up by name; KeyError where there is none."""
        return {tier.name: tier for tier in self.tiers}[name]

    @property
    def tier_names(self) -> tuple[str, ...]:
        return tuple(tier.name for tier in self.tiers)

    @property
    def registry_uri(self) -> str:
        """MLflow's tracking URI: the configured one, or SQLite under the state folder."""
        return self.tracking_uri or f"sqlite:///{self.state_folder.resolve() / 'mlflow.db'}"

    @property
    def keys_file(self) -> Path:
        """Where `serve-graph keys` writes: the configured file, or `keys.yaml` under the state folder."""
        return self.access.keys_file or self.state_folder.resolve() / "keys.yaml"

    @property
    def records_url(self) -> str:
        """The decision store's URL: the configured one, or SQLite under the state folder."""
        return self.records.url or f"sqlite+aiosqlite:///{self.state_folder.resolve() / 'decisions.db'}"


def load_config(path: Path, **overrides: Any) -> GraphConfig:
    """Read a YAML file into a GraphConfig; top-level `overrides` replace keys.

    Raises ConfigError naming the file, the key and what is wrong with it.
    """
    try:
        data = _expand(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping with at least `tiers`")
    try:
        return GraphConfig.model_validate(data | overrides)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path} is not a valid configuration:\n" + "\n".join(lines)) from error


def _expand(data: Any) -> Any:
    """Replace `${NAME}` in every string value, after parsing: what a variable holds cannot change the structure."""
    if isinstance(data, dict):
        return {key: _expand(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_expand(value) for value in data]
    return _expand_text(data) if isinstance(data, str) else data


def _expand_text(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"the configuration names ${{{name}}}, but that environment variable is not set")
        return os.environ[name]

    return re.sub(r"\$\{([A-Z][A-Z0-9_]*)\}", value, text)
