"""Sections of a tier's configuration: hosted deployments and their failover, LoRA adapters, admission."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from serve_graph.config.base import Frozen
from serve_graph.errors import ConfigError

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HostedApi(Frozen):
    """One OpenAI-compatible API: where it is, which model to ask for, and with which key.

    `embedding_model` is what `/v1/embeddings` asks for, where that is another model; the tier says `embeddings: true`.
    `parameters` names those of a request that this API calls otherwise, or (null) does not take.
    The key is the content of `api_key_file` where that is set (read anew for every call, so that a rotated secret is
    picked up), else of the environment variable `api_key_env`.
    """

    model: str | None = None
    embedding_model: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    api_key_file: Path | None = None
    organization: str | None = None
    project: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, str | None] = Field(default_factory=dict)

    def read_key(self) -> str:
        """The key as it is now; raises ConfigError naming the variable or file that holds none."""
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
    """One of several deployments behind a hosted tier. A weight of 0 is a spare: used when no other may be called."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    model: str
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0


class FailoverConfig(Frozen):
    """How a hosted tier tries again: 429, 5xx, time-outs and connection errors, never after the first words left.

    `max_attempts`: calls made for one request, in all; `max_fallbacks`: how many *other* deployments among them.
    `attempt_timeout_s`: the longest one call may take (its first chunk, of a stream); null leaves it all the time
    that is left. Between two calls of the same deployment lies `backoff_s`, doubled each time up to `backoff_max_s`,
    with jitter, or the API's `Retry-After`; a pause over `max_wait_s` is not taken. After `trip_after` failures in a
    row a deployment rests for `cooldown_s`; then one call probes it.
    """

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    max_fallbacks: Annotated[int, Field(ge=0, le=20)] = 1
    attempt_timeout_s: Seconds | None = None
    backoff_s: Seconds = 0.5
    backoff_max_s: Seconds = 8.0
    max_wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    trip_after: Annotated[int, Field(ge=1)] = 3
    cooldown_s: Seconds = 30.0


class LoraSection(Frozen):
    """LoRA adapters of a vLLM tier, through `ray.serve.llm`'s own LoraConfig.

    Adapters are folders under `loading_path` (s3://, gs://, abfss:// or azure://, what Ray can fetch, or a folder that
    every node has, by its absolute path); the tier answers with the one named `adapter`. Ray keeps up to
    `max_adapters_per_replica` of them loaded.
    """

    loading_path: str
    adapter: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
    max_adapters_per_replica: Annotated[int, Field(ge=1)] = 16
    max_rank: Annotated[int, Field(ge=1)] = 16
    download_timeout_s: Seconds | None = 30.0
    max_download_tries: Annotated[int, Field(ge=1)] = 10

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
        """The adapter's own folder where it lies on disk; None where Ray fetches it."""
        return Path(self.loading_path) / self.adapter if self.loading_path.startswith("/") else None


class AdmissionConfig(Frozen):
    """How many requests one ingress replica lets into a tier: so many at work, so many waiting; the rest get 429.

    `max_in_flight` null: as many as the tier's replicas take at most (`max_ongoing_requests` × `max_replicas`).
    `max_queued` null: as many again. A request is also refused when it would wait past its deadline.
    """

    max_in_flight: Annotated[int, Field(ge=1)] | None = None
    max_queued: Annotated[int, Field(ge=0)] | None = None


def check_deployments(api: HostedApi, deployments: tuple[HostedDeploymentConfig, ...]) -> None:
    """Raise ValueError unless a tier names either one API of its own or several deployments with some weight."""
    if not deployments:
        if api.model is None:
            raise ValueError("a hosted tier needs `model`, or `deployments` with one each")
        return
    if stray := sorted(set(HostedApi.model_fields) & api.model_fields_set):
        raise ValueError(f"a tier with `deployments` says {', '.join(stray)} there, once for each")
    names = [deployment.name for deployment in deployments]
    if len(set(names)) != len(names):
        raise ValueError(f"deployment names must differ: {names}")
    if math.fsum(deployment.weight for deployment in deployments) == 0:
        raise ValueError("at least one deployment needs a weight above 0")
