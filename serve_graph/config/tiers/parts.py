"""Sections of a tier's configuration: hosted deployments and failover, LoRA adapters, admission."""

from __future__ import annotations

import ipaddress
import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from serve_graph.config.base import Frozen
from serve_graph.errors import ConfigError

PRIVATE_NAMES = (".localhost", ".local", ".localdomain", ".internal", ".home.arpa", ".test", ".invalid", ".svc")
"""Endings of names that the public DNS does not serve."""
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HostedApi(Frozen):
    """An OpenAI-compatible API, or Anthropic's: its address, model and key."""

    api: Literal["openai", "anthropic"] = "openai"
    """What the API speaks: `openai` (chat completions, as most providers do) or `anthropic` (the Messages API)."""
    model: str | None = None
    """The model to request; required unless the tier lists `deployments`."""
    embedding_model: str | None = None
    """The model to request for `/v1/embeddings`, if it is another one; the tier needs `embeddings: true`."""
    base_url: str | None = None
    """URL of the API up to and including its version, such as `https://api.openai.com/v1`; null: that of OpenAI or
    Anthropic, by `api`.
    """
    insecure_http: bool = False
    """Whether prompts and the key may be sent unencrypted (`http://`) to a public address. Addresses of this machine,
    of private networks and of one word, as Kubernetes services have, need not say so.
    """
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key, unless `api_key_file` is set. With `api: anthropic` the default is
    `ANTHROPIC_API_KEY`.
    """
    api_key_file: Path | None = None
    """File that holds the key, re-read for every call so that a rotated secret is picked up."""
    organization: str | None = None
    """OpenAI organization; null: none."""
    project: str | None = None
    """OpenAI project; null: none."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Additional request headers."""
    parameters: dict[str, str | None] = Field(default_factory=dict)
    """Request parameters that this API names differently (the new name) or does not accept (null)."""
    thinking: Literal["adaptive", "budget"] = "adaptive"
    """With `api: anthropic`, how `reasoning_effort` is asked for: `adaptive` (an effort) or, of older models, `budget`
    (a number of thinking tokens).
    """
    prompt_caching: bool = False
    """With `api: anthropic`, whether prompts are cached that no request asks to cache, too; writing costs more."""

    @model_validator(mode="before")
    @classmethod
    def _key_of_anthropic(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("api") != "anthropic":
            return data
        return {"api_key_env": "ANTHROPIC_API_KEY", **data}

    @model_validator(mode="after")
    def _fields_of_its_api(self) -> Self:
        others = ("organization", "project") if self.api == "anthropic" else ("thinking", "prompt_caching")
        fields = type(self).model_fields
        if self.base_url is not None and not self.insecure_http and _is_public_http(self.base_url):
            raise ValueError(
                f"base_url {self.base_url!r} would send prompts and the key unencrypted: use https://, or set "
                "insecure_http: true"
            )
        if stray := [name for name in others if getattr(self, name) != fields[name].default]:
            raise ValueError(f"{', '.join(stray)}: not with api: {self.api}")
        return self

    def read_key(self) -> str:
        """Return the current key; raises ConfigError naming the variable or file that contains none."""
        if self.api_key_file is None:
            key, where = os.environ.get(self.api_key_env, ""), f"${self.api_key_env}"
        else:
            where = str(self.api_key_file)
            try:
                key = self.api_key_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"the API key file {where} cannot be read ({type(error).__name__})") from error
        if not (key := key.strip()):
            raise ConfigError(f"no API key in {where}")
        return key


class HostedDeploymentConfig(HostedApi):
    """One of several deployments behind a hosted tier."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    """The deployment's name in records and metrics."""
    model: str
    """The model to request."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Share of the requests, relative to the other deployments. 0: a spare, used only if no other may be called."""


