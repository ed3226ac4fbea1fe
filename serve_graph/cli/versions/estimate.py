"""`decisions estimate`: what a version would have earned on all traffic, by feedback given during its canary."""

from __future__ import annotations

from typing import Annotated

import typer

from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, say, say_json
from serve_graph.errors import ServeGraphError

_KINDS = ("label", "thumbs", "score")


@needs("decisions estimate", "aiosqlite", "asyncpg")
def estimate(
    version: Annotated[str, typer.Option(help="The version: a number or alias.")],
    rollout: Annotated[
        str | None, typer.Option(help="Which canary's traffic; its last one where none is named.")
    ] = None,
    by: Annotated[str, typer.Option(help="Whose kind of feedback grades answers: label, thumbs or score.")] = "label",
    label_source: Annotated[str, typer.Option(help="Whose: human, programmatic or judge:NAME.")] = "human",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Estimate what a version would have earned, had it answered all that it shared with another one in a canary.

    A doubly robust estimate from feedback that was given once and cannot be made again, with a 95 % interval: the
    version that answered was drawn, with a probability that was logged. It is no certificate, and promotes nothing.
    Refused where either version had less than 5 % of the traffic, or too few answers have a grade. Where grades are
    missing it says how many of each version, whether that is told from chance, and an interval that holds whatever
    they are.

    Example: serve-graph decisions estimate --version 4 --by thumbs
    """
    import asyncio

    from router_models.errors import DataError
    from router_models.types.label_sources import parsed_source
    from serve_graph.cli.versions.found import found_version
    from serve_graph.learning.retraining.logged_arms import ArmEstimate, estimate_arm
    from serve_graph.policy.rollout import RolloutTable
    from serve_graph.records.store import DecisionStore

    if by not in _KINDS:
        raise ServeGraphError(f"--by {by!r}: give one of {', '.join(_KINDS)}")
    try:
        source = parsed_source(label_source) or "human"
    except ValueError as error:
        raise ServeGraphError(f"--label-source: {error}") from None
    registered, graph = found_version(version, config)
    name = f"{registered.model}/{registered.number}"

    async def asked() -> ArmEstimate:
        store = DecisionStore(graph.records_url)
        try:
            known = await RolloutTable(store).latest(registered.model, 1000)
            of_it = [one for one in known if one.kind == "canary" and name in (one.stable, one.candidate)]
            found = next((one for one in of_it if rollout in (None, one.id)), None)
            if found is None:
                raise ServeGraphError(
                    f"{name} was in no canary{f' {rollout}' if rollout else ''}: versions decide without chance, and "
                    "from what was never drawn nothing can be estimated; `decisions replay` runs it on kept prompts"
                )
            arm = "candidate" if name == found.candidate else "stable"
            share = graph.feedback.label_share
            return await estimate_arm(store, name, found.id, arm, found.begun_at, by, source, share)
        except DataError as error:
            raise ServeGraphError(f"nothing can be estimated: {error}") from error
        finally:
            await store.close()

    found = asyncio.run(asked())
    return say_json(found.shown()) if as_json else say("\n".join(found.lines()))
