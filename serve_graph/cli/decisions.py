"""`serve-graph decisions …`: explain, sum up and export requests, read directly from the store."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from router_models.errors import by_number
from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, check_out, say, say_json
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.types import DecisionRecord
    from serve_graph.records.comparisons import Comparison
    from serve_graph.records.feedback import Feedback
    from serve_graph.records.store import DecisionStore

app = typer.Typer(help="Inspect recorded decisions.", no_args_is_help=True, rich_markup_mode=None)
T = TypeVar("T")
STORE = ("aiosqlite", "asyncpg")


@app.command()
@needs("decisions show", *STORE)
def show(
    decision: Annotated[str, typer.Argument(help="The id from the x-serve-graph-decision header.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Explain one request. Example: serve-graph decisions show dec-0f3a…"""
    from serve_graph.records.comparisons import ComparisonsTable, comparison_line, comparison_shown
    from serve_graph.records.feedback import FeedbackTable

    async def found(store: DecisionStore) -> tuple[DecisionRecord | None, list[Feedback], list[Comparison]]:
        said, compared = await FeedbackTable(store).of([decision]), await ComparisonsTable(store).of([decision])
        return await store.get(decision), said.get(decision, []), compared.get(decision, [])

    record, said, compared = _ask(config, found)
    if record is None:
        raise ServeGraphError(f"no decision {decision!r} in the store")
    _note(config, "decisions.read", decision, {"key": record.key})
    from serve_graph.config.graph import load_config
    from serve_graph.policy.bindings import price_lists
    from serve_graph.records.explanation import explained

    graph = load_config(config)
    page = explained(record, price_lists(graph), graph.tier_names)
    if as_json:
        shown = {"feedback": [one.shown() for one in said], "comparisons": [comparison_shown(one) for one in compared]}
        return say_json(page | shown)
    beside = [*map(feedback_line, said), *map(comparison_line, compared)]
    return say("\n".join([record.id, *page["explanation"], *beside]))