class FailoverConfig(Frozen):
    """Retries and failover of a hosted tier, on 429, 5xx, time-outs and connection errors.

    After the first output of a stream nothing is retried.
    """

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Calls for one request, in total."""
    max_fallbacks: Annotated[int, Field(ge=0, le=20)] = 1
    """How many other deployments one request may be sent to."""
    attempt_timeout_s: Seconds | None = None
    """Seconds that one call may take (for a stream, until its first chunk); null: all the remaining time."""
    backoff_s: Seconds = 0.5
    """Seconds before the second call of the same deployment, doubled each time and jittered, unless the API sends
    `Retry-After`.
    """
    backoff_max_s: Seconds = 8.0
    """Upper bound of the doubled pause, in seconds."""
    max_wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    """Longest pause that is taken, in seconds; a longer one ends the attempts."""
    trip_after: Annotated[int, Field(ge=1)] = 3
    """Consecutive failures after which a deployment's circuit breaker opens. A call that runs out of a time shorter
    than the tier's own (`attempt_timeout_s`, else `timeout_s`), by a deadline of its request, is none.
    """
    cooldown_s: Seconds = 30.0
    """Seconds for which an open breaker blocks the deployment, until one call probes it."""


class LoraSection(Frozen):
    """LoRA adapters of a vLLM tier, through `ray.serve.llm`'s LoraConfig; the tier answers with one or with none."""

    loading_path: str
    """The folder of the adapters: s3://, gs://, abfss:// or azure://, or the absolute path of a folder that every node
    has.
    """
    adapter: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")] | None = None
    """Name of the adapter that the tier answers with; null: with the weights alone, beside tiers with adapters that
    share its engine (`engine_of`).
    """
    max_adapters_per_replica: Annotated[int, Field(ge=1)] = 16
    """Adapters that a replica keeps loaded."""
    max_rank: Annotated[int, Field(ge=1)] = 16
    """Largest rank of an adapter, as vLLM's `max_lora_rank`."""
    max_in_batch: Annotated[int, Field(ge=1)] = 1
    """Adapters that one batch may hold, as vLLM's `max_loras`: requests for more wait for each other."""
    download_timeout_s: Seconds | None = 30.0
    """Seconds that the download of an adapter may take; null: no limit."""
    max_download_tries: Annotated[int, Field(ge=1)] = 10
    """Attempts to download an adapter."""

    @field_validator("loading_path")
    @classmethod
    def _reachable(cls, path: str) -> str:
        if not path.startswith(("s3://", "gs://", "abfss://", "azure://", "/")):
            raise ValueError(
                f"lora.loading_path must be s3://, gs://, abfss://, azure:// or an absolute folder, found {path!r}"
            )
        return path.rstrip("/")

    @property
    def folder(self) -> Path | None:
        """The adapter's folder if it is on a local file system; None if Ray fetches it, and where there is none."""
        return None if self.adapter is None or self.local_path is None else self.local_path / self.adapter

    @property
    def local_path(self) -> Path | None:
        """The folder of the adapters if it is on a local file system."""
        return Path(self.loading_path) if self.loading_path.startswith("/") else None


class AdmissionConfig(Frozen):
    """Limits on how many requests one ingress replica sends to a tier; further requests receive 429.

    A request is also refused if it would wait past its deadline.
    """

    max_in_flight: Annotated[int, Field(ge=1)] | None = None
    """Requests in progress at the tier; null: what its replicas take at most (`max_ongoing_requests` ×
    `max_replicas`).
    """
    max_queued: Annotated[int, Field(ge=0)] | None = None
    """Requests waiting for the tier; null: as many as `max_in_flight`."""


def _is_public_http(url: str) -> bool:
    """Whether a URL is `http://` and its host neither an address of a private network nor a name of one."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    try:
        private = not ipaddress.ip_address(host).is_global
    except ValueError:
        private = "." not in host or host.endswith(PRIVATE_NAMES)
    return parts.scheme.lower() == "http" and not private


def check_deployments(api: HostedApi, deployments: tuple[HostedDeploymentConfig, ...]) -> None:
    """Raise ValueError unless a tier has either one API or deployments, at least one with a positive weight."""
    if not deployments:
        if api.model is None:
            raise ValueError("a hosted tier needs `model`, or `deployments` with a model each")
        return
    if stray := sorted(set(HostedApi.model_fields) & api.model_fields_set):
        raise ValueError(f"a tier with `deployments` must set {', '.join(stray)} in each deployment")
    names = [deployment.name for deployment in deployments]
    if len(set(names)) != len(names):
        raise ValueError(f"deployment names must differ: {names}")
    if math.fsum(deployment.weight for deployment in deployments) == 0:
        raise ValueError("at least one deployment needs a weight above 0")
