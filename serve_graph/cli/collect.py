"""`collect`: run prompts through every tier and grade the answers, for `train`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.extras import SERVING, need_vllm, needs, require
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, check_out, progress_to_stderr, say


@needs("collect", "httpx")
def collect(
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="The outcomes table to write.")] = Path("outcomes.parquet"),
    starter: Annotated[
        int,
        typer.Option(help="Plain starter tasks; 3 varied and 3.5 typed ones are added to every 17.", min=1, max=20000),
    ] = 3400,
    seed: Annotated[int, typer.Option(help="The starter generator's seed.")] = 0,
    tasks: Annotated[Path | None, typer.Option(help="Your own tasks as JSON lines, instead of starter tasks.")] = None,
    system_prompt: Annotated[
        list[str] | None,
        typer.Option(help="A file with a system prompt, or none (repeatable: every task is asked under one of them)."),
    ] = None,
    decoding: Annotated[
        list[str] | None,
        typer.Option(help="Sampling settings such as temperature=0.7,top_p=1, or default (repeatable, as above)."),
    ] = None,
    from_decisions: Annotated[
        bool, typer.Option("--from-decisions", help="Ask the kept prompts of decision records; they are not graded.")
    ] = False,
    decisions: Annotated[
        str | None, typer.Option(help="With --from-decisions: another store, a SQLite file or a URL.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --from-decisions: the newest so many.")] = 1000,
    url: Annotated[str | None, typer.Option(help="A running endpoint; default: start the graph.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls in progress at a time.")] = 16,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a complete table.")] = False,
    tier: Annotated[
        list[str] | None, typer.Option(help="Use this tier only (repeatable); rows of other tiers are kept.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds that a task may take, all tries and pauses together.", min=1)
    ] = 600.0,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Finish the table without the tasks that got no answer or grade.")
    ] = False,
    signals: Annotated[
        str | None,
        typer.Option(
            help="Also ask for these of every answer below the last tier's: p_yes, first_token_entropy, p_true, "
            "self_verification, agreement, last_tier_verdict, last_tier_likelihood, reward:NAME (several with commas)."
        ),
    ] = None,
) -> None:
    """Run prompts through every tier and grade the answers. Resumable: run it again after an interruption.

    A line of --tasks: {"id", "prompt" or "messages", "tools", "tool_choice", "response_format", "decoding", "family",
    "difficulty", "language", "grader", "reference", "solution", "max_tokens"}; see docs/guides/outcomes.md. All are
    checked before the first is asked. Rows say what they were asked under (decoding, system_prompt, turns, …). What
    got no answer is listed with its reason in OUT.failed.jsonl, and asked again by the next run.

    --signals p_true,agreement writes what further calls say of each answer (docs/reference/signals.md), as the served
    graph asks for it: `train` learns from these, and certifies and serves with them where they pay for their calls.

    Example: serve-graph collect --config configs/local.yaml --starter 3400 --out outcomes.parquet

    Example: serve-graph collect --tasks mine.jsonl --system-prompt support.txt --system-prompt none --decoding default
    --decoding temperature=0.7,top_p=0.95

    Example: serve-graph collect --from-decisions --limit 2000 --out asked.parquet
    """
    import asyncio

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from serve_graph.cli.client.collect import binds_behind, summary
    from serve_graph.cli.client.collect import collect_outcomes as run
    from serve_graph.cli.client.task_choice import Asked, tasks_of
    from serve_graph.cli.client.unfinished import claim, failures_of, other_tiers, refuse_finished, reopen
    from serve_graph.cli.local.launch import running_graph
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.bindings import asked_by_tier, signal_binds, tier_binds
    from serve_graph.records import audit

    check_out(out)
    graph = load_config(config)
    tiers = tuple(tier or graph.tier_names)
    if unknown := set(tiers) - set(graph.tier_names):
        raise ServeGraphError(
            f"no tier {', '.join(sorted(unknown))} in {config}: it has {', '.join(graph.tier_names)}"
        )
    if url is None:
        require("`serve-graph collect` without --url", *SERVING)
        need_vllm(graph)
    wanted = Asked(tasks, from_decisions, decisions, limit, starter, seed, tuple(system_prompt or ()),
                   tuple(decoding or ()))  # fmt: skip
    chosen = tasks_of(wanted, graph, progress_to_stderr())
    if from_decisions:
        detail = {"tasks": len(chosen), "out": str(out)}
        audit.record(graph, audit.operator(), "decisions.prompts", "decisions", detail=detail)
    if not overwrite:
        refuse_finished(out)
    binds = tier_binds(graph) if url is None else binds_behind(url, graph)
    asked = asked_by_tier(graph, (signals or "").replace(" ", "").split(",") if signals else ())
    binds = None if binds is None else binds | signal_binds(graph, asked)
    beside = other_tiers(out, tiers, binds) if tier else []
    if not overwrite:
        reopen(out, {task.prompt_id for task in chosen}, tiers, binds)
    claim(out, binds)
    if binds is None:
        progress_to_stderr()(f"{url} does not report which engines it runs, so the table will not record them")
    with ExitStack() as stack:
        if url is None:
            bare = graph.model_copy(update={"policy": graph.policy.model_copy(update={"version": "none"})})
            url = stack.enter_context(running_graph(bare, progress=progress_to_stderr()))
        bar = stack.enter_context(
            Progress("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        )
        bars = {tier: bar.add_task(tier, total=len(chosen)) for tier in tiers}
        outcomes = asyncio.run(
            run(url, tiers, chosen, out, binds=binds, concurrency=concurrency, task_s=timeout, beside=beside,
                skip_failed=skip_failed, signals=asked, advance=lambda tier, n: bar.advance(bars[tier], n))
        )  # fmt: skip
    for name in tiers:
        say(f"{name}: {summary([o.grade for o in outcomes if o.tier == name])}")
    if failures_of(out).exists():
        say(f"without the tasks in {failures_of(out)}: run again to ask those")
    say(f"written to {out}")
