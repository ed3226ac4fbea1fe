"""`models add`: a candidate with a model that is new, from a few hundred graded prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.offline.tier_options import SeedOption
from serve_graph.cli.offline.train import GroupByOption, OutcomesOption, PromiseOption
from serve_graph.cli.output import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    check_out,
    progress_to_stderr,
    say,
    say_json,
)

app = typer.Typer(help="Models that are new to a graph.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Models that are new to a graph."""


@app.command()
def add(
    name: Annotated[
        str, typer.Argument(help="The new model: a tier of --config below the last, as outcomes name it.")
    ],
    outcomes: OutcomesOption,
    config: ConfigOption = DEFAULT_CONFIG,
    candidate: Annotated[
        Path | None,
        typer.Option(help="A folder of `train`: its models of other tiers are kept, and its seed and groups."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The new candidate's folder, which must not exist; default: measure only.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="cluster-error, matrix-factorisation, or auto: the better one out of fold.")
    ] = "auto",
    seed: SeedOption = 0,
    promise: PromiseOption = None,
    group_by: GroupByOption = None,
    allow_unproven: Annotated[
        bool,
        typer.Option("--allow-unproven", help="Make a candidate though its router is no better than prompt length."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a model from a few hundred graded prompts, without training anew what is known of prompts and other models.

    --outcomes holds prompts with grades of other models (as many as there are, the more the better), and on a few
    hundred of them the new model's and every configured tier's. What prompts are like is learned from the other
    models' grades; of the new model a vector is fitted (matrix-factorisation), or its share of right answers by
    cluster. Before it may be used it is measured out of fold beside prompt length, and refused where it is no better.

    Shown are the new model's right answers and dollars beside every other model's, which of them it could replace, and
    what sending its hardest prompts to the last tier brings: expectations from prompts that `certify` does not read.
    With --out a candidate is written, for `certify`, as `train` writes one (docs/guides/learning/new-models.md).

    Example: serve-graph models add new --outcomes all.parquet --config next.yaml --candidate candidate --out next
    """
    from dataclasses import replace

    import numpy as np

    from router_models.data.embeddings.encoder import Encoder
    from router_models.data.groups import grouped_by
    from router_models.data.outcomes import read_outcomes
    from router_models.training.candidate import load_candidate, save_candidate
    from router_models.training.fit import fit_candidate
    from router_models.training.labelling.given_stages import GivenStages
    from router_models.training.labelling.new_model import METHODS, measure_transfer, rows_apart, side_rows
    from router_models.training.labelling.replacement import (
        beside_others,
        routed_shares,
        transfer_json,
        transfer_words,
    )
    from router_models.training.outcome_checks import check_outcomes
    from router_models.training.splits import split_outcomes
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.serving_version import settings_of

    if method not in ("auto", *METHODS):
        raise typer.BadParameter(f"--method is auto, {' or '.join(METHODS)}; found {method!r}")
    if out is not None and out.exists():
        raise ServeGraphError(f"{out} exists; a candidate is never overwritten: choose another --out")
    graph = load_config(config)
    for folder in (graph.state_folder, *(() if out is None else (out,))):
        check_out(folder, folder=True)
    progress, encoder = progress_to_stderr(), Encoder()
    settings = replace(
        settings_of(graph), seed=seed, group_by=group_by or None, promise=promise.value if promise else None
    )
    if name not in settings.tiers[:-1]:
        raise ServeGraphError(
            f"{name!r} is no tier of {config} below the last ({', '.join(settings.tiers)}): the configuration is that "
            "of the graph as it shall be, with the new model in it"
        )
    kept = {}
    if candidate is not None:
        loaded, theirs = load_candidate(candidate, settings)
        encoder = loaded.version.encoder
        settings = replace(settings, seed=theirs.seed, group_by=theirs.group_by)
        others = [tier for tier in settings.tiers[:-1] if tier != name]
        kept = {tier: loaded.version.stages[tier] for tier in others if tier in loaded.version.stages}
    if lacking := [tier for tier in settings.tiers[:-1] if tier != name and tier not in kept]:
        raise ServeGraphError(
            f"no router is known of {', '.join(lacking)}: give the candidate that has one (--candidate FOLDER of "
            "`train`), or train anew"
        )
    progress(f"reading {outcomes}")
    named = [settings.group_by] if settings.group_by else []
    whole = grouped_by(read_outcomes(outcomes, metadata=named), settings.group_by)
    check_outcomes(whole.only(*settings.tiers), settings)
    splits = split_outcomes(whole, settings.tiers, settings.seed, settings.group_by, last_ungraded=settings.harm)
    cache = graph.state_folder / "embeddings"
    splits = splits.with_embeddings(encoder, cache, progress)
    side = whole.take(side_rows(whole, splits)).with_embeddings(encoder, cache, progress)
    last, methods = settings.tiers[-1], METHODS if method == "auto" else (method,)
    transfer = measure_transfer(
        name, side, splits.train, methods=methods, seed=settings.seed, last=last, group_by=settings.group_by
    )
    cert = splits.table.take(np.isin(splits.table.groups, splits.cert.groups))
    known = whole.take(rows_apart(whole, cert, settings.group_by))
    beside = beside_others(known, name, settings.prices, seed=settings.seed)
    shares = routed_shares(transfer, splits.train, last, settings.prices)
    if transfer.fault is not None and not allow_unproven:
        raise ServeGraphError(
            f"{name} is not added: {transfer.fault}. Grade more of its answers, or other models' on more prompts; "
            "--allow-unproven makes the candidate all the same"
        )
    if not as_json:
        say("\n".join(transfer_words(transfer, beside, shares, last)))
    if out is not None:
        given = GivenStages(kept, {name: transfer.choice})
        made = fit_candidate(splits, settings, encoder, progress, given=given)
        save_candidate(made, settings, out)
    if as_json:
        say_json(transfer_json(transfer, beside, shares, last) | {"candidate": None if out is None else str(out)})
    elif out is not None:
        say(f"candidate written to {out}; next: serve-graph certify --candidate {out} --outcomes {outcomes}")
    else:
        say("measured only: --out FOLDER writes a candidate for `certify`")
