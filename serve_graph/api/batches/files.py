"""OpenAI's Files API: upload, list, retrieve, read, delete; a key sees its own files, one with `admin` everybody's."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from router_models.errors import by_number
from serve_graph.access.caller import CALLER
from serve_graph.api.audit import note_reading
from serve_graph.api.batches.shapes import file_object, list_object
from serve_graph.api.batches.uploads import PURPOSES, Upload, read_upload
from serve_graph.api.openapi import errors, reply
from serve_graph.api.transport.connection import NamedResponse, Reply
from serve_graph.config.records import BatchesConfig
from serve_graph.errors import NotFoundError, RateLimitedError, RequestError
from serve_graph.records.batches.batches_table import BatchesTable
from serve_graph.records.batches.file_storage import FILE_PIECE, FileStorage, pieces_of
from serve_graph.records.batches.files_table import FileRow, FilesTable

if TYPE_CHECKING:
    from serve_graph.records.audit_log import AuditLog

DAY_MS = 86_400_000
UPLOADS_AT_ONCE = 8
"""Of one key to one replica: each takes as much of its temporary folder as a file may have."""
FILE_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"application/octet-stream": {"schema": {"type": "string"}}}}
}
FILE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"enum": list(PURPOSES)},
                    },
                }
            }
        },
    }
}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class BatchParts:
    """What the routes of files and batches work with. `wake` tells this replica's worker that there is a batch."""

    files: FilesTable
    batches: BatchesTable
    storage: FileStorage
    config: BatchesConfig = field(default_factory=BatchesConfig)
    wake: Callable[[], None] = lambda: None
    now_ms: Callable[[], int] = _now_ms


class FileReply(NamedResponse, StreamingResponse):
    """A file's bytes."""


def owner_seen() -> str | None:
    """Whose files and batches the caller may see: its key's name, or None: everybody's."""
    caller = CALLER.get()
    return None if caller.may("admin") else caller.name


async def find_file(parts: BatchParts, file_id: str, param: str = "id") -> FileRow:
    """A file that the caller may see; raises NotFoundError."""
    found = await parts.files.get(file_id, owner_seen(), parts.now_ms()) if file_id.isprintable() else None
    if found is None:
        raise NotFoundError(f"No such File object: {file_id[:80]}", param)
    return found


def page_limit(request: Request, most: int, otherwise: int) -> int:
    """The query's `limit`; raises RequestError for one that is none."""
    given = request.query_params.get("limit")
    if given is None:
        return otherwise
    if not given.isdecimal() or len(given) > 9 or not 1 <= int(given) <= most:
        raise RequestError(f"limit is a whole number from 1 to {most}", "limit", "invalid_value")
    return int(given)


async def note_foreign(audit: AuditLog | None, action: str, target: str, owner: str | None) -> None:
    """Write down what an administrator does with another key's file or batch, before it is done."""
    if owner != CALLER.get().name:
        await note_reading(audit, action, target, {"key": owner})


