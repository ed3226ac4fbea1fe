"""`serve-graph records …`: the decision store itself."""

from __future__ import annotations

from typing import Annotated

import typer

from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, say, say_json

app = typer.Typer(help="Manage the decision store.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def records() -> None:
    """Manage the decision store."""


@app.command()
@needs("records migrate", "aiosqlite", "asyncpg")
def migrate(
    config: ConfigOption = DEFAULT_CONFIG,
    wait_s: Annotated[float, typer.Option(help="Seconds to wait for a database that does not answer yet.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Create the decision store's tables, or bring those of an earlier release up to date.

    A graph does so itself when it starts; as a step of its own, it is done once, and before any new replica is up.

    Example: serve-graph records migrate --config configs/cluster.yaml --wait-s 300
    """
    import asyncio

    from serve_graph.config.graph import load_config
    from serve_graph.records.migrations.migrate import HEAD

    asyncio.run(_migrated(load_config(config).records_url, wait_s))
    if as_json:
        return say_json({"revision": HEAD})
    return say(f"the decision store is at revision {HEAD}")


async def _migrated(url: str, wait_s: float) -> None:
    """Open the store, trying again for `wait_s` seconds while nothing answers there."""
    import asyncio
    import time

    from sqlalchemy.exc import DBAPIError

    from serve_graph.errors import StoreUnavailableError
    from serve_graph.records.store import DecisionStore

    give_up = time.monotonic() + wait_s
    while True:
        store = DecisionStore(url)
        try:
            await store.open()
        except (OSError, DBAPIError) as error:
            if time.monotonic() >= give_up:
                raise StoreUnavailableError(f"the decision store cannot be reached: {type(error).__name__}") from error
            await asyncio.sleep(2.0)
        else:
            return await store.close()
