"""`batch audit`: what labels on a sample say of a batch; and the labels told to the graph that answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router_models.errors import by_number
from serve_graph.cli.output import JsonOption, say, say_json
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.risk_control.certificates.certificate import Certificate


def audit_batch(
    sample: Annotated[Path, typer.Argument(help="OUT.audit.jsonl, which `batch run --audit N` has drawn.")],
    labels: Annotated[Path | None, typer.Option(help="The file that `label` wrote; default: beside it.")] = None,
    journal: Annotated[Path | None, typer.Option(help="OUT.journal of the run; default: beside it.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Compare with the certificate of the version it serves.")
    ] = None,
    post: Annotated[
        str | None, typer.Option(help="A running graph's URL: tell it the labels, as POST /v1/feedback does.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is known of a batch's quality from labels on a random sample of its answers.

    The shares of wrong answers, in all, by tier and by outcome, and of harmful ones (wrong where the last tier's is
    right) among accepted ones, with exact 95 % intervals (Clopper and Pearson). What was skipped or is disputed counts
    as right where an interval begins and as wrong where it ends. Labels are those of `serve-graph label SAMPLE`, and
    values (`right`, `wrong`) that somebody wrote into the sample itself.

    --post tells the labels to the graph that answered, so that they stand beside the decisions (a key with the scope
    admin in $SERVE_GRAPH_KEY). Its alarms go by labels of the random share that they count alone.

    Example: serve-graph batch audit answers.jsonl.audit.jsonl --config graph.yaml
    """
    from serve_graph.cli.batch.quality.measured_quality import batch_quality, held_against, quality_lines

    told = batch_quality(sample, labels, journal)
    if config is not None and (certificate := _certificate(config)) is not None:
        told["certificate"] = held_against(told, certificate)
    if post is not None:
        from serve_graph.cli.batch.quality.posting import post_labels

        told["posted"] = post_labels(post.rstrip("/").removesuffix("/v1"), sample, labels)
    if as_json:
        say_json(told)
        return
    for line in quality_lines(told):
        say(line)
    if post is not None:
        done = told["posted"]
        taken, unknown = done["taken"], done["without_decision"]
        others = f"{unknown:,} {by_number(unknown, 'is of an answer', 'are of answers')} without a record"
        say(f"{taken:,} {by_number(taken, 'label')} told to {post}, {others}")


def _certificate(path: Path) -> Certificate | None:
    from serve_graph.config.graph import load_config
    from serve_graph.policy.served_version import ServedVersion
    from serve_graph.policy.serving_version import serving_version

    if not path.is_file():
        raise ServeGraphError(f"there is no configuration {path}")
    config = load_config(path)
    found: Any = ServedVersion.of(serving_version(config), config).policy.certificate
    return found  # type: ignore[no-any-return]
