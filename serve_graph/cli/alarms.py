"""`serve-graph alarms …`: what labels and golden tasks said against what is served, and ending it."""

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
    from serve_graph.learning.golden.run_table import RecordedRun

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


@app.command()
@needs("alarms golden", *STORE)
def golden(
    now: Annotated[bool, typer.Option("--now", help="Have a running graph ask all tiers now.")] = False,
    limit: Annotated[int, typer.Option(help="How many runs are shown, the newest first.", min=1)] = 10,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the last runs of golden tasks, and when the next ones are due. Example: serve-graph alarms golden --now"""
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    if graph.golden is None:
        raise ServeGraphError(f"{config} has no `golden`: no golden tasks are asked (docs/guides/learning/golden.md)")
    runs, due, is_asked = asyncio.run(_golden(graph, now, limit))
    if now and not is_asked:
        raise ServeGraphError("a run is under way: `serve-graph alarms golden` shows it once it has ended")
    if as_json:
        return say_json({"due": due, "runs": [run.shown() for run in runs]})
    rows = [["tier", "run", "at", "kind", "answered", "differ", "wrong", "evidence"], *map(_golden_row, runs)]
    next_runs = [f"{tier}: next run {due.get(tier) or 'as soon as a graph runs'}" for tier in graph.golden_tiers]
    return say("\n".join([columns(rows) if runs else "no run was made yet", *next_runs]))


def _golden_row(run: RecordedRun) -> list[str]:
    differ, grades = run.figure("answers"), run.detail.get("grades")
    return [
        run.tier,
        str(run.number),
        run.at[:19],
        run.kind,
        f"{len(run.answers)} of {run.detail['asked']}",
        f"{differ['now']:.0%} (before {differ['before']:.0%})" if differ else "",
        f"{grades['wrong']} of {grades['graded']} (before {grades['expected']:.1f})" if grades else "",
        f"{grades['e_value'] / run.detail['grades_limit']:.2g} of its limit" if grades else "",
    ]


async def _golden(graph: GraphConfig, now: bool, limit: int) -> tuple[list[RecordedRun], dict[str, str], bool]:
    from serve_graph.learning.golden.run_table import GoldenTable
    from serve_graph.learning.golden.schedule import STATE, run_now
    from serve_graph.learning.watch_states import WatchStates
    from serve_graph.records.store import DecisionStore

    store = DecisionStore(graph.records_url)
    try:
        is_asked = await run_now(store, graph.golden_tiers) if now else False
        state = await WatchStates(store).read(STATE)
        return await GoldenTable(store).latest(limit=limit), dict(state.state.get("due", {})), is_asked
    finally:
        await store.close()


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
