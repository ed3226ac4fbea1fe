"""The configuration of a graph: typed, frozen, and rejecting unknown keys.

It is read once by `load_config` and passed down. Nothing reads it at import, and no environment variable changes the
graph's shape; `${NAME}` inside a YAML string is replaced by an environment variable, for secrets and paths.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from serve_graph.config.access import AccessConfig, SessionsConfig
from serve_graph.config.base import Frozen
from serve_graph.config.http import HttpConfig
from serve_graph.config.judge import (
    AnyVerifierConfig,
    GradersConfig,
    JudgeConfig,
    SignalsConfig,
    check_ensemble,
)
from serve_graph.config.learning import AlarmsConfig, FeedbackConfig, GoldenConfig, TicketsConfig
from serve_graph.config.policy import PolicyConfig
from serve_graph.config.records import BatchesConfig, LoggingConfig, RecordsConfig, TracingConfig
from serve_graph.config.rollouts import ComparisonsConfig, RolloutsConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, HostedTierConfig, VllmTierConfig
from serve_graph.config.tiers.shared_engines import check_engines, filled_in
from serve_graph.errors import ConfigError

RESERVED_NAMES = frozenset({"auto", "router", "verifier", "ingress"})


class ModelsConfig(Frozen):
    """Names that requests may give as `model` beside `auto` and the tiers."""

    aliases: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._/:@+-]+$", max_length=256)], str] = Field(
        default_factory=dict
    )
    """Further names, each for `auto`, a tier or an embedder: `{gpt-4o: auto, text-embedding-3-small: minilm}`, for
    clients whose model cannot be changed. `/v1/models` lists them. An alias of a tier chooses that tier.
    """


class GraphConfig(Frozen):
    """The whole graph."""

    tiers: Annotated[tuple[AnyTierConfig, ...], Field(min_length=1)]
    """The tiers, cheapest first."""
    embedders: tuple[VllmTierConfig, ...] = ()
    """Models that only serve embeddings; nothing is routed to them."""
    verifiers: tuple[AnyVerifierConfig, ...] = ()
    """Reward and cross-encoder models that score answers; nothing is routed to them. A router version that was trained
    with the signal `reward:NAME` asks the one called NAME (docs/guides/learning/verifiers.md).
    """
    models: ModelsConfig = ModelsConfig()
    """Names of models beside the tiers'."""
    policy: PolicyConfig = PolicyConfig()
    """The served router version and its use."""
    records: RecordsConfig = RecordsConfig()
    """The decision store."""
    batches: BatchesConfig = BatchesConfig()
    """Requests from files, answered while nobody waits."""
    logging: LoggingConfig = LoggingConfig()
    """The log of every process."""
    tracing: TracingConfig | None = None
    """Spans of requests, by OpenTelemetry; null: none."""
    http: HttpConfig = HttpConfig()
    """The HTTP endpoint."""
    access: AccessConfig = AccessConfig()
    """Access keys, limits and budgets."""
    feedback: FeedbackConfig = FeedbackConfig()
    """Whose feedback counts for what."""
    alarms: AlarmsConfig = AlarmsConfig()
    """What happens when labels contradict the served certificate."""
    tickets: TicketsConfig = TicketsConfig()
    """When changes in traffic that nobody labelled are reported."""
    golden: GoldenConfig | None = None
    """Tasks that are asked again and again, to notice a model that changes; null: none are."""
    judge: JudgeConfig | None = None
    """A model that grades a sample of answers; null: none does."""
    signals: SignalsConfig = SignalsConfig()
    """How the signals are asked for that take further calls."""
    graders: GradersConfig = GradersConfig()
    """Programs that grade answers to known questions."""
    rollouts: RolloutsConfig = RolloutsConfig()
    """What a candidate version may cost, and what promotes it."""
    comparisons: ComparisonsConfig = ComparisonsConfig()
    """How the two versions of a rollout are compared."""
    sessions: SessionsConfig = SessionsConfig()
    """How long conversations stay on their tier."""
    tracking_uri: str | None = None
    """MLflow's tracking URI; null: SQLite in the state folder."""
    nodes: Literal["one", "several"] = "one"
    """Whether replicas run on one machine or on several. `several`: whatever one node alone could read or count is
    refused at start, every such key by name (docs/operate/cluster.md). So it is where Ray has several nodes.
    """
    shared_folders: tuple[Path, ...] = ()
    """Folders with the same contents at the same path on every node: a shared volume, a mounted Secret, a part of the
    image. With several nodes, files that the graph reads lie in them.
    """
    state_folder: Path = Path(".serve_graph")
    """Folder of everything the project writes: weights, MLflow, records, spools. With several nodes each has its own,
    at the same path.
    """
    logical_cpus: Annotated[int, Field(ge=1)] | None = None
    """CPUs that the local Ray cluster declares; null: this machine's cores, at least 4."""

    @model_validator(mode="before")
    @classmethod
    def _engines_shared(cls, data: Any) -> Any:
        return filled_in(data)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [tier.name for tier in self.tiers]
        every = [tier.name for tier in self.every_tier]
        if len(set(every)) != len(every):
            raise ValueError(f"tier names must differ: {every}")
        if reserved := RESERVED_NAMES & set(every):
            raise ValueError(f"reserved tier name(s): {sorted(reserved)}")
        if both := [tier.name for tier in self.tiers if isinstance(tier, VllmTierConfig) and tier.embeddings]:
            raise ValueError(
                f"tier(s) {both}: vLLM serves a model for answers or for embeddings, not for both; "
                "list a model that makes embeddings under `embedders`"
            )
        known = {"auto", *every} - {verifier.name for verifier in self.verifiers}
        for alias, name in self.models.aliases.items():
            if alias in {*known, *every} or name not in known:
                raise ValueError(
                    f"models.aliases: {alias!r} must be a new name, and {name!r} one of {', '.join(sorted(known))}"
                )
        check_engines(self.tiers, (*self.embedders, *self.verifiers))
        if self.policy.safe_tier not in names:
            raise ValueError(f"policy.safe_tier {self.policy.safe_tier!r} is not a tier; tiers: {names}")
        named = [("judge.tier", self.judge and self.judge.tier), ("comparisons.judge", self.comparisons.judge)]
        named += [("golden.tiers", tier) for tier in (self.golden and self.golden.tiers) or ()]
        for key, tier in named:
            if tier is not None and tier not in names:
                raise ValueError(f"{key} {tier!r} is not a tier; tiers: {names}")
        if self.policy.ensemble is not None:
            check_ensemble(self.policy.ensemble, names, [verifier.name for verifier in self.verifiers])
        if self.golden is not None and self.golden.tasks == "kept" and not self.records.keep_prompts:
            raise ValueError("golden.tasks: kept needs records.keep_prompts")
        if self.sessions.ttl_s > (cached := max(tier.prompt_cache_s for tier in self.tiers)):
            raise ValueError(
                f"sessions.ttl_s {self.sessions.ttl_s:g} outlives every tier's prompt cache ({cached:g} s)"
            )
        return self

    def tier(self, name: str) -> AnyTierConfig:
        """Return a tier, an embedder or a verifier model by name; raises KeyError if there is none."""
        return {tier.name: tier for tier in self.every_tier}[name]

    @property
    def every_tier(self) -> tuple[AnyTierConfig, ...]:
        """The tiers, and the models beside them: embedders and verifier models."""
        return (*self.tiers, *self.embedders, *self.verifiers)

    @property
    def tier_names(self) -> tuple[str, ...]:
        return tuple(tier.name for tier in self.tiers)

    @property
    def asked_names(self) -> tuple[str, ...]:
        """The names of all that are asked on the way to an answer: the tiers, and verifier models."""
        return (*self.tier_names, *(verifier.name for verifier in self.verifiers))

    @property
    def golden_tiers(self) -> tuple[str, ...]:
        """The tiers that golden tasks are asked of: those that are named, else the hosted ones."""
        hosted = tuple(tier.name for tier in self.tiers if isinstance(tier, HostedTierConfig))
        return () if self.golden is None else self.golden.tiers or hosted

    @property
    def registry_uri(self) -> str:
        """MLflow's tracking URI: `tracking_uri`, or SQLite in the state folder."""
        return self.tracking_uri or f"sqlite:///{self.state_folder.resolve() / 'mlflow.db'}"

    @property
    def keys_file(self) -> Path:
        """The file that `serve-graph keys` writes: `access.keys_file`, or `keys.yaml` in the state folder."""
        return self.access.keys_file or self.state_folder.resolve() / "keys.yaml"

    @property
    def files_uri(self) -> str:
        """Where batches' files are: `batches.files`, or `files` in the state folder."""
        return self.batches.files or str(self.state_folder.resolve() / "files")

    @property
    def records_url(self) -> str:
        """The decision store's URL: `records.url`, or SQLite in the state folder."""
        return self.records.url or f"sqlite+aiosqlite:///{self.state_folder.resolve() / 'decisions.db'}"


def load_config(path: Path, **overrides: Any) -> GraphConfig:
    """Read a YAML file into a GraphConfig.

    Parameters
    ----------
    path : Path
        The YAML file.
    **overrides
        Values that replace top-level keys of the file.

    Returns
    -------
    GraphConfig
        The validated configuration.

    Raises
    ------
    ConfigError
        With the file, the key and what is wrong with it.
    """
    try:
        data = _expand(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or a date as 2026-13-45
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping with at least `tiers`")
    try:
        return GraphConfig.model_validate(data | overrides)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path} is not a valid configuration:\n" + "\n".join(lines)) from error


def _expand(data: Any) -> Any:
    """Replace `${NAME}` in every string value, after parsing, so that a variable cannot change the structure."""
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
