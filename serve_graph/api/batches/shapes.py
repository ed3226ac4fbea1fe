"""OpenAI's objects of files and batches, and what their requests hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve_graph.records.batches.batches_table import BatchRow
from serve_graph.records.batches.files_table import FileRow

MOMENTS = (
    "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at",
    "cancelled_at",
)  # fmt: skip
HOUR_S, MONTH_S = 3600, 2_592_000


class ExpiresAfter(BaseModel):
    """When a file is deleted: seconds after it was made."""

    model_config = ConfigDict(extra="forbid", strict=True)
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=HOUR_S, le=MONTH_S)]


class BatchRequest(BaseModel):
    """The body of `POST /v1/batches`."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)
    input_file_id: Annotated[str, Field(min_length=1, max_length=64)]
    """A file that was uploaded with the purpose `batch`."""
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]
    """What every line's `url` says."""
    completion_window: Literal["24h"]
    """Requests that are not answered by then are not answered any more."""
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    """At most 16 pairs, for whoever asks."""
    output_expires_after: ExpiresAfter | None = None
    """When result files are deleted; null: after `batches.keep_days`."""


def file_object(row: FileRow) -> dict[str, Any]:
    """OpenAI's File."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": row.created_ms // 1000,
        "expires_at": row.expires_ms // 1000,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(row: BatchRow) -> dict[str, Any]:
    """OpenAI's Batch."""
    moments = {"expires_at": row.expires_ms // 1000, **row.moments}
    tokens = row.input_tokens + row.output_tokens
    return {
        "id": row.id,
        "object": "batch",
        "endpoint": row.endpoint,
        "errors": None if row.errors is None else {"object": "list", "data": list(row.errors)},
        "input_file_id": row.input_file,
        "completion_window": "24h",
        "status": row.status,
        "output_file_id": row.output_file,
        "error_file_id": row.error_file,
        "created_at": row.created_ms // 1000,
        **{name: moments.get(name) for name in MOMENTS},
        "request_counts": {"total": row.total, "completed": row.completed, "failed": row.failed},
        "usage": {
            "input_tokens": row.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": row.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens,
        },
        "metadata": None if row.metadata is None else dict(row.metadata),
    }


def list_object(data: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """OpenAI's page of a list."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}
