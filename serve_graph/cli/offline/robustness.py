"""`serve-graph robustness`: what becomes of hard prompts that are rewritten to be routed to the cheap tier."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_graph.cli.offline.tier_options import EMBEDDINGS_CACHE, CacheOption, ScaleOption, SeedOption, pair
from serve_graph.cli.offline.train import GroupByOption, OutcomesOption
from serve_graph.cli.output import JsonOption, check_out, progress_to_stderr, say, say_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router_models.training.splits import LabelledSplits
    from router_models.versions.router_version import RouterVersion


def robustness(
    outcomes: OutcomesOption,
    candidate: Annotated[
        Path | None, typer.Option(help="The folder of a candidate that `train` wrote, or of a version.")
    ] = None,
    weak: Annotated[str | None, typer.Option(help="Without --candidate: the cheaper tier's name.")] = None,
    strong: Annotated[str | None, typer.Option(help="Without --candidate: the better tier's name.")] = None,
    router: Annotated[
        str,
        typer.Option(
            help="Without --candidate: the router family that is fitted; several with commas, or all that train tries."
        ),
    ] = "default",
    prompts: Annotated[int, typer.Option(help="Prompts to rewrite, at most.", min=1)] = 200,
    edits: Annotated[
        bool,
        typer.Option(
            "--edits",
            help="Instead of attacks: 420 innocent edits (typing errors, case, spaces, politeness, wordings), and how "
            "often the choice flips, beside prompt length and random.",
        ),
    ] = False,
    epsilon: Annotated[
        float,
        typer.Option(help="The largest share of hard prompts that may move; a certificate's own takes its place."),
    ] = 0.10,
    scale: ScaleOption = None,
    group_by: GroupByOption = None,
    cache: CacheOption = EMBEDDINGS_CACHE,
    seed: SeedOption = 0,
    out: Annotated[Path | None, typer.Option(help="A .md file for the report.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Rewrite prompts that the cheap tier answers wrong, in some fifty ways, and see which are then routed to it.

    Padding with easy questions, splitting over turns, encodings, homoglyphs, white space, layouts, languages, notes to
    the router and to the verifier. Counted are prompts of CERT's part, on which nothing was fitted, that are newly
    sent to the cheap tier although the certificate covers them, and those whose recorded answer is newly accepted as
    well. The labels that are read choose nothing; they are no look at a certificate's labels.

    With --candidate, a version that `train` made of the same --outcomes and --seed. Without, a --router is fitted, and
    half of the prompts are sent to --weak. Several routers are attacked with the same easy questions, without answers.

    Example: serve-graph robustness --candidate candidate --outcomes outcomes.parquet --out robustness.md
    """
    from router_models.data.embeddings.encoder import Encoder
    from router_models.data.outcomes import read_outcomes
    from router_models.evaluation.benchmarks.misrouting.attack import measure_misrouting
    from router_models.evaluation.benchmarks.misrouting.families import measure_families
    from router_models.evaluation.benchmarks.misrouting.page import misrouting_figures, misrouting_page
    from router_models.evaluation.held_out import want_embeddings
    from router_models.training.selection.auto_router import BASELINE, auto_families
    from router_models.training.selection.model_selection import served_families
    from router_models.training.splits import split_outcomes
    from router_models.versions.covering.attack_limits import certified_coverage
    from router_models.versions.covering.rewriting import easiest

    if (candidate is None) == (weak is None or strong is None):
        raise typer.BadParameter("name either --candidate FOLDER, or both tiers: --weak A --strong B")
    check_out(out)
    progress = progress_to_stderr()
    version = None if candidate is None else _loaded(candidate)
    encoder = Encoder() if version is None else version.encoder
    tiers = (str(weak), str(strong)) if version is None else version.policy.tiers
    table = read_outcomes(outcomes, tiers, pair(scale, "--scale"), [group_by] if group_by else ())
    splits = split_outcomes(table, tiers, seed, group_by, last_ungraded=True)
    named = router.split(",")
    if router == "all" or (want_embeddings(named) if version is None else version.needs_encoder):
        progress(f"embedding {len(table)} prompts")
        splits = splits.with_embeddings(encoder, cache, progress)
    if edits:
        _say_flips(version, splits, [] if version is not None else named, prompts, seed, out, as_json=as_json)
        return
    if version is None:
        families = (BASELINE, *auto_families(splits.train)) if router == "all" else served_families(named)
        name = outcomes.stem if len(families) == 1 else None
        found = measure_families(
            splits, families, encoder, epsilon=epsilon, most=prompts, seed=seed, name=name, progress=progress
        )
    else:
        known = version.certificate
        attacked = measure_misrouting(
            version,
            certified_coverage(version, splits.train, splits.tune, splits.cert, epsilon)
            if known is None
            else known.coverage,
            splits.cert,
            easiest([version], splits.train),
            name=str(candidate and candidate.name),
            epsilon=epsilon if known is None else known.epsilon,
            most=prompts,
            progress=progress,
        )
        found = [attacked]
    _tell(misrouting_page(found, _made()), misrouting_figures(found), out, as_json=as_json)


def _say_flips(
    version: RouterVersion | None,
    splits: LabelledSplits,
    families: Sequence[str],
    most: int,
    seed: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Edit the first prompts of CERT's part, and say how often choices flip."""
    from router_models.evaluation.benchmarks.flips import (
        encoder_for,
        family_choices,
        flips_figures,
        flips_page,
        measure_flips,
        version_choice,
    )
    from router_models.training.selection.model_selection import served_families

    progress = progress_to_stderr()
    fitted = list(dict.fromkeys((*(served_families(families) if families else ()), "length", "random")))
    choices = {} if version is None else {version.name: version_choice(version)}
    choices |= family_choices(splits, fitted, progress=progress)
    texts, encoder = splits.cert.prompts.texts[:most], encoder_for(fitted, version)
    found = measure_flips(choices, texts, encoder, seed=seed, progress=progress)
    _tell(flips_page(found, _made()), flips_figures(found), out, as_json=as_json)


def _tell(page: str, figures: Any, out: Path | None, *, as_json: bool) -> None:
    """Write the page where a file is named, and say it or its figures."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page)
        progress_to_stderr()(f"written to {out}")
    if as_json:
        say_json(figures)
    else:
        say(page)


def _loaded(folder: Path) -> RouterVersion:
    from router_models.versions.router_version import RouterVersion
    from serve_graph.errors import ServeGraphError

    version = RouterVersion.load(folder)
    tier = version.policy.tiers[0]
    if tier not in version.policy.points or version.stages[tier].router is None:
        raise ServeGraphError(
            f"{folder}: without a threshold and a router of its own, nothing is sent to {tier!r}; thresholds that are "
            "certified together are only there in a certified version"
        )
    return version


def _made() -> str:
    from router_models.evaluation.run import machine

    command = shlex.join(["serve-graph", *sys.argv[1:]])
    return f"Made {datetime.now(UTC):%Y-%m-%d} on {machine()}.\n\n```\n{command}\n```"
