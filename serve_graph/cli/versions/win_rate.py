"""`decisions ensemble`: how often the cheaper tier's answer was picked over the dearer one's."""

from __future__ import annotations

from typing import Annotated

import typer

from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, say, say_json
from serve_graph.errors import ServeGraphError


@needs("decisions ensemble", "aiosqlite", "asyncpg")
def ensemble(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest decisions to look through.")] = 100_000,
    version: Annotated[str | None, typer.Option(help="Those of this version alone, as records name it.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Sum up the requests that both tiers answered (policy.ensemble): the cheaper tier's win rate against the dearer.

    With 95 % intervals; each prompt counts once. Requests that asked for it, and those of which nothing was picked,
    are counted apart.

    Example: serve-graph decisions ensemble --json
    """
    import asyncio

    from serve_graph.config.graph import load_config
    from serve_graph.learning.judging.ensemble.win_rate import EnsembleResult, ensemble_results
    from serve_graph.records.store import DecisionStore

    store = DecisionStore(load_config(config).records_url)

    async def summed() -> list[EnsembleResult]:
        try:
            return ensemble_results(await store.latest(limit, version))
        finally:
            await store.close()

    try:
        found = asyncio.run(summed())
    except OSError as error:
        raise ServeGraphError(f"the decision store cannot be reached: {error}") from error
    if as_json:
        return say_json([one.shown() for one in found])
    return say("\n".join(line for one in found for line in one.lines()) or "no request was put to both tiers")
