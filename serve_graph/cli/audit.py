"""`serve-graph audit`: who changed keys and versions, and who read callers' records."""

from __future__ import annotations

from typing import Annotated

import typer

from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, columns, say, say_json


@needs("audit", "aiosqlite", "asyncpg")
def audit(
    actor: Annotated[str | None, typer.Option(help="key:NAME, os:USER@HOST or graph.")] = None,
    action: Annotated[str | None, typer.Option(help="An action, or the first word of several: keys.")] = None,
    target: Annotated[str | None, typer.Option(help="What it was done to.")] = None,
    since: Annotated[str | None, typer.Option(help="A date or moment in ISO 8601, UTC: 2026-11-28.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of entries, newest first.")] = 100,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List who changed keys and versions and who read callers' records. Example: serve-graph audit --action keys"""
    import asyncio

    from serve_graph.config.graph import GraphConfig, load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.records.audit import AuditEntry, AuditFilter, deliver_left, left_in, moment_of
    from serve_graph.records.audit_log import AuditLog
    from serve_graph.records.store import DecisionStore

    try:
        after = None if since is None else moment_of(since)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{since!r} is no date or moment in ISO 8601", param_hint="--since") from None

    async def read(graph: GraphConfig) -> list[AuditEntry]:
        store = DecisionStore(graph.records_url)
        try:
            log = AuditLog(store)
            try:
                await deliver_left(left_in(graph), log)
            except Exception as error:  # noqa: BLE001 (whoever may only read still may)
                typer.echo(f"entries that wait here were not delivered: {type(error).__name__}", err=True)
            return await log.entries(AuditFilter(actor, action, target, after, limit))
        finally:
            await store.close()

    try:
        found = asyncio.run(read(load_config(config)))
    except OSError as error:
        raise ServeGraphError(f"the decision store cannot be reached: {error}") from error
    if as_json:
        return say_json([entry.shown() for entry in found])
    if not found:
        return say("no entries")
    rows = [["time", "actor", "action", "target", "reason", "detail"]]
    for entry in found:
        detail = ", ".join(f"{name}={value}" for name, value in entry.detail.items()) or "-"
        shown = (entry.created_at[:19], entry.actor, entry.action, entry.target, entry.reason or "-", detail)
        rows.append(["".join(c if c.isprintable() else " " for c in text) for text in shown])
    return say(columns(rows))
