"""`batch plan`: how long a batch will take in passes, and what it will cost, from rates that somebody measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router_models.errors import by_number
from serve_graph.cli.output import JsonOption, say, say_json
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.planning.simulation.passes import BatchWorkload, EngineRate, PlannedBatch
    from serve_graph.config.graph import GraphConfig
    from serve_graph.config.prices import PriceConfig

MOST_RATES_BYTES = 1 << 20
BATCHED_RATES = {"prompt_tokens_per_s": 1.0, "completion_tokens_per_s": 1.0, "load_s": 0.0, "gpus": 0}
"""Of a tier that a provider's batch answers in `batch_hours`: its pace is not known, and does not count."""
SIGNAL_KEYS = ("signals", "signals_before_routing")


def plan_batch_run(
    rows: Annotated[int, typer.Argument(help="Rows of the batch.", min=1)],
    rates: Annotated[Path, typer.Option(help="A YAML file of measured rates; examples/batch_rates.yaml is one.")],
    gpus: Annotated[str, typer.Option(help="Numbers of GPUs, comma-separated.")] = "8,64",
    journal: Annotated[
        Path | None, typer.Option(help="OUT.journal of a run: shares of tries and acceptances are taken from it.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The graph that will answer: its version's signals, its policy.share."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Simulations of each way.", min=1)] = 10,
    as_json: JsonOption = False,
) -> None:
    """Simulate a batch in passes over the data beside either tier alone: hours, dollars, tokens.

    The rates are tokens a second of one replica at full batch size (python -m benchmarks.batches --rates measures
    them), and say where they come from. GPUs are paid for from the first to the last second. A tier that a provider's
    batch answers (batch run --passes --provider-batches --concurrency 50000) has `batch_hours`, which each 50,000 rows
    of a pass there take (each 5,000 without that --concurrency); its price is price.batch_factor of --config's, and
    GPUs are counted as given back meanwhile.

    Under policy.share of --config the last tier answers that share of the rows, the cheapest all others, unjudged: so
    the plan has it, unless a journal says what a run's rows became.

    Calls for signals that the version of --config asks for are passes of their own, counted in hours, dollars and
    tokens; so are those that `signals` and `signals_before_routing` of the rates name.

    Example: serve-graph batch plan 10000000 --rates examples/batch_rates.yaml --gpus 8,64
    """
    from router_models.data.json_values import to_json_values
    from router_models.planning.simulation.passes import plan_batch

    counts = [int(part) if part.strip().isdecimal() else 0 for part in gpus.split(",")]
    if 0 in counts:
        raise typer.BadParameter(f"--gpus {gpus}: give numbers from 1 on, comma-separated")
    read = read_rates(rates, rows, journal, config)
    found = [way for count in counts for way in plan_batch(read.work, count, seeds)]
    if as_json:
        told = {"source": read.source, "signals": read.signals}
        say_json(told | {"workload": to_json_values(read.work), "ways": to_json_values(found)})
        return
    for line in plan_table(read, found):
        say(line)


@dataclass(frozen=True, slots=True)
class PlanInput:
    """What a plan rests on. `source`: where the rates come from; `signals`: which calls for signals are counted."""

    source: str
    work: BatchWorkload
    signals: str


def read_rates(path: Path, rows: int, journal: Path | None = None, config: Path | None = None) -> PlanInput:
    """The rates of a file for a batch; raises ServeGraphError where it lacks something.

    `journal`: whose shares are taken. `config`: the graph, whose `policy.share` stands for them where there is none,
    and whose version's signals are asked for where the file names none.
    """
    import yaml

    from router_models.planning.simulation.passes import BatchWorkload
    from serve_graph.cli.batch.passes.asked_rates import PlannedSignals, asked_passes, signals_line

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
        prices = {} if graph is None else {"cheap": graph.tiers[0].price, "last": graph.tiers[-1].price}
        cheap, last = (engine_rate(path, name, given.pop(name), prices.get(name)) for name in ("cheap", "last"))
        blank = {"completion_tokens_per_s": 1.0, "prompt_tokens": 0.0, "completion_tokens": 0.0}  # a score is no text
        models = given.pop("verifiers", None) or {}
        if not isinstance(models, dict):
            raise ServeGraphError(f"{path}: `verifiers` names verifier models, each with its rates")
        prices = {} if graph is None else {one.name: one.price for one in graph.verifiers}
        scorers = {
            str(name): engine_rate(
                path, f"verifiers.{name}", blank | one if isinstance(one, dict) else one, prices.get(name)
            )
            for name, one in models.items()
        }
        named = [given.pop(key, None) for key in SIGNAL_KEYS]
        if named != [None, None]:
            about, before = (texts(path, key, one) for key, one in zip(SIGNAL_KEYS, named, strict=True))
            signals = PlannedSignals.named(about, before, str(path))
        elif graph is not None:
            signals = PlannedSignals.served(graph)
        else:
            signals = PlannedSignals(why="name the graph with --config, or them in the rates' `signals`")
        asked = asked_passes(signals, cheap, last, scorers, graph)
        check_numbers(path, "", given)
        work = BatchWorkload(rows, cheap, last, **given, asked=asked)
    except KeyError as error:
        raise ServeGraphError(f"{path} has no {error}") from None
    except (TypeError, ValueError) as error:
        raise ServeGraphError(f"{path}: {str(error).partition('__init__() ')[2] or error}") from None
    return PlanInput(data["source"], work, signals_line(signals, asked))


def engine_rate(path: Path, name: str, given: Any, price: PriceConfig | None = None) -> EngineRate:
    """An engine's rates as a file has them; raises ServeGraphError for those that cannot be.

    `price`: what an API (`gpus: 0`) takes where the file does not say.
    """
    from router_models.planning.simulation.passes import EngineRate

    if not isinstance(given, dict):
        raise ServeGraphError(f"{path}: `{name}` is an engine's rates, not {given!r}")
    is_batched = bool(given.get("batch_hours"))
    if is_batched and name.startswith("verifiers."):
        raise ServeGraphError(f"{path}: {name} is asked call by call, not by batches of its provider (`batch_hours`)")
    given = (BATCHED_RATES if is_batched else {}) | given
    check_numbers(path, f"{name}.", given)
    if given.get("gpus") == 0 and "input_usd_per_mtok" not in given:
        if price is None:
            raise ServeGraphError(
                f"{path}: {name} has no GPU of its own: say what its API takes (`input_usd_per_mtok`, "
                "`output_usd_per_mtok`), or name the graph with --config"
            )
        factor = float(price.batch_factor) if is_batched else 1.0
        usd: dict[str, Any] = {
            name: float(getattr(price, name)) * factor for name in ("input_usd_per_mtok", "output_usd_per_mtok")
        }
        return EngineRate(**usd | given)
    return EngineRate(**given)


def check_numbers(path: Path, where: str, given: Mapping[str, Any]) -> None:
    """Raise ServeGraphError for a value that is no number, is negative, or is a rate of none a second."""
    for key, value in given.items():
        is_rate = str(key).endswith("_per_s")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0 or (is_rate and value == 0):
            wanted = "a number above 0" if is_rate else "a number, 0 or more"
            raise ServeGraphError(f"{path}: {where}{key} is {wanted}, not {value!r}")


def texts(path: Path, key: str, given: Any) -> list[str]:
    """A list of names in a file of rates; none where there is no such key."""
    if given is not None and not (isinstance(given, list) and all(isinstance(one, str) for one in given)):
        raise ServeGraphError(f"{path}: `{key}` is a list of signals, not {given!r}")
    return given or []


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


def batch_lines(work: BatchWorkload) -> list[str]:
    """What is assumed of passes that a provider's batch answers."""
    engines = {"the cheap tier": work.cheap, "the last tier": work.last}
    engines |= {one.asked: one.engine for one in work.asked}
    waits = [
        f"{name} in {engine.batch_hours:g} {by_number(engine.batch_hours, 'hour')}"
        for name, engine in engines.items()
        if engine.batch_hours
    ]
    if not waits:
        return []
    said = (
        "for each 50,000 rows (batch run --concurrency 50000, not the usual 5000); GPUs are given back meanwhile, and "
        "not paid for."
    )
    return [f"A provider's batch answers {', '.join(waits)} {said}"]


def plan_table(read: PlanInput, found: list[PlannedBatch]) -> list[str]:
    """The plan as a Markdown table, with what it rests on."""
    work = read.work
    lines = [
        f"{work.rows:,} {by_number(work.rows, 'row')}, {100 * work.tried:.1f} % of them tried at the cheap "
        "tier, of these "
        f"{100 * work.accepted:.1f} % accepted; simulated. Rates: {read.source}",
        f"{read.signals}.",
        *batch_lines(work),
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
