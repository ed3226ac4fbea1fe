"""`certify`: certify a candidate and register it as a version, optionally with further certificates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.extras import need_vllm
from serve_graph.cli.offline.train import GroupByOption, LooksOption, OutcomesOption, PatternOption, PromiseOption
from serve_graph.cli.output import (
    DEFAULT_CONFIG,
    AllowLossOption,
    ConfigOption,
    JsonOption,
    check_out,
    progress_to_stderr,
    say,
    say_json,
)


def certify(
    candidate: Annotated[Path, typer.Option(help="The folder that `train` wrote.")],
    outcomes: OutcomesOption,
    config: ConfigOption = DEFAULT_CONFIG,
    epsilon: Annotated[float | None, typer.Option(help="Risk budget; default: from the configuration.")] = None,
    delta: Annotated[float | None, typer.Option(help="1 − confidence; default: from the configuration.")] = None,
    slices: Annotated[
        str | None, typer.Option(help="Certify each slice: language, detected_language, length, domain or user_tier.")
    ] = None,
    promise: PromiseOption = None,
    pattern: PatternOption = None,
    group_by: GroupByOption = None,
    abstain_share: Annotated[
        float | None, typer.Option(help="Largest share of requests left unanswered; 0: none.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Also certify that accuracy is at most this much below always using the last tier."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(help="Also certify a verdict on the first N tokens of streams: N, or several to try."),
    ] = None,
    spill_epsilon: Annotated[
        float | None,
        typer.Option(help="Also certify rejected answers to serve while the last tier is full: their risk."),
    ] = None,
    jointly: Annotated[
        bool,
        typer.Option("--jointly", help="Split delta, so that everything certified holds at once with 1 - delta."),
    ] = False,
    label_source: Annotated[
        str | None,
        typer.Option(help="Who graded the rows that do not say: human, programmatic, judge or judge:NAME."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels that `label` wrote: they are the evidence, instead of the rows' own."),
    ] = None,
    alias: Annotated[
        str | None,
        typer.Option(help="Point this alias at the new version (e.g. stable), unless it is on an approved one."),
    ] = None,
    engines_as_configured: Annotated[
        bool,
        typer.Option(
            "--engines-as-configured",
            help="Confirm that the engines of --config gave the answers, where the table does not record it.",
        ),
    ] = False,
    looks: LooksOption = None,
    allow_loss: AllowLossOption = False,
    as_json: JsonOption = False,
) -> None:
    """Certify a candidate's thresholds on CERT labels and register it. Exit 1 with the reason if nothing certifies.

    The new version is proposed: it takes no traffic before `versions approve`, and --alias does not take an alias away
    from an approved one (docs/guides/review.md).

    Promised is, by default, that of the cheap answers that are shown at most epsilon are wrong where the last tier's
    answer is right (--promise harm). --promise accepted counts every wrong one of two tiers' cheap answers; --promise
    answered every wrong answer of any tier, with early abstention. Between two tiers one acceptance threshold is
    certified, the thresholds of more tiers together. Harm compares grades: grade all tiers alike; a last answer
    without a grade counts as right. Every attempt on the same prompts, including one
    that read labels and certified nothing, gets a smaller part of delta, so that repeated attempts keep the guarantee;
    so does every comparison that `plan` or `evaluate` made on them. Other prompts start over. The first attempt spends
    .0608 of a delta of .1, the second .0152; with --looks 1 the first spends all of it, and no other is let through
    for these prompts. A certificate is valid
    for the engines that gave the answers; `collect` records them beside the table.

    --slices language certifies the same promise for each language separately, at a share of delta each; a language
    that cannot be certified gets no cheap answers and no promise.

    --prefix 16 adds what the stream mode `prefix` needs (docs/guides/streaming.md): a verdict on the first 16 tokens,
    with the same epsilon and a separate delta. Of --prefix 8,16,32 the first that certifies is used, each at a third
    of that delta. If none does, the version is registered without.

    --spill-epsilon 0.3 adds what `policy.overload_fallback` needs (docs/guides/tiers.md): from which score on at most
    30 % of the rejected answers are wrong. It takes a quarter of delta, the version's own promise the rest. Where none
    certifies, the version is made without.

    A judge's labels (column label_source of the outcomes) train and tune; beside people's or programs' labels they are
    no evidence and are left out. --label-source judge:NAME certifies agreement with that judge instead.

    Where the configuration names a catalogue of intents (policy.catalogue), the promise is certified beside it, and
    holds beside this very catalogue alone (docs/guides/learning/intents.md).

    --labels FILE certifies by labels that people gave one by one (`serve-graph label`), until the promise was proved.
    Budget, promise and look are the file's; nothing is abstained from, and nothing else is certified with it.

    --pattern pre-route certifies the router's threshold alone, for two tiers: of all answers of prompts that it sends
    to the cheap tier at most epsilon are wrong where the last tier's is right. No verifier is asked when serving,
    nothing is sent on, and streams begin at once. --pattern chain, for three tiers and more: what a tier's verifier
    rejects goes to the next tier that the router would try, and is judged there, until the last one answers. --pattern
    auto certifies layered and the other one that the number of tiers allows, each at half of delta, and takes the one
    that saves more on CERT, net of router and verifier; it shows both (docs/concepts/patterns.md).

    Accepted answers, abstention, a prefix and the overload fallback are tested apart: each holds with 1 - delta, all
    of them at once only with the sum of their deltas less. --jointly divides delta among them.

    A version whose tries would cost more than they save, by what CERT measured and the configured prices, is refused
    unless --allow-loss (docs/guides/cost.md); `up` serves it with policy.allow_loss alone.

    Example: serve-graph certify --candidate candidate --outcomes outcomes.parquet --max-drop 0.05 --alias stable
    """
    from dataclasses import replace

    from router_models.data.outcomes import read_outcomes
    from router_models.data.text_cache import each_text_once
    from router_models.estimators.catalogue.nearest_example import CatalogueIndex
    from router_models.pipeline import certify_next, certify_overload_next, certify_prefix_next
    from router_models.reports.publish import publish
    from router_models.training.candidate import load_candidate
    from router_models.training.certify import certify_candidate
    from router_models.training.certify_overload import check_overload, shared
    from router_models.training.certify_prefix import check_prefix
    from router_models.training.labelling.begin import check_noted
    from router_models.training.labelling.plan import check_agrees, task_of
    from router_models.training.labelling.records import read_label_file
    from router_models.training.labelling.streamed import StreamedLabels, planned_settings
    from router_models.training.splits import split_outcomes
    from router_models.training.together import jointly as split_delta
    from router_models.training.whose_labels import evidence_asked_for, with_label_source
    from router_models.versions.names import check_name
    from router_models.versions.workspace import Workspace
    from serve_graph.cli.offline.certify_text import RegisteredCertificate, certified_json, certified_lines
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.bindings import collected_binds, differing
    from serve_graph.policy.catalogue_watch import CatalogueWatch
    from serve_graph.policy.pays import break_even_of, check_pays, later_losses
    from serve_graph.policy.serving_version import settings_of

    graph = load_config(config)
    if alias is not None:
        check_name("alias", alias)
    need_vllm(graph)  # a certificate is bound to the engine's version
    check_out(graph.state_folder, folder=True)
    progress = progress_to_stderr()
    work = Workspace(graph.state_folder, graph.registry_uri, graph.policy.model_name, progress)
    loaded, settings = load_candidate(candidate, settings_of(graph))
    encoder = loaded.version.encoder
    if (watch := CatalogueWatch.of(graph)) is not None:
        if labels is not None and watch.catalogue.binding:
            raise ServeGraphError("--labels certifies without a catalogue of intents: leave policy.catalogue out")
        index = CatalogueIndex.of(watch.catalogue, encoder)
        loaded = replace(loaded, version=replace(loaded.version, catalogue=index))
    settings = replace(
        settings,
        epsilon=settings.epsilon if epsilon is None else epsilon,
        delta=settings.delta if delta is None else delta,
        abstain_share=settings.abstain_share if abstain_share is None else abstain_share,
        max_drop=max_drop,
        slicer=slices,
        promise=promise.value if promise else settings.promise,
        pattern=pattern.value if pattern else settings.pattern,
    )
    settings.check_pattern()
    if settings.pattern != "layered":
        given_too = {"--prefix": prefix, "--spill-epsilon": spill_epsilon, "--labels": labels}
        if unfit := [name for name, value in given_too.items() if value is not None]:
            raise ServeGraphError(
                f"--pattern {settings.pattern} is certified without {', '.join(unfit)}, which are about answers that "
                "a verifier judges: leave them out, or --pattern layered"
            )
    plan = None
    if labels is not None:
        refused = {"--slices": slices, "--max-drop": max_drop, "--prefix": prefix, "--spill-epsilon": spill_epsilon}
        refused |= {"--label-source": label_source, "--jointly": jointly or None, "--looks": looks}
        if given := [name for name, value in refused.items() if value is not None]:
            raise ServeGraphError(f"--labels certifies accepted answers alone, without {', '.join(given)}")
        plan, records = read_label_file(labels)
        check_noted(plan, graph.registry_uri)
        check_agrees(plan, epsilon=epsilon, delta=delta, promise=settings.promise if promise else None)
        settings = planned_settings(plan, settings)
    if abstain_share and settings.harm and len(settings.tiers) > 2:
        raise ServeGraphError(
            "the promise `harm` of three tiers or more leaves nothing unanswered: harm compares answers with the last "
            "tier's, and silence is none. Leave --abstain-share out, or --promise answered"
        )
    lengths, spill_delta = _lengths(prefix), 0.0
    if spill_epsilon is not None:
        check_overload(settings, spill_epsilon)
    if jointly:
        settings = split_delta(settings, prefix=bool(lengths), overload=spill_epsilon is not None)
        spill_delta = settings.delta
    elif spill_epsilon is not None:
        settings, spill_delta = shared(settings)
    recorded = collected_binds(outcomes)
    if recorded is None and not engines_as_configured:
        raise ServeGraphError(
            f"{outcomes}: the engines that gave these answers are not recorded, and a certificate is bound to them. "
            f"Collect with `serve-graph collect`, which records them; or, if you know that they were the engines of "
            f"{config}, confirm it with --engines-as-configured"
        )
    if recorded is None:
        progress(f"bound to the engines of {config} as confirmed by --engines-as-configured")
    if recorded is not None and (changed := differing(recorded, graph, loaded.version.asked)):
        raise ServeGraphError(f"{outcomes} was collected from engines that differ from {config}: {changed}")
    if group_by is not None and group_by != (settings.group_by or ""):
        raise ServeGraphError(
            f"the candidate was trained with --group-by {settings.group_by or 'not given'}, which says what it has "
            f"seen: certify with the same, or train again with --group-by {group_by}"
        )
    table = read_outcomes(outcomes, settings.tiers, metadata=[settings.group_by] if settings.group_by else ())
    table = with_label_source(table, label_source)
    if lengths:
        check_prefix(table, settings, lengths)
    progress("certifying")
    splits = split_outcomes(
        table,
        settings.tiers,
        settings.seed,
        settings.group_by,
        counted=settings.counted_tiers,
        last_ungraded=settings.harm,
        evidence="asked" if plan else evidence_asked_for(label_source),
    ).with_embeddings(encoder, work.embeddings, progress)
    now = datetime.now(UTC)
    with each_text_once():  # parts of prompts are embedded for what is covered, by each
        if plan is None:
            certified, settings = certify_next(loaded, splits, settings, now, work, only_look=looks == 1)
        else:
            streamed = StreamedLabels(task_of(plan, loaded, splits, settings.longest_prompt), records)
            certified = certify_candidate(loaded, splits, settings, now, labels=streamed)
        check_pays(certified.version, graph, now, allow_loss=allow_loss)
        without: str | None = None
        if lengths:
            certified, without = certify_prefix_next(
                certified, splits, settings, lengths, datetime.now(UTC), work, only_look=looks == 1
            )
        no_spill: str | None = None
        if spill_epsilon is not None:
            certified, no_spill = certify_overload_next(
                certified, splits, settings, spill_epsilon, spill_delta, datetime.now(UTC), work
            )
    registered = publish(loaded, certified, settings, work, alias=alias)
    found = RegisteredCertificate(
        registered, certified.version, settings.tiers, break_even_of(certified.version, graph, now)
    )
    if as_json:
        prefix_too = {"no_prefix": without} if lengths else {}
        spill_too = {"no_spill": no_spill} if spill_epsilon is not None else {}
        say_json(certified_json(found, prefix_too, spill_too))
        return
    losses = later_losses(certified.version, graph, now)
    say("\n".join(certified_lines(found, losses, without, no_spill, alias=alias, jointly=jointly)))


def _lengths(text: str | None) -> list[int]:
    from serve_graph.errors import ServeGraphError

    if text is None:
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ServeGraphError(f"--prefix takes numbers of tokens, such as 16 or 8,16,32; got {text!r}") from None