@app.command()
@needs("decisions bill", *STORE)
def bill(
    limit: Annotated[int, typer.Option(min=1, help="Number of decisions, newest first.")] = 1000,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Sum up the newest bills and the net savings of routing. Example: serve-graph decisions bill --limit 500"""
    from router_models.pricing.savings import savings
    from serve_graph.cascade.billing import total
    from serve_graph.config.graph import load_config
    from serve_graph.policy.bindings import price_lists
    from serve_graph.policy.serving_version import token_ratios_of

    graph = load_config(config)
    records = _ask(config, lambda store: store.latest(limit))
    ratios = token_ratios_of(graph, {record.version for record in records})
    found = savings(records, graph.tier_names[-1], price_lists(graph), ratios=ratios)
    lines = [line for record in records for line in record.bill]
    by_purpose = {
        what: total(line.cost_usd for line in lines if line.what == what) for what in sorted({x.what for x in lines})
    }
    if as_json:
        return say_json(asdict(found) | {"net_usd": found.net_usd, "by_purpose": by_purpose})
    return say("\n".join([*(f"{what:12} ${usd:.6f}" for what, usd in by_purpose.items()), found.text()]))


@app.command()
@needs("decisions export", *STORE)
def export(
    out: Annotated[Path, typer.Option(help="File for JSON lines; '-' for stdout.")] = Path("-"),
    limit: Annotated[int, typer.Option(min=1, help="Number of decisions, newest first.")] = 1000,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write the newest decisions as JSON lines, each with the feedback on it and its comparisons during rollouts.

    Example: serve-graph decisions export --out decisions.jsonl
    """
    from serve_graph.records.comparisons import ComparisonsTable, comparison_shown
    from serve_graph.records.feedback import FeedbackTable
    from serve_graph.records.store import record_to_json

    async def found(
        store: DecisionStore,
    ) -> tuple[list[DecisionRecord], dict[str, list[Feedback]], dict[str, list[Comparison]]]:
        records = await store.latest(limit)
        names = [record.id for record in records]
        return records, await FeedbackTable(store).of(names), await ComparisonsTable(store).of(names)

    if str(out) != "-":
        check_out(out)
    records, said, compared = _ask(config, found)
    _note(config, "decisions.export", "decisions", {"decisions": len(records), "out": str(out)})
    lines = [
        json.dumps(
            record_to_json(record)
            | {"feedback": [one.shown() for one in said.get(record.id, ())]}
            | {"comparisons": [comparison_shown(one) for one in compared.get(record.id, ())]}
        )
        for record in records
    ]
    if str(out) == "-":
        say("\n".join(lines))
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n".join(lines) + "\n")
        say(f"{len(lines)} {by_number(len(lines), 'decision')} → {out}")


@app.command("label")
@needs("decisions label", *STORE, "openai")
def label_decisions(
    labeller: Annotated[str, typer.Option(help="Who labels; each has one label on an answer.")] = "labeller",
    version: Annotated[str | None, typer.Option(help="Answers of this version alone, as records name it.")] = None,
    ask: Annotated[
        str | None,
        typer.Option(help="A running graph's URL: its last tier is asked too where an answer is wrong."),
    ] = None,
    label_source: Annotated[str, typer.Option(help="Whose labels: human, programmatic or judge:NAME.")] = "human",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Label kept answers of served requests in the terminal: what the alarms go by.

    Shown are answers of which something was promised, of a random share of decisions (feedback.label_share), in random
    order and without the tier that gave them. It needs records.keep_prompts while they are served.

    One key a label: r right, w wrong, s skip, u undo, q quit. Every label is kept at once, and the next session goes
    on. Where stdin is no terminal, the keys are read from it.

    Example: serve-graph decisions label --labeller ann --ask http://localhost:8000
    """
    import sys

    from router_models.types.label_sources import parsed_source
    from serve_graph.cli.client.decision_labels import (
        DecisionLabels,
        ToLabel,
        answers_to_label,
        asks_graph,
        run_labelling,
        summary_lines,
    )
    from serve_graph.cli.offline.label_terminal import keys_of
    from serve_graph.config.graph import load_config
    from serve_graph.records.feedback import FeedbackTable

    if not labeller.strip() or len(labeller.strip()) > 64:
        raise ServeGraphError("--labeller needs a name of 64 characters at most")
    try:
        source = parsed_source(label_source) or "human"
    except ValueError as error:
        raise ServeGraphError(f"--label-source: {error}") from None
    graph = load_config(config)
    ask_last = None if ask is None else asks_graph(ask.rstrip("/").removesuffix("/v1"), graph.tier_names[-1])

    async def session(store: DecisionStore) -> tuple[dict[str, Any], ToLabel]:
        found = await answers_to_label(store, graph.feedback.label_share, labeller.strip(), version)
        table, keys = FeedbackTable(store), keys_of(sys.stdin)
        labels = DecisionLabels(table, keys, labeller.strip(), source, ask_last=ask_last)
        return await labels.run(found), found

    summary, found = run_labelling(graph.records_url, session)
    if as_json:
        return say_json(summary | {"not_shown": dict(found.passed)})
    return say("\n".join(summary_lines(summary, found.passed)))


@app.command()
@needs("decisions replay", *STORE, "openai")
def replay(
    version: Annotated[str, typer.Option(help="The version to replay: a number or alias.")],
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest kept decisions.")] = 1000,
    ask: Annotated[
        str | None, typer.Option(help="A running graph's URL: asked for answers that nobody kept, by tier.")
    ] = None,
    budget_usd: Annotated[float, typer.Option(min=0.0, help="Dollars that these may cost at most.")] = 0.0,
    examples: Annotated[int, typer.Option(min=0, max=100, help="Prompts shown of each kind of flip.")] = 3,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Run a registered version on kept decisions: who would have answered, at what cost, and how well by labels.

    It needs records.keep_prompts while they are served. Kept answers are used; for the others --ask names a running
    graph, and the key of $SERVE_GRAPH_KEY the scope force. Those that are still missing are counted.

    Example: serve-graph decisions replay --version 4 --ask http://localhost:8000 --budget-usd 2
    """
    import asyncio
    from decimal import Decimal

    from serve_graph.cli.client.decision_replay import replay_decisions, replay_lines
    from serve_graph.cli.output import progress_to_stderr
    from serve_graph.cli.versions.found import found_version, loaded_version

    if (ask is None) != (budget_usd == 0):
        raise ServeGraphError("--ask and --budget-usd go together: whom to ask, and how much that may cost")
    registered, graph = found_version(version, config)
    url = None if ask is None else ask.rstrip("/").removesuffix("/v1")
    work = replay_decisions(
        graph.records_url,
        loaded_version(registered, graph),
        graph,
        limit,
        progress_to_stderr(),
        url,
        Decimal(str(budget_usd)),
    )
    found, asked = asyncio.run(work)
    _note(config, "decisions.prompts", "decisions", {"decisions": len(found.decisions), "version": found.version})
    if as_json:
        return say_json(found.shown() | {"asked": asked})
    return say("\n".join(replay_lines(found, asked, examples)))


@app.command()
@needs("decisions agreement", *STORE)
def agreement(
    version: Annotated[str | None, typer.Option(help="Answers of this version alone, as records name it.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Compare judges' labels with people's: how many answers both labelled, agreement, Cohen's kappa with intervals.

    Example: serve-graph decisions agreement --json
    """
    from serve_graph.learning.agreement import judge_agreements
    from serve_graph.records.feedback import FeedbackTable

    found = judge_agreements(_ask(config, lambda store: FeedbackTable(store).labels_beside_people(version)))
    if as_json:
        return say_json([one.shown() for one in found])
    lines = [line for one in found for line in one.lines()]
    return say("\n".join(lines) or "no answer has a label of a person and one of a judge")


def feedback_line(said: Feedback) -> str:
    """One piece of feedback as a sentence, without the text itself."""
    words = {"thumbs": ("down", "up"), "label": ("wrong", "right")}.get(said.kind)
    value = "" if said.value is None else f" {words[said.value == 1] if words else f'{said.value:g}'}"
    who = said.key if said.source == said.labeller else said.labeller or said.key
    return f"Feedback: {said.kind}{value} ({said.source}{f', {who}' if who else ''}), {said.given_at}."


def _note(config: Path, action: str, target: str, detail: dict[str, Any]) -> None:
    """Write down in the audit log who reads what callers sent; where it cannot be, say so and go on."""
    from serve_graph.config.graph import load_config
    from serve_graph.records import audit

    try:
        audit.record(load_config(config), audit.operator(), action, target, detail=detail)
    except OSError as error:
        typer.echo(f"not in the audit log: {error.strerror or error}", err=True)


def _ask(config: Path, question: Callable[[DecisionStore], Awaitable[T]]) -> T:
    import asyncio

    from serve_graph.config.graph import load_config
    from serve_graph.records.store import DecisionStore

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
