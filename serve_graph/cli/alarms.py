"""`serve-graph alarms …`: what labels said against served certificates, and lifting it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from serve_graph.cli.decisions import STORE
from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, columns, say, say_json
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from pathlib import Path

    from serve_graph.config.graph import GraphConfig
    from serve_graph.learning.alarm_table import Alarm

app = typer.Typer(help="List and lift alarms; list and close tickets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
@needs("alarms list", *STORE)
def list_alarms(
    every: Annotated[bool, typer.Option("--all", help="Those that were lifted as well.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List the alarms that stand. Example: serve-graph alarms list --all"""
    from serve_graph.config.graph import load_config

    found = [alarm for alarm in asyncio.run(_all(load_config(config))) if every or alarm.lifted_at is None]
    if as_json:
        return say_json([alarm.shown() for alarm in found])
    if not found:
        return say("no alarm stands" if not every else "there has been no alarm")
    rows = [["version", "kind", "scope", "raised", "lifted", "reason"]]
    rows += [[a.version, a.kind, a.scope, a.raised_at[:19], _lifted(a), a.reason] for a in found]
    return say(columns(rows))


@app.command()
@needs("alarms lift", *STORE)
def lift(
    reason: Annotated[str, typer.Option(help="Why nothing is wrong any more; it is kept.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    version: Annotated[str | None, typer.Option(help="Of this version only, as `alarms list` names it.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Lift the alarms that stand: the certificate acts again, within seconds, and is watched by labels from now on.

    Example: serve-graph alarms lift --reason "the labels of 3 March were swapped" --by ann
    """
    _end(config, version, by.strip(), reason.strip(), as_json)


@app.command()
@needs("alarms tickets", *STORE)
def tickets(
    every: Annotated[bool, typer.Option("--all", help="Those that were closed as well.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List open tickets: changes in traffic without labels, which change nothing served.

    Example: serve-graph alarms tickets
    """
    from serve_graph.config.graph import load_config

    every_ticket = asyncio.run(_all(load_config(config), tickets=True))
    found = [ticket for ticket in every_ticket if every or ticket.lifted_at is None]
    if as_json:
        return say_json([ticket.shown() for ticket in found])
    if not found:
        return say("no ticket is open" if not every else "there has been no ticket")
    rows = [["version", "figure", "opened", "closed", "reason"]]
    rows += [[t.version, t.scope, t.raised_at[:19], _lifted(t), t.reason] for t in found]
    return say(columns(rows))


@app.command()
@needs("alarms close", *STORE)
def close(
    reason: Annotated[str, typer.Option(help="What came of it; it is kept.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    version: Annotated[str | None, typer.Option(help="Of this version only, as `alarms tickets` names it.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Close open tickets: from now on traffic is compared with that of now.

    Example: serve-graph alarms close --reason "the new client asks for translations" --by ann
    """
    _end(config, version, by.strip(), reason.strip(), as_json, tickets=True)


def _end(config: Path, version: str | None, by: str, why: str, as_json: bool, *, tickets: bool = False) -> None:
    """Lift the alarms that stand, or close the open tickets, of a version or of all, and say which."""
    from serve_graph.config.graph import load_config
    from serve_graph.records.audit import operator, record

    if not why or not by:
        raise ServeGraphError("--reason and --by need a text")
    graph = load_config(config)
    ended = asyncio.run(_lift(graph, version, by, why, tickets=tickets))
    done, action, listed, scopes = (
        ("closed", "tickets.close", "tickets", "figures") if tickets else ("lifted", "alarms.lift", "list", "alarms")
    )
    if not ended:
        which = "" if version is None else f" of {version}"
        none = f"no ticket{which} is open" if tickets else f"no alarm{which} stands"
        raise ServeGraphError(f"{none}; `serve-graph alarms {listed} --all` shows those that were {done}")
    for name in sorted({alarm.version for alarm in ended}):
        of = [a.scope if tickets else f"{a.kind} {a.scope}" for a in ended if a.version == name]
        record(graph, operator(), action, name, why, {"by": by, scopes: of})
    if as_json:
        return say_json([alarm.shown() for alarm in ended])
    names = [
        f"{done}: {alarm.version}, {alarm.scope if tickets else f'{alarm.kind}, {alarm.scope}'}" for alarm in ended
    ]
    return say("\n".join(names))


async def _all(graph: GraphConfig, version: str | None = None, *, tickets: bool = False) -> list[Alarm]:
    from serve_graph.learning.alarm_table import AlarmTable
    from serve_graph.records.store import DecisionStore

    store = DecisionStore(graph.records_url)
    try:
        return await AlarmTable(store, tickets=tickets).all(version)
    finally:
        await store.close()


async def _lift(graph: GraphConfig, version: str | None, by: str, why: str, *, tickets: bool = False) -> list[Alarm]:
    from datetime import UTC, datetime

    from serve_graph.learning.alarm_table import AlarmTable
    from serve_graph.learning.webhook import webhook_of
    from serve_graph.records.store import DecisionStore

    store = DecisionStore(graph.records_url)
    try:
        table = AlarmTable(store, tickets=tickets)
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        stands = [alarm for alarm in await table.all(version) if alarm.lifted_at is None]
        for name in {alarm.version for alarm in stands}:
            await table.lift(name, by, why, at)
        ids = {alarm.id for alarm in stands}
        lifted = [alarm for alarm in await table.all(version) if alarm.id in ids]
    finally:
        await store.close()
    if lifted and (announce := webhook_of(graph)) is not None:
        await announce("ticket.closed" if tickets else "alarm.lifted", lifted)
    return lifted


def _lifted(alarm: Alarm) -> str:
    return "" if alarm.lifted_at is None else f"{alarm.lifted_at[:19]} by {alarm.lifted_by}: {alarm.lift_reason}"
