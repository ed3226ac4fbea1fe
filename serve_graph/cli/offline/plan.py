"""`serve-graph plan`: whether and how to route between two tiers, as a report to share."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_graph.cli.offline.tier_options import (
    EMBEDDINGS_CACHE,
    CacheOption,
    CharsOption,
    EmbeddingsOption,
    GraphOption,
    KindWeakOption,
    LatencyStrongOption,
    LatencyWeakOption,
    PriceStrongOption,
    PriceWeakOption,
    ScaleOption,
    SeedOption,
    SpareCertOption,
    TermsOption,
    TierFlags,
    TokensStrongOption,
    TokensWeakOption,
    check_embeddings,
    check_tiers_differ,
    drawn_only,
    embedded,
    note_comparison,
    pair,
    tier_costs_of,
    weak_kind,
    without_cert,
)
from serve_graph.cli.offline.train import GroupByOption
from serve_graph.cli.output import JsonOption, check_out, progress_to_stderr, say, say_json

if TYPE_CHECKING:
    from router_models.data.outcomes import OutcomeTable
    from router_models.planning.capacity import BusiestHour, PolicyLoad
    from router_models.planning.workload import Workload
    from router_models.pricing.tier_costs import TierCosts


class PairPromises(StrEnum):
    """Which risk a plan for two tiers bounds; thresholds of `answered` are for `certify` to find."""

    HARM = "harm"
    ACCEPTED = "accepted"


def plan(
    weak: Annotated[str, typer.Option(help="The cheaper tier's name.")],
    strong: Annotated[str, typer.Option(help="The better tier's name.")],
    volume: Annotated[float, typer.Option(help="Requests per day.", min=0)],
    outcomes: Annotated[
        Path | None, typer.Option("--outcomes", "-o", help="Recorded outcomes: .parquet, .csv or .jsonl.")
    ] = None,
    traffic: Annotated[
        Path | None, typer.Option(help="A traffic mix (YAML), instead of outcomes; see the docs.")
    ] = None,
    epsilon: Annotated[
        float, typer.Option(help="Largest share of accepted cheap answers that may be wrong: see --promise.")
    ] = 0.10,
    promise: Annotated[
        PairPromises,
        typer.Option(help="Which wrong answers count: harm, where the better tier's is right; accepted, all."),
    ] = PairPromises.HARM,
    delta: Annotated[float, typer.Option(help="1 − confidence.")] = 0.10,
    max_drop: Annotated[float | None, typer.Option(help="Largest acceptable loss of accuracy, e.g. 0.02.")] = None,
    acceptable: Annotated[float | None, typer.Option(help="Least grade that counts as correct, 0 to 1.")] = None,
    price_weak: PriceWeakOption = None,
    price_strong: PriceStrongOption = None,
    tokens_weak: TokensWeakOption = None,
    tokens_strong: TokensStrongOption = None,
    latency_weak: LatencyWeakOption = None,
    latency_strong: LatencyStrongOption = None,
    chars_per_token: CharsOption = None,
    terms: TermsOption = None,
    router_ms: Annotated[float, typer.Option(help="Latency of one routing decision, in ms.", min=0)] = 5.0,
    verifier_ms: Annotated[float, typer.Option(help="Latency of one verdict, in ms.", min=0)] = 2.0,
    cpu_usd_per_hour: Annotated[float, typer.Option(help="What router and verifier run on costs.", min=0)] = 0.10,
    samples: Annotated[
        int | None, typer.Option(help="Answers per attempt behind a recorded signal `agreement`.", min=2)
    ] = None,
    min_volume: Annotated[
        float, typer.Option(help="Requests per day below which routing is not recommended.", min=0)
    ] = 10_000,
    label_usd: Annotated[float | None, typer.Option(help="Cost of one graded prompt, in US dollars.", min=0)] = None,
    capacity: Annotated[
        float | None,
        typer.Option(
            help="Requests a second at the busiest: what each tier carries then, with --config whether it can."
        ),
    ] = None,
    version: Annotated[
        Path | None, typer.Option(help="With --capacity: also what each tier carries under this version (its folder).")
    ] = None,
    router: Annotated[str | None, typer.Option(help="Router families to try, comma-separated.")] = None,
    scale: ScaleOption = None,
    seed: SeedOption = 0,
    group_by: GroupByOption = None,
    spare_cert: SpareCertOption = False,
    kind_weak: KindWeakOption = None,
    config: GraphOption = None,
    embeddings: EmbeddingsOption = None,
    cache: CacheOption = EMBEDDINGS_CACHE,
    machine: Annotated[str | None, typer.Option(help="Name of this machine in the report's header.")] = None,
    title: Annotated[str | None, typer.Option(help="The report's title.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the report to; default: print it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Report whether routing between two tiers pays off, how to do it, and what would change the answer.

    Example: serve-graph plan --outcomes outcomes.parquet --weak cheap --strong frontier --volume 50000
    --price-weak 0.1,0.2 --price-strong 1,3,0.5 --epsilon 0.1 --out plan.md

    Only signals that a served version has of the weak tier count (docs/reference/signals.md); of others recorded in
    the outcomes the report says what they would need. --kind-weak or --config says what kind of tier it is.

    What is chosen by a plan was chosen on its labels: `certify` counts it as a look at those that it reads, unless
    --spare-cert left them out.

    --capacity 40 --config graph.yaml: requests at once and replicas of each tier at 40 requests a second, beside
    `scaling.max_replicas` and `max_ongoing_requests`, or `admission.max_in_flight` of a hosted tier.

    --version FOLDER adds what they carry under a version that is there, whatever the plan recommends: by outcomes of
    prompts that it was not trained on. --embeddings must be its own encoder's then: some are made again.

    With a traffic mix, before anything is recorded: serve-graph plan --traffic mix.yaml --weak cheap --strong frontier
    --volume 50000
    """
    from router_models.data.groups import grouped_by
    from router_models.data.json_values import to_json_values
    from router_models.data.outcomes import read_outcomes
    from router_models.planning.page import Context, plan_page
    from router_models.planning.patterns import Extra, RiskBudget
    from router_models.planning.plan import Demand
    from router_models.planning.plan import plan as work_out
    from router_models.planning.workload import workload_of
    from router_models.reports.coverage import foreseen_conditions, foreseen_section

    check_tiers_differ(weak, strong)
    if (outcomes is None) == (traffic is None):
        raise typer.BadParameter("give either --outcomes FILE or --traffic FILE")
    if version is not None and (capacity is None or outcomes is None):
        raise typer.BadParameter("--version is about --capacity, and needs --outcomes")
    check_out(out)
    _check_thresholds_decide(config)
    progress = progress_to_stderr()
    now = datetime.now(UTC)
    if outcomes is not None:
        flags = (
            TierFlags(weak, "weak", price_weak, tokens_weak, latency_weak),
            TierFlags(strong, "strong", price_strong, tokens_strong, latency_strong),
        )
        tier_costs = {flag.tier: tier_costs_of(flag, chars_per_token, terms) for flag in flags}
        families = tuple(router.split(",")) if router else None
        table = read_outcomes(outcomes, (weak, strong), pair(scale, "--scale"), [group_by] if group_by else [])
        table = drawn_only(embedded(table, embeddings, cache))
        if spare_cert:
            table = without_cert(table, (weak, strong), seed, group_by)
        progress(f"scoring {len(table)} prompts out of fold")
        work = workload_of(
            table, weak, strong, tier_costs, name=outcomes.name, acceptable=acceptable, routers=families, seed=seed,
            group_by=group_by, kind=weak_kind(weak, kind_weak, config),
        )  # fmt: skip
    else:
        assert traffic is not None
        tier_costs, work = _described(traffic, weak, strong, seed)
    conditions = () if outcomes is None else foreseen_conditions(grouped_by(table.only(weak, strong), group_by))
    rate = cpu_usd_per_hour / 3600
    extra = Extra(rate * router_ms / 1000, rate * verifier_ms / 1000, router_ms / 1000, verifier_ms / 1000)
    progress("comparing the patterns")
    if outcomes is not None:
        note_comparison(table, group_by, cache, "plan", [router or "auto"])
    found = work_out(
        work,
        RiskBudget(epsilon, delta, max_drop, promise is PairPromises.HARM),
        Demand(volume, min_volume, label_usd),
        extra,
        now,
        samples=samples,
        seed=seed,
        busiest=None if capacity is None else _busiest(capacity, config, (weak, strong)),
    )
    if version is not None and found.busiest is not None:
        carried = _carried(version, table, tier_costs, found.busiest, seed, embeddings or cache)
        found = replace(found, loads=(*found.loads, carried))
    source = (outcomes or traffic or Path()).name
    context = Context(
        title=title or f"Plan: {weak} → {strong} on {source}",
        source=f"`{source}`",
        made_at=f"{now:%Y-%m-%d}",
        command=shlex.join(["serve-graph", *sys.argv[1:]]),
        machine=machine or machine_name(),
        terms=tier_costs,
        conditions=foreseen_section(conditions) if conditions else "",
    )
    if as_json:
        say_json({**to_json_values(found), "conditions": to_json_values(conditions)})
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(plan_page(found, context))
        progress(f"written to {out}")
    elif not as_json:
        say(plan_page(found, context))


