"""`collect`, `train`, `certify`: from prompts to a registered version."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, progress_to_stderr, say, say_json

OutcomesOption = Annotated[Path, typer.Option("--outcomes", "-o", help="The outcomes table (parquet).")]


def collect(
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="Where the outcomes table goes.")] = Path("outcomes.parquet"),
    starter: Annotated[int, typer.Option(help="How many starter tasks to generate.", min=1, max=20000)] = 3400,
    seed: Annotated[int, typer.Option(help="The starter generator's seed.")] = 0,
    tasks: Annotated[Path | None, typer.Option(help="Your own tasks, JSON lines, instead of the starter's.")] = None,
    url: Annotated[str | None, typer.Option(help="An endpoint that runs already; default: start the graph.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256)] = 16,
) -> None:
    """Run prompts through every tier and grade the answers. Resumable: run it again after an interruption.

    A line of --tasks: {"id", "prompt", "family", "difficulty", "language", "grader", "reference", "solution",
    "max_tokens"}; graders: see docs/outcomes.md.

    Example: serve-graph collect --config configs/local.yaml --starter 3400 --out outcomes.parquet
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from router_models.starter import generate
    from serve_graph.bindings import write_collected_binds
    from serve_graph.collect import collect as run
    from serve_graph.collect import read_tasks
    from serve_graph.config import load_config
    from serve_graph.launch import running_graph

    graph = load_config(config)
    asked = read_tasks(tasks) if tasks else generate(starter, seed=seed)
    with ExitStack() as stack:
        if url is None:
            bare = graph.model_copy(update={"policy": graph.policy.model_copy(update={"version": "none"})})
            url = stack.enter_context(running_graph(bare, progress=progress_to_stderr()))
        bar = stack.enter_context(
            Progress("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        )
        bars = {tier: bar.add_task(tier, total=len(asked)) for tier in graph.tier_names}
        outcomes = asyncio.run(
            run(url, graph.tier_names, asked, out, concurrency=concurrency,
                advance=lambda tier, n: bar.advance(bars[tier], n))
        )  # fmt: skip
    write_collected_binds(out, graph)
    for tier in graph.tier_names:
        grades = [o.grade for o in outcomes if o.tier == tier]
        say(f"{tier}: {len(grades)} outcomes, {sum(grades) / len(grades):.1%} right")
    say(f"written to {out}")


def train(
    outcomes: OutcomesOption,
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="The candidate's folder (must not exist).")] = Path("candidate"),
    router: Annotated[str, typer.Option(help="A router family, or auto: the simplest that beats length.")] = "auto",
    verifier: Annotated[str, typer.Option(help="A verifier family, or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of splits and folds.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit router, verifier and calibrators on TRAIN and TUNE. The candidate promises nothing until `certify`.

    Example: serve-graph train --outcomes outcomes.parquet --out candidate
    """
    from dataclasses import replace

    from router_models.candidate import fit_candidate, save_candidate
    from router_models.features import Encoder
    from router_models.outcomes import read_outcomes
    from serve_graph.config import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.versions import settings_of

    if out.exists():
        raise ServeGraphError(f"{out} exists; a candidate is never overwritten: choose another --out")
    graph = load_config(config)
    settings = replace(settings_of(graph), router=router, verifier=verifier, seed=seed)
    progress = progress_to_stderr()
    progress(f"reading {outcomes}")
    table = read_outcomes(outcomes)
    progress(f"fitting on {len(table)} prompts")
    candidate = fit_candidate(table, settings, Encoder(), graph.state_folder / "embeddings")
    save_candidate(candidate, settings, out)
    tried = [
        {"what": what, "family": s.family, "auc": s.auc, "advantage": s.advantage, "low": s.low, "high": s.high}
        for what, scored in (("router", candidate.routers), ("verifier", candidate.verifiers))
        for s in scored
    ]
    if as_json:
        say_json({"candidate": str(out), "dataset_sha256": candidate.dataset_hash, "tried": tried})
        return
    for row in tried:
        span = f"{row['advantage']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        say(f"{row['what']:8} {row['family']:14} AUC {row['auc']:.3f}  over the baseline {span}")
    say(f"candidate written to {out}; next: serve-graph certify --candidate {out} --outcomes {outcomes}")


def certify(
    candidate: Annotated[Path, typer.Option(help="The folder `train` wrote.")],
    outcomes: OutcomesOption,
    config: ConfigOption = DEFAULT_CONFIG,
    epsilon: Annotated[float | None, typer.Option(help="Risk budget; default: the configuration's.")] = None,
    delta: Annotated[float | None, typer.Option(help="1 − confidence; default: the configuration's.")] = None,
    slices: Annotated[
        str | None, typer.Option(help="Promise for each slice by itself: language, length, domain or user_tier.")
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Point this alias at the new version (e.g. stable).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Certify a candidate's acceptance threshold on CERT labels and register it. Nothing certified: exit 1, with why.

    Example: serve-graph certify --candidate candidate --outcomes outcomes.parquet --alias stable
    """
    from dataclasses import replace

    from router_models.candidate import certify_candidate, load_candidate
    from router_models.features import Encoder
    from router_models.outcomes import read_outcomes
    from router_models.pipeline import publish
    from serve_graph.bindings import collected_binds, tier_binds
    from serve_graph.config import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.versions import settings_of

    graph = load_config(config)
    progress = progress_to_stderr()
    loaded, settings = load_candidate(candidate, settings_of(graph), Encoder())
    settings = replace(settings, epsilon=epsilon or settings.epsilon, delta=delta or settings.delta, slicer=slices)
    noted = collected_binds(outcomes)
    if noted is not None and noted != tier_binds(graph):
        changed = sorted(k for k in {*noted, *tier_binds(graph)} if noted.get(k) != tier_binds(graph).get(k))
        raise ServeGraphError(f"{outcomes} was collected from other engines than {config} describes: {changed} differ")
    table = read_outcomes(outcomes)
    progress("certifying")
    cache = graph.state_folder / "embeddings"
    version, cert = certify_candidate(loaded, table, settings, datetime.now(UTC), cache)
    progress("writing the report and registering")
    made = publish(
        loaded, version, cert, settings, graph.state_folder / "candidates", graph.registry_uri,
        graph.policy.model_name, alias=alias, artifacts_folder=graph.state_folder / "artifacts",
    )  # fmt: skip
    assert version.certificate is not None
    if as_json:
        say_json({"version": made.name, "aliases": made.aliases, "certificate": version.certificate.to_json()})
        return
    say(f"{made.name}: {version.certificate.summary()}")
    say(f"review it: serve-graph versions show {made.number}")
