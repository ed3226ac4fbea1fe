"""`label`: ask people right or wrong, one key a label, until a promise is proved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.offline.train import LooksOption, PromiseOption
from serve_graph.cli.output import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    check_out,
    progress_to_stderr,
    say,
    say_json,
)


def label(
    outcomes: Annotated[
        Path,
        typer.Argument(help="The outcomes table that the candidate was trained on, or what `batch run --audit` drew."),
    ],
    candidate: Annotated[
        Path | None, typer.Option(help="The folder that `train` wrote; a batch's answers have none.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="The file of labels (JSON lines): begun, or gone on with. Default, of a batch: beside its answers."
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    epsilon: Annotated[float | None, typer.Option(help="Risk budget; default: from the configuration.")] = None,
    delta: Annotated[float | None, typer.Option(help="1 − confidence; default: from the configuration.")] = None,
    promise: PromiseOption = None,
    labeller: Annotated[str, typer.Option(help="Who labels; two people label the same answers.")] = "labeller",
    adjudicate: Annotated[
        bool, typer.Option("--adjudicate", help="Show only the answers that people disagree about, and settle them.")
    ] = False,
    to_the_end: Annotated[
        bool, typer.Option("--to-the-end", help="Go on where the next threshold is not likely to be proved.")
    ] = False,
    label_source: Annotated[
        str | None,
        typer.Option(
            help="Whose labels these are: human, or programmatic or judge:NAME for a script's. "
            "Default: what the file was begun for, human for a new one."
        ),
    ] = None,
    ask: Annotated[
        str | None,
        typer.Option(help="Of a batch: a running graph's URL, whose last tier is asked too where an answer is wrong."),
    ] = None,
    looks: LooksOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label answers in the terminal until a promise is proved: as few as it takes. `certify --labels` then certifies.

    Only answers that decide are shown: those of CERT that the most lenient candidate would accept, in random order,
    without saying which tier gave them. Thresholds are fixed before the first label, from strict to lenient; the test
    may be looked at after every label, so that it stops as soon as it is proved, or more is not likely to be. To begin
    is a look at the prompts; with --looks 1 the only one, which spends all of delta.

    One key a label: r right, w wrong, s skip (counts as wrong until somebody labels it), u undo, q quit. Every label
    is kept at once, and the next session goes on. Where stdin is no terminal, the keys are read from it; what is no
    key ends the session.

    Two people (--labeller ann, --labeller bob) label the same answers: the majority counts, a draw counts as wrong
    until --adjudicate settles it, and Cohen's kappa is reported.

    Answers that `batch run --audit N` drew are labelled in the same way, without a candidate and in the order of the
    draw; `serve-graph batch audit` says what the labels so far say of the batch. --ask shows the last tier's answer
    after each wrong one (a key with the scope `force`), since certificates of harm count only those where it is right.

    Example: serve-graph label outcomes.parquet --candidate candidate --labels labels.jsonl --labeller ann

    Example: serve-graph label answers.jsonl.audit.jsonl --labeller ann
    """
    import sys
    from dataclasses import replace
    from datetime import UTC, datetime

    from router_models.data.outcomes import read_outcomes
    from router_models.training.candidate import load_candidate
    from router_models.training.labelling.begin import open_labels
    from router_models.training.labelling.plan import check_agrees
    from router_models.training.labelling.records import has_labels, read_label_file
    from router_models.training.labelling.session import LabelSession
    from router_models.training.labelling.streamed import planned_settings
    from router_models.training.splits import split_outcomes
    from router_models.versions.workspace import Workspace
    from serve_graph.cli.batch.quality.label_batch import label_batch
    from serve_graph.cli.offline.label_terminal import keys_of, run_session, told
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.serving_version import settings_of
    from serve_graph.records import audit

    if not labeller.strip():
        raise ServeGraphError("--labeller needs a name")
    if candidate is None:
        if looks is not None:
            raise ServeGraphError("--looks is for a candidate's labels: those of a batch certify nothing")
        last = None if ask is None else (ask.rstrip("/").removesuffix("/v1"), load_config(config).tier_names[-1])
        label_batch(outcomes, labels, labeller.strip(), label_source, last, adjudicate, as_json)
        return
    if labels is None:
        raise ServeGraphError("--labels names the file of labels, begun or gone on with")
    if ask is not None:
        raise ServeGraphError("--ask is for a batch's answers: a candidate is labelled by what the outcomes hold")
    graph = load_config(config)
    check_out(labels)
    check_out(graph.state_folder, folder=True)
    progress = progress_to_stderr()
    work = Workspace(graph.state_folder, graph.registry_uri, graph.policy.model_name, progress)
    loaded, settings = load_candidate(candidate, settings_of(graph))
    if has_labels(labels):
        plan, _ = read_label_file(labels)
        check_agrees(plan, epsilon=epsilon, delta=delta, promise=promise.value if promise else None)
        settings = planned_settings(plan, settings)
    settings = replace(
        settings,
        epsilon=settings.epsilon if epsilon is None else epsilon,
        delta=settings.delta if delta is None else delta,
        promise=promise.value if promise else settings.promise,
    )
    table = read_outcomes(outcomes, settings.tiers, metadata=[settings.group_by] if settings.group_by else ())
    splits = split_outcomes(
        table, settings.tiers, settings.seed, settings.group_by, evidence="asked", last_ungraded=settings.harm
    ).with_embeddings(loaded.version.encoder, work.embeddings, progress_to_stderr())
    task, records = open_labels(
        labels, loaded, splits, settings, work, datetime.now(UTC), label_source=label_source, only_look=looks == 1
    )
    session = LabelSession(task, records, labeller.strip(), len(records), adjudicate, to_the_end)
    session = run_session(session, labels, keys_of(sys.stdin), lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    summary = session.summary()
    counted = {name: summary[name] for name in ("labelled", "against", "skipped", "disputed")}
    detail = {"labeller": labeller.strip(), "adjudicate": adjudicate, **counted}
    audit.record(graph, audit.operator(), "labels.session", str(labels), detail=detail)
    if as_json:
        say_json(summary)
        return
    for line in told(summary):
        say(line)
    if summary["proved"]:
        say(f"certify: serve-graph certify --candidate {candidate} --outcomes {outcomes} --labels {labels}")
