"""`serve-graph decisions …`: one request explained, or many exported, straight from the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from router_models.pricing import plain
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, say, say_json
from serve_graph.errors import ServeGraphError
from serve_graph.records.store import DecisionStore, record_to_json

app = typer.Typer(help="Look at what was decided.", no_args_is_help=True, rich_markup_mode=None)
T = TypeVar("T")


@app.command()
def show(
    decision: Annotated[str, typer.Argument(help="The id from the x-serve-graph-decision header.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Explain one request. Example: serve-graph decisions show dec-0f3a…"""
    record = _ask(config, lambda store: store.get(decision))
    if record is None:
        raise ServeGraphError(f"no decision {decision!r} in the store")
    if as_json:
        return say_json(record_to_json(record))
    asked = f"{record.requested_model} → {record.tier} ({record.outcome}, {record.status})"
    say(f"{record.id}  {record.created_at}  {asked}")
    say(f"routing:  {record.route_reason}")
    say(f"verdict:  {record.verdict_reason or 'none asked for'}")
    for call in record.calls:
        tokens = f"{call.usage.prompt_tokens} + {call.usage.completion_tokens} tokens"
        say(f"call:     {call.tier:10} {tokens:24} {call.latency_s:.2f} s  ${plain(call.cost_usd)}")
    return say(f"bill:     ${plain(record.cost_usd)} in {record.latency_s:.2f} s, version {record.version}")


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="JSON lines; '-' for stdout.")] = Path("-"),
    limit: Annotated[int, typer.Option(min=1)] = 1000,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write the newest decisions as JSON lines. Example: serve-graph decisions export --out decisions.jsonl"""
    records = _ask(config, lambda store: store.latest(limit))
    lines = [json.dumps(record_to_json(record)) for record in records]
    if str(out) == "-":
        say("\n".join(lines))
    else:
        out.write_text("\n".join(lines) + "\n")
        say(f"{len(lines)} decisions → {out}")


def _ask(config: Path, question: Callable[[DecisionStore], Awaitable[T]]) -> T:
    from serve_graph.config import load_config

    store = DecisionStore(load_config(config).records_url)

    async def run() -> T:
        try:
            return await question(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except OSError as error:
        raise ServeGraphError(f"the decision store cannot be reached: {error}") from error
