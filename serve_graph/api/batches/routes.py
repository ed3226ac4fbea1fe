"""OpenAI's Batch API: create, retrieve, list and cancel; a key sees its own batches, one with `admin` everybody's."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from router_models.errors import by_number
from serve_graph.access.caller import CALLER
from serve_graph.access.turns import Turns
from serve_graph.api.batches.files import BatchParts, add_files, find_file, note_foreign, owner_seen, page_limit
from serve_graph.api.batches.shapes import BatchRequest, batch_object, list_object
from serve_graph.api.openapi import errors, reply, request_body
from serve_graph.api.transport.connection import Reply, read_body
from serve_graph.api.transport.content_encoding import decoded
from serve_graph.errors import NotFoundError, RequestError
from serve_graph.protocol.requests import parse_request
from serve_graph.records.batches.batches_table import BatchRow

if TYPE_CHECKING:
    from serve_graph.records.audit_log import AuditLog

WINDOW_MS = 24 * 3600 * 1000
MOST_BODY_BYTES = 64 * 1024


def add_batches(
    app: FastAPI,
    parts: BatchParts,
    turns: Turns,
    timeout_s: float | None = None,
    upload_timeout_s: float | None = None,
    audit: AuditLog | None = None,
) -> None:
    """Add the routes of files and batches to the application; what is done with others' is written to `audit`."""
    add_files(app, parts, upload_timeout_s, audit)

    @app.post(
        "/v1/batches",
        responses=reply("Batch") | errors(400, 401, 403, 404, 408, 413, 415, 429, 500, 503),
        openapi_extra=request_body("BatchRequest"),
    )
    async def create_batch(request: Request) -> Response:
        """Have the requests of a file answered within 24 hours, in what time interactive requests leave."""
        body, codings = await read_body(request, MOST_BODY_BYTES, timeout_s)
        if codings:
            body = await turns.run(CALLER.get().name, decoded, body, codings, MOST_BODY_BYTES)
        asked = parse_request(BatchRequest, body)
        file = await find_file(parts, asked.input_file_id, "input_file_id")
        if file.purpose != "batch":
            message = f"{file.id} has the purpose {file.purpose!r}: a batch reads files of the purpose 'batch'"
            raise RequestError(message, "input_file_id", "invalid_purpose")
        await note_foreign(audit, "files.read", file.id, file.owner)
        now_ms = parts.now_ms()
        row = BatchRow(
            f"batch_{uuid.uuid4().hex}", CALLER.get().name, asked.endpoint, file.id, "validating", now_ms,
            now_ms + WINDOW_MS, None if asked.output_expires_after is None else asked.output_expires_after.seconds,
            metadata=asked.metadata,
        )  # fmt: skip
        if not await parts.batches.add(row, parts.config.max_open):
            most = parts.config.max_open
            message = f"{most} {by_number(most, 'batch has', 'batches have')} not ended, as many as a key may have"
            raise RequestError(message, None, "too_many_batches")
        parts.wake()
        return Reply(batch_object(row))

    @app.get("/v1/batches", responses=reply("BatchList") | errors(400, 401, 403, 404, 503))
    async def list_batches(request: Request) -> Response:
        """List batches, the newest first: `limit` (20, at most 100), `after` (an id)."""
        limit = page_limit(request, 100, 20)
        name = request.query_params.get("after")
        after = None if name is None else await _found(parts, name, "after")
        rows = await parts.batches.page(owner_seen(), limit=limit + 1, after=after)
        return Reply(list_object([batch_object(row) for row in rows[:limit]], len(rows) > limit))

    @app.get("/v1/batches/{batch_id}", responses=reply("Batch") | errors(401, 403, 404, 503))
    async def retrieve_batch(batch_id: str) -> Response:
        """How far a batch is."""
        return Reply(batch_object(await _found(parts, batch_id)))

    @app.post("/v1/batches/{batch_id}/cancel", responses=reply("Batch") | errors(400, 401, 403, 404, 429, 500, 503))
    async def cancel_batch(batch_id: str) -> Response:
        """Begin nothing more of a batch; what is under way is ended, and there are files of what is done."""
        row = await _found(parts, batch_id)
        await note_foreign(audit, "batches.cancel", row.id, row.owner)
        cancelled = await parts.batches.cancel(row.id, parts.now_ms() // 1000)
        if cancelled is None:
            row = await _found(parts, batch_id)
            raise RequestError(f"Cannot cancel a batch with status '{row.status}'.", None, "invalid_batch_status")
        parts.wake()
        return Reply(batch_object(cancelled))


async def _found(parts: BatchParts, batch_id: str, param: str = "batch_id") -> BatchRow:
    found = await parts.batches.get(batch_id, owner_seen()) if batch_id.isprintable() else None
    if found is None:
        raise NotFoundError(f"No batch found with id '{batch_id[:80]}'.", param)
    return found
