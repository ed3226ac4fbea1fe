"""The decision store's configuration, what records keep of texts, batches and their files, logs and traces."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from serve_graph.config.base import Frozen

STORE_DRIVERS = MappingProxyType(
    {
        "sqlite": "sqlite+aiosqlite",
        "sqlite+aiosqlite": "sqlite+aiosqlite",
        "postgres": "postgresql+asyncpg",
        "postgresql": "postgresql+asyncpg",
        "postgresql+asyncpg": "postgresql+asyncpg",
    }
)


class RecordsConfig(Frozen):
    """The decision store, and how long and in which form prompts are recorded."""

    url: str | None = None
    """SQLAlchemy URL of an SQLite or PostgreSQL database; null: SQLite (WAL) in the state folder."""
    keep_days: Annotated[float, Field(gt=0)] | None = None
    """Days after which records are deleted; null: never."""
    audit_keep_days: Annotated[float, Field(gt=0)] | None = None
    """Days after which entries of the audit log are deleted; null: never."""
    keep_prompts: bool = False
    """Whether records contain the routed text and what else decides the answer, after redaction."""
    keep_answers: bool | None = None
    """Whether records contain the answer's text as well, redacted alike: what `decisions label` shows. null: where
    prompts are kept.
    """
    keep_metadata: tuple[str, ...] | None = None
    """The names of a request's `metadata` that records contain; null: all. Values are redacted as the text is."""
    redact: tuple[re.Pattern[str], ...] = ()
    """Regular expressions; every match in the recorded text, and in the values of metadata, is replaced."""
    redact_with: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    """A function as `module:function` that takes and returns the text, for further redaction."""
    retry_s: Annotated[float, Field(gt=0)] = 2.0
    """Seconds between two attempts to reach the store."""

    @property
    def keeps_answers(self) -> bool:
        """Whether answers are kept: never without their prompts."""
        return self.keep_prompts and self.keep_answers is not False

    @model_validator(mode="after")
    def _answers_with_prompts(self) -> Self:
        if self.keep_answers and not self.keep_prompts:
            raise ValueError("keep_answers needs keep_prompts: an answer tells its prompt")
        return self

    @field_validator("url")
    @classmethod
    def _with_async_driver(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, _, rest = url.partition("://")
        if scheme not in STORE_DRIVERS:
            raise ValueError(f"records.url must begin with sqlite:// or postgresql://, found {scheme!r}")
        return f"{STORE_DRIVERS[scheme]}://{rest}"


class BatchesConfig(Frozen):
    """OpenAI's Files and Batch API (docs/guides/batches.md): requests from a file, answered in what time interactive
    ones leave, under the key that uploaded it.
    """

    enabled: bool = True
    """Whether there are `/v1/files` and `/v1/batches`."""
    files: Annotated[str, Field(min_length=1)] | None = None
    """Where files are kept: a folder, or the URI of an object store that pyarrow knows (`s3://bucket/prefix`, with
    `?endpoint_override=` for others' S3; `gs://…`, `abfs://…`). null: `files` in the state folder.
    """
    keep_days: Annotated[float, Field(gt=0)] = 30.0
    """Days after which files are deleted, unless they ask for less, and batches that have ended are forgotten."""
    max_file_bytes: Annotated[int, Field(ge=1024)] = 200 * 1024 * 1024
    """The largest file that may be uploaded, in bytes."""
    max_lines: Annotated[int, Field(ge=1)] = 50_000
    """The most requests that a batch may have. One of them may be as long as `http.max_body_bytes`."""
    max_files: Annotated[int, Field(ge=1)] = 500
    """The most files that a key may have at a time, results included."""
    max_key_bytes: Annotated[int, Field(ge=1024)] = 10 * 1024**3
    """The most bytes that a key's files may have together."""
    max_open: Annotated[int, Field(ge=1)] = 20
    """The most batches that a key may have that have not ended."""
    concurrency: Annotated[int, Field(ge=1)] = 32
    """The most requests of batches that an ingress replica answers at a time, while nobody else asks it anything."""
    beside: Annotated[int, Field(ge=1)] = 1
    """The same while interactive requests are under way, and for a second after the last: work under way is ended, and
    no more than so many are begun.
    """
    attempts: Annotated[int, Field(ge=1)] = 3
    """How often a request is tried whose tiers fail. One that meets a full tier, or a limit per minute, waits."""


class LoggingConfig(Frozen):
    """What every process of the graph writes to its log."""

    format: Literal["text", "json"] = "text"
    """`text`: sentences, as Python and Ray write them. `json`: one object a line, with the decision that it was said
    of, never with the text of a prompt or an answer (docs/operate/observing.md).
    """
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least level of the graph's own lines in `json`; other libraries' are shown from warnings on."""


class TracingConfig(Frozen):
    """Where spans of requests are sent, and how many requests have any."""

    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    """Address of an OpenTelemetry collector, over HTTP: `http://collector:4318`. `/v1/traces` is added where the
    address has no path. Headers it wants are in OpenTelemetry's own variable OTEL_EXPORTER_OTLP_HEADERS.
    """
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the requests that are traced, where the caller has not decided that."""
    follow_callers: bool = True
    """Whether a caller that sends `traceparent` decides by it if its request is traced; false: `sample` alone does.
    Either way the caller's trace goes on.
    """
    capture_content: bool = False
    """Whether spans of tier calls hold the text of prompts and answers (`gen_ai.input.messages`,
    `gen_ai.output.messages`).
    """
    service_name: Annotated[str, Field(min_length=1)] = "serve-graph"
    """`service.name` of all spans."""

    @property
    def traces_url(self) -> str:
        """The address that spans are posted to."""
        base = self.otlp_endpoint.rstrip("/")
        return base if "/" in base.partition("://")[2] else f"{base}/v1/traces"