def add_files(app: FastAPI, parts: BatchParts, timeout_s: float | None = None, audit: AuditLog | None = None) -> None:
    """Add the routes to the application; readings of others' files are written to `audit`."""
    config = parts.config
    arriving: Counter[str | None] = Counter()

    @app.post("/v1/files", responses=reply("FileObject") | errors(400, 401, 403, 408, 413, 415, 429, 500, 503),
              openapi_extra=FILE_BODY)  # fmt: skip
    async def upload_file(request: Request) -> Response:
        """Upload a file of requests, one JSON object a line (purpose `batch`)."""
        owner = CALLER.get().name
        if arriving[owner] >= UPLOADS_AT_ONCE:
            raise RateLimitedError(f"{UPLOADS_AT_ONCE} files are being uploaded, as many as may be", 1.0, "requests")
        arriving[owner] += 1
        try:
            _check_room(config, *await parts.files.held_by(owner), 1)
            upload = await read_upload(request, config.max_file_bytes, timeout_s)
            try:
                row = await _stored(parts, owner, upload)
            finally:
                upload.close()
        finally:
            arriving[owner] -= 1
        return Reply(file_object(row))

    @app.get("/v1/files", responses=reply("FileList") | errors(400, 401, 403, 503))
    async def list_files(request: Request) -> Response:
        """List files: `limit` (10,000), `after` (an id), `order` (`desc`, `asc`), `purpose`."""
        asked = request.query_params
        limit, order = page_limit(request, 10_000, 10_000), asked.get("order", "desc")
        if order not in ("asc", "desc"):
            raise RequestError("order is asc or desc", "order", "invalid_value")
        after = await find_file(parts, asked["after"], "after") if "after" in asked else None
        purpose = asked.get("purpose")
        if purpose is not None and not purpose.isprintable():  # PostgreSQL rejects NUL
            raise RequestError("purpose holds characters that none has", "purpose", "invalid_value")
        rows = await parts.files.page(
            owner_seen(), parts.now_ms(), limit=limit + 1, after=after, purpose=purpose, newest=order == "desc"
        )
        return Reply(list_object([file_object(row) for row in rows[:limit]], len(rows) > limit))

    @app.get("/v1/files/{file_id}", responses=reply("FileObject") | errors(401, 403, 404, 503))
    async def retrieve_file(file_id: str) -> Response:
        """What is known of a file."""
        return Reply(file_object(await find_file(parts, file_id)))

    @app.get(
        "/v1/files/{file_id}/content",
        responses=FILE_CONTENT | errors(401, 403, 404, 503),
        response_class=FileReply,
    )
    async def file_content(file_id: str) -> Response:
        """The bytes of a file."""
        row = await find_file(parts, file_id)
        await note_foreign(audit, "files.read", row.id, row.owner)
        opened = ExitStack()
        try:
            file = await asyncio.to_thread(opened.enter_context, parts.storage.reading(row.id))
        except FileNotFoundError:
            raise NotFoundError(f"the content of {row.id} is not there any more", "id") from None
        headers = {"content-length": str(row.bytes)}
        return FileReply(_sent(file, opened), media_type="application/octet-stream", headers=headers)

    @app.delete("/v1/files/{file_id}", responses=reply("FileDeleted") | errors(400, 401, 403, 404, 500, 503))
    async def delete_file(file_id: str) -> Response:
        """Delete a file; one that a batch still reads is not deleted."""
        row = await find_file(parts, file_id)
        if (batch := await parts.files.used_by(row.id)) is not None:
            raise RequestError(f"{row.id} is read by {batch}: cancel that, or wait for its end", "id", "file_in_use")
        await note_foreign(audit, "files.delete", row.id, row.owner)
        await parts.files.delete(row.id)
        await asyncio.to_thread(parts.storage.delete, row.id)
        return Reply({"id": row.id, "object": "file", "deleted": True})


def _check_room(config: BatchesConfig, count: int, size: int, more: int) -> None:
    if count >= config.max_files:
        raise RequestError(
            f"there {by_number(count, 'is', 'are')} {count} {by_number(count, 'file')}, as many as may be: "
            "delete some",
            "file",
            "too_many_files",
        )
    if size + more > config.max_key_bytes:
        message = f"files may have {config.max_key_bytes} bytes together, and {size} are taken: delete some"
        raise RequestError(message, "file", "file_storage_exceeded")


async def _stored(parts: BatchParts, owner: str | None, upload: Upload) -> FileRow:
    now_ms = parts.now_ms()
    keep_ms = int(parts.config.keep_days * DAY_MS)
    keep_ms = keep_ms if upload.keep_s is None else min(keep_ms, upload.keep_s * 1000)
    name = f"file-{uuid.uuid4().hex}"
    row = FileRow(name, owner, upload.purpose, upload.filename, upload.bytes, now_ms, now_ms + keep_ms)
    if (held := await parts.files.reserve(row, parts.config.max_files, parts.config.max_key_bytes)) is not None:
        _check_room(parts.config, *held, row.bytes)
    try:
        await asyncio.to_thread(parts.storage.write, name, pieces_of(upload.file))
        await parts.files.show(row)
    except BaseException:  # where this fails too, its time is over: `BatchWorker.tidy` deletes it
        await asyncio.to_thread(parts.storage.delete, name)
        await parts.files.delete(name)
        raise
    return row


async def _sent(file: IO[bytes], opened: ExitStack) -> AsyncIterator[bytes]:
    with opened:
        while piece := await asyncio.to_thread(file.read, FILE_PIECE):
            yield piece
