"""`certify`: from a candidate to a registered version, with what is proved beside its own promise."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_graph.cli.extras import need_vllm
from serve_graph.cli.offline.train import OutcomesOption, PromiseOption
from serve_graph.cli.output import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    check_out,
    progress_to_stderr,
    say,
    say_json,
)


def certify(
    candidate: Annotated[Path, typer.Option(help="The folder `train` wrote.")],
    outcomes: OutcomesOption,
    config: ConfigOption = DEFAULT_CONFIG,
    epsilon: Annotated[float | None, typer.Option(help="Risk budget; default: the configuration's.")] = None,
    delta: Annotated[float | None, typer.Option(help="1 − confidence; default: the configuration's.")] = None,
    slices: Annotated[
        str | None, typer.Option(help="Promise for each slice by itself: language, length, domain or user_tier.")
    ] = None,
    promise: PromiseOption = None,
    abstain_share: Annotated[
        float | None, typer.Option(help="The largest share of requests left unanswered; 0: never.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Also prove: the share right falls by less than this below always asking the last tier."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(help="Also certify a verdict on an answer's first N tokens, for streams: N, or several to try."),
    ] = None,
    spill_epsilon: Annotated[
        float | None,
        typer.Option(
            help="Also certify which rejected answers may be served while the last tier is full: their risk."
        ),
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Point this alias at the new version (e.g. stable).")] = None,
    engines_as_configured: Annotated[
        bool,
        typer.Option(
            "--engines-as-configured",
            help="Nothing beside the table says which engines answered; vouch that it was those of --config.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Certify a candidate's thresholds on CERT labels and register it. Nothing certified: exit 1, with why.

    Between two tiers one acceptance threshold is certified (--promise accepted); the thresholds of more tiers, and
    early abstention, are certified together (--promise answered). Every look at the same outcomes, one that certified
    nothing included, gets a smaller part of delta: trying again cannot break the promise. Fresh labels begin anew.
    A certificate holds for the engines that gave the answers; `collect` notes them beside the table.

    --slices language makes the same promise, whichever it is, in each language by itself, at a share of delta each;
    one that cannot be certified gets no cheap answers, and nothing is promised of it.

    --prefix 16 adds what the stream mode `prefix` needs (docs/guides/streaming.md): a verdict on the first 16 tokens,
    with the same epsilon and a delta of its own. Of --prefix 8,16,32 the first that certifies is taken, each at a
    third of that delta. Where none does, the version is made without.

    --spill-epsilon 0.3 adds what `policy.spill` needs (docs/guides/tiers.md): from which score on at most 30 % of the
    rejected answers are wrong. It takes a quarter of delta, the version's own promise the rest. Where none certifies,
    the version is made without.

    Example: serve-graph certify --candidate candidate --outcomes outcomes.parquet --max-drop 0.05 --alias stable
    """
    from dataclasses import replace

    from router_models.data.features import Encoder
    from router_models.data.outcomes import read_outcomes
    from router_models.pipeline import certify_next, certify_prefix_next, certify_spill_next, publish
    from router_models.training.candidate import load_candidate
    from router_models.training.certify_overload import check_overload, shared
    from router_models.training.certify_prefix import check_prefix
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError
    from serve_graph.policy.bindings import collected_binds, tier_binds
    from serve_graph.policy.serving_version import settings_of

    graph = load_config(config)
    need_vllm(graph)  # a certificate binds itself to the engine's version
    check_out(graph.state_folder, folder=True)
    progress = progress_to_stderr()
    loaded, settings = load_candidate(candidate, settings_of(graph), Encoder())
    settings = replace(
        settings,
        epsilon=settings.epsilon if epsilon is None else epsilon,
        delta=settings.delta if delta is None else delta,
        abstain_share=settings.abstain_share if abstain_share is None else abstain_share,
        max_drop=max_drop,
        slicer=slices,
        promise=promise.value if promise else settings.promise,
    )
    spill_delta = 0.0
    if spill_epsilon is not None:
        check_overload(settings, spill_epsilon)
        settings, spill_delta = shared(settings)
    noted = collected_binds(outcomes)
    if noted is None and not engines_as_configured:
        raise ServeGraphError(
            f"{outcomes}: nothing notes which engines gave these answers, and a certificate binds itself to them. "
            f"Collect with `serve-graph collect`, which notes them; or, where you know that it was the engines of "
            f"{config}, say so: --engines-as-configured"
        )
    if noted is None:
        progress(f"bound to the engines of {config} on your word: nothing notes which engines gave these answers")
    if noted is not None and noted != tier_binds(graph):
        changed = sorted(k for k in {*noted, *tier_binds(graph)} if noted.get(k) != tier_binds(graph).get(k))
        raise ServeGraphError(f"{outcomes} was collected from other engines than {config} describes: {changed} differ")
    table = read_outcomes(outcomes, settings.tiers)
    lengths = _lengths(prefix)
    if lengths:
        check_prefix(table, settings, lengths)
    progress("certifying")
    certified, settings = certify_next(
        loaded, table, settings, datetime.now(UTC), graph.state_folder / "embeddings", graph.registry_uri,
        graph.state_folder / "artifacts", progress,
    )  # fmt: skip
    without: str | None = None
    if lengths:
        certified, without = certify_prefix_next(
            certified, table, settings, lengths, datetime.now(UTC), graph.state_folder / "embeddings",
            graph.registry_uri, graph.state_folder / "artifacts", progress,
        )  # fmt: skip
    no_spill: str | None = None
    if spill_epsilon is not None:
        certified, no_spill = certify_spill_next(
            certified, table, settings, spill_epsilon, spill_delta, datetime.now(UTC),
            graph.state_folder / "embeddings", progress,
        )  # fmt: skip
    progress("writing the report and registering")
    made = publish(
        loaded, certified, settings, graph.state_folder / "candidates", graph.registry_uri,
        graph.policy.model_name, alias=alias, artifacts_folder=graph.state_folder / "artifacts",
    )  # fmt: skip
    certificate = certified.version.certificate
    assert certificate is not None
    prefixes, overload_points = certified.version.prefix_certificates, certified.version.overload_certificates
    if as_json:
        shown: dict[str, Any] = {"version": made.name, "aliases": made.aliases}
        shown["certificate"] = certificate.to_json()
        begun = {tier: proof.to_json() for tier, proof in prefixes.items()}
        spilled = {tier: proof.to_json() for tier, proof in overload_points.items()}
        shown |= {"prefixes": begun, "no_prefix": without} if lengths else {}
        say_json(shown | ({"spills": spilled, "no_spill": no_spill} if spill_epsilon is not None else {}))
        return
    say(f"{made.name}: {certificate.summary()}")
    for tier, proof in prefixes.items():
        say(f"streams of {tier} by their beginning: {proof.summary()}")
    if without is not None:
        say(f"without a prefix verdict: {without}")
    for tier, proof in overload_points.items():
        say(f"spilled from {tier} while the last tier is full: {proof.summary()}")
    if no_spill is not None:
        say(f"without a spill: {no_spill}")
    say(f"review it: serve-graph versions show {made.number}")


def _lengths(asked: str | None) -> list[int]:
    from serve_graph.errors import ServeGraphError

    if asked is None:
        return []
    try:
        return [int(part) for part in asked.split(",")]
    except ValueError:
        raise ServeGraphError(f"--prefix takes numbers of tokens, such as 16 or 8,16,32; got {asked!r}") from None
