"""`collect`, `train`: from prompts to a candidate. `certify` takes it from there."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.output import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    check_out,
    progress_to_stderr,
    say,
    say_json,
)


class Promises(StrEnum):
    """Which risk a version promises to keep: `candidate.Settings.promise`."""

    ACCEPTED = "accepted"
    ANSWERED = "answered"


PromiseOption = Annotated[
    Promises | None,
    typer.Option(help="P(wrong | cheap accepted) or P(wrong | answered); default: by the number of tiers."),
]
OutcomesOption = Annotated[Path, typer.Option("--outcomes", "-o", help="The outcomes table (parquet).")]


def collect(
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="Where the outcomes table goes.")] = Path("outcomes.parquet"),
    starter: Annotated[int, typer.Option(help="How many starter tasks to generate.", min=1, max=20000)] = 3400,
    seed: Annotated[int, typer.Option(help="The starter generator's seed.")] = 0,
    tasks: Annotated[Path | None, typer.Option(help="Your own tasks, JSON lines, instead of the starter's.")] = None,
    url: Annotated[str | None, typer.Option(help="An endpoint that runs already; default: start the graph.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256)] = 16,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished table.")] = False,
    tier: Annotated[
        list[str] | None, typer.Option(help="Ask this tier only (repeatable); rows of the others stay.")
    ] = None,
) -> None:
    """Run prompts through every tier and grade the answers. Resumable: run it again after an interruption.

    A line of --tasks: {"id", "prompt", "family", "difficulty", "language", "grader", "reference", "solution",
    "max_tokens"}; graders: see docs/outcomes.md.

    Example: serve-graph collect --config configs/local.yaml --starter 3400 --out outcomes.parquet
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from router_models.data.starter import generate
    from serve_graph.cli.client.collect import binds_behind, claim, other_tiers, read_tasks, refuse_finished
    from serve_graph.cli.client.collect import collect_outcomes as run
    from serve_graph.cli.local.launch import running_graph
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.bindings import tier_binds

    check_out(out)
    graph = load_config(config)
    tiers = tuple(tier or graph.tier_names)
    if unknown := set(tiers) - set(graph.tier_names):
        raise ServeGraphError(
            f"no tier {', '.join(sorted(unknown))} in {config}: it has {', '.join(graph.tier_names)}"
        )
    asked = read_tasks(tasks) if tasks else generate(starter, seed=seed)
    if not overwrite:
        refuse_finished(out)
    binds = tier_binds(graph) if url is None else binds_behind(url, graph)
    beside = other_tiers(out, tiers, binds) if tier else []
    claim(out, binds)
    if binds is None:
        progress_to_stderr()(f"{url} does not say which engines it runs: the table will not say so either")
    with ExitStack() as stack:
        if url is None:
            bare = graph.model_copy(update={"policy": graph.policy.model_copy(update={"version": "none"})})
            url = stack.enter_context(running_graph(bare, progress=progress_to_stderr()))
        bar = stack.enter_context(
            Progress("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        )
        bars = {tier: bar.add_task(tier, total=len(asked)) for tier in tiers}
        outcomes = asyncio.run(
            run(url, tiers, asked, out, binds=binds, concurrency=concurrency, beside=beside,
                advance=lambda tier, n: bar.advance(bars[tier], n))
        )  # fmt: skip
    for name in tiers:
        grades = [o.grade for o in outcomes if o.tier == name]
        say(f"{name}: {len(grades)} outcomes, {sum(grades) / len(grades):.1%} right")
    say(f"written to {out}")


def train(
    outcomes: OutcomesOption,
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="The candidate's folder (must not exist).")] = Path("candidate"),
    router: Annotated[str, typer.Option(help="A router family, or auto: the simplest that beats length.")] = "auto",
    verifier: Annotated[str, typer.Option(help="A verifier family, or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of splits and folds.")] = 0,
    promise: PromiseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit routers, verifiers and calibrators on TRAIN and TUNE. The candidate promises nothing until `certify`.

    One router for every tier below the last, one verifier for every tier of the configuration.

    Example: serve-graph train --outcomes outcomes.parquet --out candidate
    """
    from dataclasses import replace

    from router_models.data.features import Encoder
    from router_models.data.outcomes import read_outcomes
    from router_models.training.candidate import save_candidate
    from router_models.training.fit import fit_candidate
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.serving_version import settings_of

    if out.exists():
        raise ServeGraphError(f"{out} exists; a candidate is never overwritten: choose another --out")
    graph = load_config(config)
    check_out(out, folder=True)
    check_out(graph.state_folder, folder=True)
    settings = replace(
        settings_of(graph), router=router, verifier=verifier, seed=seed, promise=promise.value if promise else None
    )
    progress = progress_to_stderr()
    progress(f"reading {outcomes}")
    table = read_outcomes(outcomes, settings.tiers)
    progress(f"fitting on {len(table)} prompts")
    candidate = fit_candidate(table, settings, Encoder(), graph.state_folder / "embeddings")
    save_candidate(candidate, settings, out)
    tried = [
        {
            "what": what,
            "tier": tier,
            "family": s.family,
            "auc": s.auc,
            "advantage": s.advantage,
            "low": s.low,
            "high": s.high,
            "auc_unseen_domains": s.out_of_domain_auc,
        }
        for what, by_tier in (("router", candidate.routers), ("verifier", candidate.verifiers))
        for tier, scored in by_tier.items()
        for s in scored
    ]
    if as_json:
        say_json({"candidate": str(out), "dataset_sha256": candidate.dataset_hash, "tried": tried})
        return
    for row in tried:
        span = f"{row['advantage']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        away = row["auc_unseen_domains"]
        far = "" if away is None else f"  on unseen domains {away:.3f}"
        name = f"{row['what']:8} {row['tier']:10} {row['family']:14}"
        say(f"{name} AUC {row['auc']:.3f}  over the baseline {span}{far}")
    for tier in (tier for tier, scored in candidate.verifiers.items() if not scored):
        say(f"verifier {tier:10} none: every answer to fit it on is right; none will be abstained from")
    say(f"candidate written to {out}; next: serve-graph certify --candidate {out} --outcomes {outcomes}")
