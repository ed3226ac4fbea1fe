"""`GET /v1/audit`, and the note of every reading of what callers sent: nothing is shown without its entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response

from serve_graph.access.caller import CALLER, SCOPE_NAMES
from serve_graph.api.openapi import errors, reply
from serve_graph.api.transport.connection import Reply
from serve_graph.errors import RequestError
from serve_graph.records.audit import AuditEntry, AuditFilter, moment_of

if TYPE_CHECKING:
    from serve_graph.records.audit_log import AuditLog

MOST_ENTRIES = 1_000
_TEXT = {"type": "string"}
_PARAMETERS = [
    {"name": name, "in": "query", "required": False, "schema": schema}
    for name, schema in {
        "actor": _TEXT,
        "action": _TEXT,
        "target": _TEXT,
        "since": _TEXT,
        "limit": {"type": "integer", "minimum": 1, "maximum": MOST_ENTRIES, "default": 100},
    }.items()
]


def add_audit(app: FastAPI, log: AuditLog) -> None:
    """Add the route that lists the audit log to administrators, the newest entries first."""

    @app.get(
        "/v1/audit",
        responses=reply("AuditList") | errors(400, 401, 403, 503),
        openapi_extra={"parameters": _PARAMETERS},
    )
    async def audit(request: Request) -> Response:
        CALLER.get().require("admin", SCOPE_NAMES["admin"])
        asked = {name: value for name, value in request.query_params.items() if name in AuditFilter.__slots__}
        chosen = _filter(asked)
        await note_reading(log, "audit.read", "audit", asked)
        return Reply({"object": "list", "data": [entry.shown() for entry in await log.entries(chosen)]})


async def note_reading(log: AuditLog | None, action: str, target: str, detail: dict[str, Any] | None = None) -> None:
    """Write down who reads what, before it is shown; StoreUnavailableError, and nothing is shown, where it fails."""
    if log is not None:
        name = CALLER.get().name
        actor = "anyone" if name is None else f"key:{name}"
        await log.write([AuditEntry(actor, action, target, detail=detail or {})])


def _filter(asked: dict[str, str]) -> AuditFilter:
    if any(not value.isprintable() for value in asked.values()):  # PostgreSQL rejects NUL
        raise RequestError("a filter holds characters that no entry has")
    limit = asked.get("limit", "100")
    if not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not 1 <= int(limit) <= MOST_ENTRIES:
        raise RequestError(f"limit must be a number from 1 to {MOST_ENTRIES}, not {limit[:20]!r}", "limit")
    texts = {name: value for name, value in asked.items() if name != "limit"}
    if "since" in texts:
        try:
            texts["since"] = moment_of(texts["since"])
        except (ValueError, OverflowError):
            raise RequestError("since must be a date or a moment in ISO 8601", "since") from None
    return AuditFilter(**texts, limit=int(limit))
