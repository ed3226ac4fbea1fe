"""`batch plan`: how long a batch will take in passes, and what it will cost, from rates that somebody measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_graph.cli.output import JsonOption, say, say_json
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.planning.simulation.passes import BatchWorkload, PlannedBatch
    from serve_graph.config.graph import GraphConfig

MOST_RATES_BYTES = 1 << 20
SHARES = ("tried", "accepted")


def plan_batch_run(
    rows: Annotated[int, typer.Argument(help="Rows of the batch.", min=1)],
    rates: Annotated[Path, typer.Option(help="A YAML file of measured rates; examples/batch_rates.yaml is one.")],
    gpus: Annotated[str, typer.Option(help="Numbers of GPUs, comma-separated.")] = "8,64",
    journal: Annotated[
        Path | None, typer.Option(help="OUT.journal of a run: shares of tries and acceptances are taken from it.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The graph that will answer: its tiers' names, and its policy.share."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Simulations of each way.", min=1)] = 10,
    as_json: JsonOption = False,
) -> None:
    """Simulate a batch in passes over the data beside either tier alone: hours, dollars, tokens.

    The rates are tokens a second of one replica at full batch size (python -m benchmarks.batches --rates measures
    them), and say where they come from. GPUs are paid for from the first to the last second.

    Under policy.share of --config the last tier answers that share of the rows, the cheapest all others, unjudged: so
    the plan has it, unless a journal says what a run's rows became.

    Example: serve-graph batch plan 10000000 --rates examples/batch_rates.yaml --gpus 8,64
    """
    from router_models.data.json_values import to_json_values
    from router_models.planning.simulation.passes import plan_batch

    counts = [int(part) if part.strip().isdecimal() else 0 for part in gpus.split(",")]
    if 0 in counts:
        raise typer.BadParameter(f"--gpus {gpus}: give numbers from 1 on, comma-separated")
    source, work = read_rates(rates, rows, journal, config)
    found = [way for count in counts for way in plan_batch(work, count, seeds)]
    if as_json:
        say_json({"source": source, "workload": to_json_values(work), "ways": to_json_values(found)})
        return
    for line in plan_table(source, work, found):
        say(line)


def read_rates(
    path: Path, rows: int, journal: Path | None = None, config: Path | None = None
) -> tuple[str, BatchWorkload]:
    """The rates of a file, and where they come from; raises ServeGraphError where it lacks something.

    `journal`: whose shares are taken. `config`: the graph, whose `policy.share` stands for them where there is none.
    """
    import yaml

    from router_models.planning.simulation.passes import BatchWorkload, EngineRate

    try:
        text = path.read_text(encoding="utf-8")
        data: Any = yaml.safe_load(text[:MOST_RATES_BYTES])
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ServeGraphError(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("source"), str):
        raise ServeGraphError(f"{path} must say in `source` where its rates come from")
    given = {name: value for name, value in data.items() if name != "source"}
    graph = None if config is None else load_graph(config)
    if journal is not None:
        given |= measured_shares(journal, None if graph is None else graph.tier_names[-1])
    elif graph is not None and (share := graph.policy.share) is not None:
        given |= {"tried": 1 - share, "accepted": 1.0}
    try:
        tiers = {name: EngineRate(**given.pop(name)) for name in ("cheap", "last")}
        return data["source"], BatchWorkload(rows, tiers["cheap"], tiers["last"], **given)
    except KeyError as error:
        raise ServeGraphError(f"{path} has no {error}") from None
    except TypeError as error:
        raise ServeGraphError(f"{path}: {str(error).partition('__init__() ')[2] or error}") from None


def load_graph(path: Path) -> GraphConfig:
    """A graph's configuration; raises ServeGraphError where there is no such file."""
    from serve_graph.config.graph import load_config

    if not path.is_file():
        raise ServeGraphError(f"there is no configuration {path}")
    return load_config(path)


def measured_shares(path: Path, last: str | None = None) -> dict[str, float]:
    """The shares of a run that was begun, or sampled by --dry-run: tried at a cheap tier, and accepted of these.

    `last`: the last tier. Without it nobody knows which answers that nothing judged are a cheaper tier's: those that a
    share of requests sends there (`policy.share`).
    """
    from serve_graph.cli.batch.journal import Journal

    if not path.is_file():
        raise ServeGraphError(f"there is no journal {path}")
    journal = Journal(path)
    try:
        counts = dict(journal.shares("outcome"))
        below = journal.unjudged_below(last) if last is not None else 0
    finally:
        journal.close()
    accepted = counts.get("accepted", 0) + counts.get("abstained", 0) + below
    tried = accepted + counts.get("escalated", 0)
    every = tried + counts.get("routed", 0) - below
    if not tried:
        named = "" if last is not None else " and was judged; under policy.share name the graph with --config"
        raise ServeGraphError(f"{path} holds no answer that was tried at a cheap tier{named}")
    return {"tried": tried / every, "accepted": accepted / tried}


def plan_table(source: str, work: BatchWorkload, found: list[PlannedBatch]) -> list[str]:
    """The plan as a Markdown table, with what it rests on."""
    lines = [
        f"{work.rows:,} rows, {100 * work.tried:.1f} % of them tried at the cheap tier, of these "
        f"{100 * work.accepted:.1f} % accepted; simulated. Rates: {source}",
        "",
        "| GPUs | way | hours (least to most of the simulations) | US dollars | prompt tokens | completion tokens |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for one in found:
        prompt, made = one.tokens
        lines.append(
            f"| {one.gpus} | {one.way} | {one.hours:.2f} ({one.hours_low:.2f} to {one.hours_high:.2f}) "
            f"| {one.usd:,.2f} | {prompt / 1e9:,.2f} · 10⁹ | {made / 1e9:,.2f} · 10⁹ |"
        )
    return lines
