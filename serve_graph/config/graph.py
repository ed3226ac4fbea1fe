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

from serve_graph.config.access import AccessConfig, SessionsConfig
from serve_graph.config.base import Frozen
from serve_graph.config.prices import Amount
from serve_graph.config.tiers import AnyTierConfig, ScalingConfig, TierName, VllmTierConfig
from serve_graph.errors import ConfigError

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


class PolicyConfig(Frozen):
    """Which router version serves, and what is promised where none does.

    `version`: an alias or number of the registered model. `safe_tier` answers when the policy cannot decide.
    `stream` is when a cheap answer may be shown (docs/guides/streaming.md); after `first_token_s` seconds without a
    word, `at_first_token` is done regardless. `tool_loop`: whether a conversation's tool calls hold the tier that made
    them. With `spill`, and a version certified for it, rejected cheap answers may be shown while the last tier is full
    (docs/guides/tiers.md). `router_usd_per_s` and `verifier_usd_per_s` put their time on every bill.
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
    spill: bool = False
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
    it is known who answers, and a later failure is an error event instead of a status. `deadline_s` is the time that a
    request has for everything, streams to their end; a request may ask for less (`deadline_s` of its own).
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    haproxy: bool = True
    max_body_bytes: Annotated[int, Field(ge=1024)] = 2 * 1024 * 1024
    keep_alive_s: Annotated[float, Field(gt=0)] = 5.0
    start_before_commit: bool = True
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    scaling: ScalingConfig = ScalingConfig(max_replicas=2, max_ongoing_requests=512, target_ongoing_requests=128)


class GraphConfig(Frozen):
    """The whole graph. `state_folder` holds everything the project writes: weights, MLflow, records, spools.

    `embedders` are models that only make embeddings: no tiers, so nothing is routed to them.
    """

    tiers: Annotated[tuple[AnyTierConfig, ...], Field(min_length=1)]
    embedders: tuple[VllmTierConfig, ...] = ()
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
        every = [*names, *(embedder.name for embedder in self.embedders)]
        if len(set(every)) != len(every):
            raise ValueError(f"tier names must differ: {every}")
        if reserved := RESERVED_NAMES & set(every):
            raise ValueError(f"reserved tier name(s): {sorted(reserved)}")
        if both := [tier.name for tier in self.tiers if isinstance(tier, VllmTierConfig) and tier.embeddings]:
            raise ValueError(
                f"tier(s) {both}: vLLM serves a model for answers or for embeddings, not for both; "
                "list a model that makes embeddings under `embedders`"
            )
        if self.policy.safe_tier not in names:
            raise ValueError(f"policy.safe_tier {self.policy.safe_tier!r} is not a tier; tiers: {names}")
        if self.sessions.ttl_s > (cached := max(tier.prompt_cache_s for tier in self.tiers)):
            raise ValueError(
                f"sessions.ttl_s {self.sessions.ttl_s:g} outlives every tier's prompt cache ({cached:g} s)"
            )
        return self

    def tier(self, name: str) -> AnyTierConfig:
        """Look a tier or an embedder up by name; KeyError where there is none."""
        return {tier.name: tier for tier in (*self.tiers, *self.embedders)}[name]

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
