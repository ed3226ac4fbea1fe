"""Who did what, to what, and why: changes of keys and versions, and administrators' reading of callers' records.

A command writes its entry to the decision store at once; where that is out of reach, to a file under the state folder,
which the next entry, `serve-graph audit` or the running graph delivers. An entry holds no key and no prompt.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_graph.config.graph import GraphConfig
    from serve_graph.records.audit_log import AuditLog

logger = logging.getLogger(__name__)
WITHIN_S = 5.0
"""How long a command waits for the store before the entry is left for later."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. `actor` is `key:NAME` over HTTP, `os:USER@HOST` for a command, `graph` for the graph itself.

    `action` is `what.done` (`keys.create`), `target` what it was done to, `reason` what whoever did it gave, `detail`
    JSON-able values. `id` makes writing idempotent; `created_at` is ISO 8601, UTC.
    """

    actor: str
    action: str
    target: str
    reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: f"aud-{uuid.uuid4().hex}")
    created_at: str = field(default_factory=_now)

    def shown(self) -> dict[str, Any]:
        """Return the entry as JSON-able data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries to read, the newest first: those that agree with everything that is given.

    `action` may be the first word of several (`keys`); `since` is a moment in ISO 8601, UTC.
    """

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: str | None = None
    limit: int = 100


def moment_of(text: str) -> str:
    """Return a date or moment in ISO 8601 (UTC unless it says otherwise) as entries have it; raises ValueError."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")


def operator() -> str:
    """Return whoever runs this process as an actor: `os:USER@HOST`. The system says it, not the environment."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a user of a container without a name
        user = str(uid)
    return f"os:{user}@{socket.gethostname()}"


def record(
    graph: GraphConfig,
    who: str,
    what: str,
    target: str,
    why: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Write down what a command has done: `record(graph, operator(), "versions.approve", "router/3", "reviewed")`.

    For commands: it runs an event loop of its own. The entry goes to the graph's decision store within `WITHIN_S`,
    together with those that were left before; where that fails, for whatever reason, it is left in the state folder.
    Raises OSError where that cannot be written either. `detail` must be JSON-able, and hold no secret.
    """
    entry = AuditEntry(who, what, target, why, dict(detail or {}))
    folder = left_in(graph)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)  # of a first store
        asyncio.run(asyncio.wait_for(_deliver_now(graph.records_url, folder, entry), WITHIN_S))
    except Exception as error:  # noqa: BLE001 (no driver installed, no such host, no permission, a full disk)
        logger.info("the decision store cannot be written (%s): the audit entry waits", type(error).__name__)
        leave(folder, entry)
    return entry


def left_in(graph: GraphConfig) -> Path:
    """Return the folder where entries wait for the store."""
    return graph.state_folder.resolve() / "audit"


def leave(folder: Path, entry: AuditEntry) -> None:
    """Write an entry to a file of its own, whole or not at all, for its owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = folder / f".{entry.id}"
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(entry), file)
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(folder / f"{entry.id}.json")


async def deliver_left(folder: Path, log: AuditLog) -> int:
    """Write the entries that wait in a folder to the store, oldest first; returns how many there were."""
    entries: dict[Path, AuditEntry] = {}
    for path in folder.glob("*.json"):
        try:
            entries[path] = AuditEntry(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:  # delivered by another process
            continue
        except (OSError, ValueError, TypeError) as error:
            logger.error("the audit entry %s cannot be read (%s): left as .rejected", path, type(error).__name__)
            path.rename(path.with_suffix(".rejected"))
    if entries:
        await log.write(sorted(entries.values(), key=lambda entry: entry.created_at))
    for path in entries:
        path.unlink(missing_ok=True)
    return len(entries)


async def _deliver_now(url: str, folder: Path, entry: AuditEntry) -> None:
    from serve_graph.records.audit_log import AuditLog
    from serve_graph.records.store import DecisionStore

    store = DecisionStore(url)
    try:
        log = AuditLog(store)
        await log.write([entry])
        await deliver_left(folder, log)
    finally:
        await store.close()