def _check_thresholds_decide(config: Path | None) -> None:
    """Raise ServeGraphError where a share of requests decides, and not the thresholds that a plan is about."""
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError

    if config is None or (share := load_config(config).policy.share) is None:
        return
    raise ServeGraphError(
        f"policy.share {share:g} of {config} decides who answers, not the thresholds that a plan compares: take it "
        f"out first. `serve-graph versions calibrate VERSION --share {share:g}` says what a share is worth, "
        "`serve-graph capacity FILE --config` what it carries"
    )


def _busiest(per_s: float, config: Path | None, tiers: tuple[str, ...]) -> BusiestHour:
    from router_models.planning.capacity import BusiestHour
    from serve_graph.config.graph import load_config
    from serve_graph.policy.rollout.capacity import tier_places

    if config is None:
        return BusiestHour(per_s, {})
    graph = load_config(config)
    if unknown := [tier for tier in tiers if tier not in graph.tier_names]:
        has = ", ".join(graph.tier_names)
        raise typer.BadParameter(f"--config {config} has no tier {unknown[0]!r} (it has {has}): --capacity needs it")
    share = graph.rollouts.capacity_share
    return BusiestHour(per_s, tier_places(graph), 1.0 if share is None else share)


def _carried(
    folder: Path,
    table: OutcomeTable,
    terms: dict[str, TierCosts],
    busiest: BusiestHour,
    seed: int,
    source: Path,
) -> PolicyLoad:
    """What tiers carry under a version. `source`: the file of the embeddings, or the folder that keeps them."""
    from router_models.data.embeddings.encoder import Encoder
    from router_models.planning.capacity import version_load
    from router_models.planning.simulation.itineraries import version_itineraries
    from router_models.pricing.tier_costs import calls_of
    from router_models.versions.router_version import RouterVersion

    version = RouterVersion.load(folder)
    if source.is_file():
        if version.reads_embeddings:
            check_embeddings(table, source, version.encoder, f"version {folder.name}")
    elif version.encoder.digest != Encoder().digest:
        table = embedded(table, None, source, version.encoder)
    if unknown := sorted(set(version.policy.tiers) - set(terms)):
        raise typer.BadParameter(f"the version also serves {', '.join(unknown)}: a plan is for two tiers")
    rows = table.only(*terms)
    seconds = {tier: calls_of(rows, tier, terms[tier], seed).seconds for tier in terms}
    ways = version_itineraries(version, rows)
    return version_load(f"version {folder.name}", ways, seconds, busiest, seed, rows.groups)


def _described(path: Path, weak: str, strong: str, seed: int) -> tuple[dict[str, TierCosts], Workload]:
    from router_models.planning.inputs import read_traffic_mix
    from router_models.planning.traffic_mix import workload_of_mix

    mix = read_traffic_mix(path)
    terms = {tier: mix.terms_of(tier, path) for tier in (weak, strong)}
    work = workload_of_mix(
        mix.slices,
        weak,
        strong,
        terms,
        router_auc=mix.signals.router_auc,
        verifier_auc=mix.signals.verifier_auc,
        name=path.name,
        seed=seed,
    )
    return terms, work


def machine_name() -> str:
    """Return this machine's cores, processor and system, for a page's header."""
    import os
    import platform

    return f"{os.cpu_count()}-core {platform.machine()}, {platform.system()}"
