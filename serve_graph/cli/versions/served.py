"""`versions status`: which version takes traffic, as the decision store has it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, say, say_json

if TYPE_CHECKING:
    from serve_graph.config.graph import GraphConfig
    from serve_graph.records.served_versions import ServedRow


def show_served(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show which version the graph serves, or served last, since when and why. Example: serve-graph versions status

    Read from the decision store, whether the graph runs or not: what the last graph said that followed the registry
    (policy.follow_s). Exit 1 where none has yet.
    """
    import asyncio

    from serve_graph.config.graph import load_config

    graph = load_config(config)
    row = asyncio.run(_read(graph))
    if as_json:
        say_json(None if row is None else asdict(row))
    elif row is not None:
        say(f"{row.version}, epoch {row.epoch}, since {row.changed_at}: {row.reason}")
    else:
        say(f"no graph has served a version of {graph.policy.model_name} from the registry yet")
    if row is None:
        raise typer.Exit(1)


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite store; None of any other."""
    scheme, _, path = url.partition(":///")
    return Path(path) if scheme.startswith("sqlite") else None


async def _read(graph: GraphConfig) -> ServedRow | None:
    from serve_graph.records.served_versions import read_served
    from serve_graph.records.store import DecisionStore

    if (file := sqlite_file(graph.records_url)) is not None and not file.exists():
        return None  # reading makes no store
    store = DecisionStore(graph.records_url)
    try:
        return await read_served(store, graph.policy.model_name)
    finally:
        await store.close()
