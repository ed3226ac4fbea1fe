"""`train`: fit a candidate on outcomes, for `certify`."""

from __future__ import annotations

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

    HARM = "harm"
    ACCEPTED = "accepted"
    ANSWERED = "answered"


PromiseOption = Annotated[
    Promises | None,
    typer.Option(
        help="What is bounded: harm (cheap wrong and last tier right | cheap accepted; the default), accepted "
        "(wrong | cheap accepted), answered (wrong | answered)."
    ),
]
GroupByOption = Annotated[
    str | None,
    typer.Option(help="Column of users, sessions, documents or templates: rows that share a value count as one."),
]
OutcomesOption = Annotated[Path, typer.Option("--outcomes", "-o", help="The outcomes table (parquet).")]


def train(
    outcomes: OutcomesOption,
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="The candidate's folder, which must not exist.")] = Path("candidate"),
    router: Annotated[str, typer.Option(help="A router family, or auto: every one within the budget.")] = "auto",
    verifier: Annotated[str, typer.Option(help="A verifier family, or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed of splits and folds.")] = 0,
    promise: PromiseOption = None,
    group_by: GroupByOption = None,
    budget_s: Annotated[float, typer.Option(help="Seconds that --router auto may take to compare families.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Fit routers, verifiers and calibrators on TRAIN and TUNE. The candidate promises nothing until `certify`.

    One router for every tier below the last, one verifier for every tier of the configuration.

    --router auto tries every family that needs no language model, until --budget-s is used up, and takes the simplest
    within one standard error of the best area (APGR, out of fold on TRAIN); `length` where none beats it.

    Of equal prompts one row counts. --group-by user keeps all requests of a user on one side of the splits as well,
    and counts one of them.

    Example: serve-graph train --outcomes outcomes.parquet --out candidate
    """
    from dataclasses import replace

    from router_models.data.embeddings.encoder import Encoder
    from router_models.data.outcomes import read_outcomes
    from router_models.training.candidate import save_candidate
    from router_models.training.fit import check_outcomes, fit_candidate
    from router_models.training.splits import split_outcomes
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.serving_version import settings_of

    if out.exists():
        raise ServeGraphError(f"{out} exists; a candidate is never overwritten: choose another --out")
    graph = load_config(config)
    check_out(out, folder=True)
    check_out(graph.state_folder, folder=True)
    settings = replace(
        settings_of(graph),
        router=router,
        verifier=verifier,
        seed=seed,
        promise=promise.value if promise else None,
        group_by=group_by or None,
        budget_s=budget_s,
    )
    progress = progress_to_stderr()
    progress(f"reading {outcomes}")
    table = read_outcomes(outcomes, settings.tiers, metadata=[group_by] if group_by else ())
    progress(f"fitting on {len(table)} prompts")
    check_outcomes(table.only(*settings.tiers), settings)
    encoder = Encoder()
    splits = split_outcomes(table, settings.tiers, settings.seed, settings.group_by, last_ungraded=settings.harm)
    splits = splits.with_embeddings(encoder, graph.state_folder / "embeddings")
    candidate = fit_candidate(splits, settings, encoder, progress)
    save_candidate(candidate, settings, out)
    tried = [
        {
            "what": what,
            "tier": tier,
            "family": s.family,
            "auc": s.auc,
            "apgr": s.apgr,
            "seconds": s.seconds,
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
        unseen = row["auc_unseen_domains"]
        suffix = "" if row["apgr"] is None else f"  APGR {row['apgr']:.3f}, {row['seconds']:.1f} s"
        suffix += "" if unseen is None else f"  on unseen domains {unseen:.3f}"
        name = f"{row['what']:8} {row['tier']:10} {row['family']:14}"
        say(f"{name} AUC {row['auc']:.3f}  over the baseline {span}{suffix}")
    for tier, stage in candidate.version.stages.items():
        if stage.router is not None:
            say(f"chosen for {tier}: router {stage.router.family}, verifier {stage.verifier.family}")
    for tier in (tier for tier, scored in candidate.verifiers.items() if not scored):
        say(f"verifier {tier:10} none: every training answer is correct, so it will never abstain")
    say(f"candidate written to {out}; next: serve-graph certify --candidate {out} --outcomes {outcomes}")
