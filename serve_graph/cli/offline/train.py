"""`train`: fit a candidate on outcomes, for `certify`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from serve_graph.learning.retraining.served_outcomes import ServedOutcomes


class Promises(StrEnum):
    """Which risk a version promises to keep: `candidate.Settings.promise`."""

    HARM = "harm"
    ACCEPTED = "accepted"
    ANSWERED = "answered"


class Patterns(StrEnum):
    """How the tiers are used: `candidate.Settings.pattern`."""

    LAYERED = "layered"
    PRE_ROUTE = "pre-route"
    CHAIN = "chain"
    AUTO = "auto"


PromiseOption = Annotated[
    Promises | None,
    typer.Option(
        help="What is bounded: harm (cheap wrong and last tier right | cheap accepted; the default), accepted "
        "(wrong | cheap accepted), answered (wrong | answered)."
    ),
]
PatternOption = Annotated[
    Patterns | None,
    typer.Option(
        help="How the tiers are used: layered (a verifier judges what the cheap tier answered; the default), "
        "pre-route (of two: the router alone decides, before generation), chain (of three and more: what is rejected "
        "goes to the next tier), auto (whichever certifies cheaper)."
    ),
]
GroupByOption = Annotated[
    str | None,
    typer.Option(help="Column of users, sessions, documents or templates: rows that share a value count as one."),
]
LooksOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1,
        help="1: spend all of delta in this look at the labels, which has to be the first and stays the only one.",
    ),
]
OutcomesOption = Annotated[Path, typer.Option("--outcomes", "-o", help="The outcomes table (parquet).")]
LATEST = 20_000
"""Decisions that `--from-decisions` reads, the newest."""


def train(
    outcomes: Annotated[Path | None, typer.Option("--outcomes", "-o", help="The outcomes table (parquet).")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option(help="The candidate's folder, which must not exist.")] = Path("candidate"),
    router: Annotated[str, typer.Option(help="A router family, or auto: every one within the budget.")] = "auto",
    verifier: Annotated[str, typer.Option(help="A verifier family, or auto.")] = "auto",
    signals: Annotated[
        str,
        typer.Option(
            help="Signals that verifiers may ask for: auto (those of the table that pay for their calls), none, or "
            "names with commas."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed of splits and folds.")] = 0,
    promise: PromiseOption = None,
    pattern: PatternOption = None,
    group_by: GroupByOption = None,
    budget_s: Annotated[float, typer.Option(help="Seconds that --router auto may take to compare families.")] = 300.0,
    votes: Annotated[
        Path | None,
        typer.Option(help="Preference votes that the routers learn from as well: prompt, model_a, model_b, winner."),
    ] = None,
    vote_models: Annotated[
        list[str] | None,
        typer.Option("--vote-model", help="TIER=NAME: the model of --votes that a tier is. May be repeated."),
    ] = None,
    from_decisions: Annotated[
        bool, typer.Option("--from-decisions", help="Make the outcomes of served traffic, instead of --outcomes.")
    ] = False,
    decisions: Annotated[
        str | None, typer.Option(help="With --from-decisions: another store, a SQLite file or a URL.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="With --from-decisions: from this moment on (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="With --from-decisions: before this moment (ISO 8601).")] = None,
    version: Annotated[
        str | None, typer.Option(help="With --from-decisions: traffic of this version alone, as records name it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --from-decisions: the newest so many.")] = LATEST,
    label_source: Annotated[
        str | None, typer.Option(help="With --from-decisions: labels of this source alone, e.g. human or judge:NAME.")
    ] = None,
    uncorrected: Annotated[
        bool, typer.Option("--uncorrected", help="With --from-decisions: train on all whole rows, without weights.")
    ] = False,
    out_outcomes: Annotated[
        Path | None, typer.Option(help="With --from-decisions: the table to write; default: OUT-outcomes.parquet.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit routers, verifiers and calibrators on TRAIN and TUNE. The candidate promises nothing until `certify`.

    One router for every tier below the last, one verifier for every tier of the configuration.

    --router auto tries every family that needs no language model, but matrix-factorisation (what is written around a
    hard prompt misleads it), until --budget-s is used up, and takes the simplest within one standard error of the best
    area (APGR, out of fold on TRAIN); `length` where none beats it.

    --signals auto asks for signals that the table holds (`collect --signals`) where the verifier that reads them saves
    more than their calls cost, out of fold, with a 95 % interval above nothing; it says what each would save. A family
    that needs a signal (--verifier p-true) gets it. The version serves with them: docs/reference/signals.md.

    Of equal prompts one row counts. --group-by user keeps all requests of a user on one side of the splits as well,
    and counts one of them.

    --votes FILE teaches the routers who wins where, of votes on any models (docs/guides/learning/votes.md): mixed with
    what grades teach unless that orders graded prompts worse; alone with --router preferences. Votes certify nothing.

    --from-decisions makes the outcomes of what was served: kept prompts, the answers of every tier that were made for
    them, and labels, judges' grades and comparisons. It says how they were chosen and weights training by the inverse
    of that chance, or says why it cannot; `certify` takes of them those alone that chance drew
    (docs/guides/learning/retraining.md). It needs records.keep_prompts while they are served.

    Example: serve-graph train --outcomes outcomes.parquet --out candidate

    Example: serve-graph train --outcomes outcomes.parquet --votes votes.jsonl --vote-model cheap=llama-8b --out next

    Example: serve-graph train --from-decisions --since 2026-11-01 --version router/3 --out next
    """
    from dataclasses import replace

    from router_models.data.embeddings.encoder import Encoder
    from router_models.data.formats.preference_votes import read_votes
    from router_models.data.outcomes import read_outcomes
    from router_models.estimators.asked_signals import check_asked
    from router_models.training.candidate import save_candidate
    from router_models.training.fit import fit_candidate
    from router_models.training.labelling.preferences import VotesToLearnFrom, learned_words
    from router_models.training.outcome_checks import check_outcomes
    from router_models.training.splits import split_outcomes
    from serve_graph.cli.offline.from_decisions import SESSION, served_table, unweighted_parts, window_of
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.serving_version import settings_of

    if votes is not None and outcomes is None and not from_decisions:
        raise typer.BadParameter(
            "votes teach which prompts need the dearer model, and not how often an answer is right: --votes needs "
            "graded answers, from --outcomes FILE or --from-decisions (a few hundred prompts)"
        )
    if (outcomes is None) != from_decisions:
        raise typer.BadParameter("give either --outcomes FILE or --from-decisions")
    if vote_models and votes is None:
        raise typer.BadParameter("--vote-model names models of --votes FILE")
    if out.exists():
        raise ServeGraphError(f"{out} exists; a candidate is never overwritten: choose another --out")
    graph = load_config(config)
    check_out(out, folder=True)
    check_out(graph.state_folder, folder=True)
    settings = replace(
        settings_of(graph),
        router=router,
        verifier=verifier,
        signals=None if signals == "auto" else () if signals == "none" else check_asked(signals.split(",")),
        seed=seed,
        promise=promise.value if promise else None,
        pattern=pattern.value if pattern else "layered",
        group_by=group_by or None,
        budget_s=budget_s,
    )
    settings.check_pattern()
    progress = progress_to_stderr()
    named = _named_models(vote_models or [], settings.tiers)
    voted = None if votes is None else read_votes(votes)
    if voted is not None and (unknown := sorted({*named.values()} - {*voted.models})):
        raise ServeGraphError(f"{votes}: no vote on {', '.join(unknown)}; it has {', '.join(voted.models)}")
    served: ServedOutcomes | None = None
    if outcomes is None:
        window = window_of(decisions, since, until, version, limit, label_source, corrected=not uncorrected)
        outcomes = out_outcomes or out.with_name(f"{out.name}-outcomes.parquet")
        served = served_table(graph, window, outcomes)
        if group_by is None and any(row.metadata.get(SESSION) for row in served.outcomes):
            group_by, settings = SESSION, replace(settings, group_by=SESSION)
        (progress if as_json else say)("\n".join(served.lines()))
    progress(f"reading {outcomes}")
    table = read_outcomes(outcomes, settings.tiers, metadata=[group_by] if group_by else ())
    progress(f"fitting on {len(table)} prompts")
    check_outcomes(table.only(*settings.tiers), settings)
    encoder = Encoder()
    splits = split_outcomes(table, settings.tiers, settings.seed, settings.group_by, last_ungraded=settings.harm)
    splits = splits.with_embeddings(encoder, graph.state_folder / "embeddings", progress)
    preferences = None
    if voted is not None:
        preferences = VotesToLearnFrom(
            voted.with_embeddings(encoder, graph.state_folder / "embeddings", progress), named
        )
    candidate = fit_candidate(splits, settings, encoder, progress, preferences)
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
    unweighted = unweighted_parts(candidate.version) if served and served.selection.correction.weights else []
    if as_json:
        beside = {} if served is None else {"served": served.shown(), "unweighted": unweighted}
        found = {"candidate": str(out), "outcomes": str(outcomes), "dataset_sha256": candidate.dataset_hash}
        found |= {} if voted is None else {"learned_from": learned_words(candidate.version) or "grades alone"}
        say_json(found | {"tried": tried} | beside)
        return
    for row in tried:
        span = f"{row['advantage']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        unseen = row["auc_unseen_domains"]
        suffix = "" if row["apgr"] is None else f"  APGR {row['apgr']:.3f}"
        suffix += "" if row["seconds"] is None else f", {row['seconds']:.1f} s"
        suffix += "" if unseen is None else f"  on unseen domains {unseen:.3f}"
        name = f"{row['what']:8} {row['tier']:10} {row['family']:14}"
        say(f"{name} AUC {row['auc']:.3f}  over the baseline {span}{suffix}")
    for tier, stage in candidate.version.stages.items():
        if stage.router is not None:
            asks = f", which asks for {' and '.join(stage.asked)}" if stage.asked else ""
            say(f"chosen for {tier}: router {stage.router.family}, verifier {stage.verifier.family}{asks}")
    if voted is not None:
        say(learned_words(candidate.version) or "votes were left out: with them the graded prompts are ordered worse")
    for part in unweighted:
        say(f"{part} takes no weights: it learned from the rows as they came")
    for tier in (tier for tier, scored in candidate.verifiers.items() if not scored):
        say(f"verifier {tier:10} none: every training answer is correct, so it will never abstain")
    say(f"candidate written to {out}; next: serve-graph certify --candidate {out} --outcomes {outcomes}")


def _named_models(words: list[str], tiers: tuple[str, ...]) -> dict[str, str]:
    """The models of votes by the tiers that they are; exit 2 for anything but TIER=NAME of a configured tier."""
    found = {}
    for word in words:
        tier, equals, name = word.partition("=")
        if not equals or not name or tier not in tiers:
            raise typer.BadParameter(f"--vote-model takes TIER=NAME with a tier of {', '.join(tiers)}; found {word!r}")
        found[tier] = name
    return found
