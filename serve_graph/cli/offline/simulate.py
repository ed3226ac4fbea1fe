"""`serve-graph simulate`: replay recorded outcomes through a policy, with queues, slots and changing prices."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from serve_graph.cli.offline.tier_options import (
    EMBEDDINGS_CACHE,
    CacheOption,
    CharsOption,
    EmbeddingsOption,
    LatencyStrongOption,
    LatencyWeakOption,
    PriceStrongOption,
    PriceWeakOption,
    ScaleOption,
    SeedOption,
    TermsOption,
    TierFlags,
    TokensStrongOption,
    TokensWeakOption,
    check_tiers_differ,
    embedded,
    numbers,
    pair,
    tier_costs_of,
)
from serve_graph.cli.output import JsonOption, check_out, say, say_json

if TYPE_CHECKING:
    from router_models.planning.simulation.arrivals import Arrivals
    from router_models.pricing.prices import Price

T = TypeVar("T")


class Pattern(StrEnum):
    """How a simulated policy uses its tiers."""

    PRE_ROUTE = "pre-route"
    CASCADE = "cascade"
    ENSEMBLE = "ensemble"
    RANDOM = "random"
    LENGTH = "length"


def simulate(
    outcomes: Annotated[Path, typer.Option("--outcomes", "-o", help="Recorded outcomes: .parquet, .csv or .jsonl.")],
    weak: Annotated[str, typer.Option(help="The cheaper tier's name in the outcomes.")],
    strong: Annotated[str, typer.Option(help="The better tier's name in the outcomes.")],
    rate: Annotated[float, typer.Option(help="Requests per second.")],
    pattern: Annotated[Pattern, typer.Option(help="How the policy uses its tiers.")] = Pattern.CASCADE,
    version: Annotated[Path | None, typer.Option(help="The folder of a router version, instead of a pattern.")] = None,
    score: Annotated[
        str | None, typer.Option(help="Recorded signal of the weak answers (ensemble: their agreement).")
    ] = None,
    accept_at: Annotated[float | None, typer.Option(help="Accept a weak answer at --score ≥ this.")] = None,
    route_score: Annotated[str, typer.Option(help="'length', or a recorded signal.")] = "length",
    route_at: Annotated[float | None, typer.Option(help="Try the weak tier at --route-score ≥ this.")] = None,
    samples: Annotated[int, typer.Option(help="Weak answers per request (ensemble).")] = 3,
    strong_share: Annotated[
        float | None, typer.Option(help="Share of requests for the strong tier (random, length).")
    ] = None,
    requests: Annotated[int, typer.Option(help="Number of requests to replay.", min=1)] = 2000,
    burst: Annotated[
        str | None, typer.Option(help="FACTOR,EVERY,LENGTH of bursts, in seconds: e.g. 5,600,60.")
    ] = None,
    slots_weak: Annotated[int, typer.Option(help="Concurrent calls of the weak tier.", min=1)] = 16,
    slots_strong: Annotated[int, typer.Option(help="Concurrent calls of the strong tier.", min=1)] = 16,
    slots: Annotated[
        list[str] | None, typer.Option(help="TIER=N for the other tiers of a version with more than two.")
    ] = None,
    queue_limit: Annotated[
        int | None, typer.Option(help="Refuse requests when a tier's queue is this long.", min=0)
    ] = None,
    price_weak: PriceWeakOption = None,
    price_strong: PriceStrongOption = None,
    price_change: Annotated[
        list[str] | None, typer.Option(help="SECOND:TIER=IN,OUT[,CACHED]; may be repeated.")
    ] = None,
    tokens_weak: TokensWeakOption = None,
    tokens_strong: TokensStrongOption = None,
    latency_weak: LatencyWeakOption = None,
    latency_strong: LatencyStrongOption = None,
    chars_per_token: CharsOption = None,
    terms: TermsOption = None,
    router_ms: Annotated[float, typer.Option(help="Latency of one routing decision, in ms.", min=0)] = 5.0,
    verifier_ms: Annotated[float, typer.Option(help="Latency of one verdict, in ms.", min=0)] = 2.0,
    scale: ScaleOption = None,
    repeats: Annotated[int, typer.Option(help="Number of replays, with seeds SEED, SEED+1, …", min=1)] = 5,
    seed: SeedOption = 0,
    embeddings: EmbeddingsOption = None,
    cache: CacheOption = EMBEDDINGS_CACHE,
    trace: Annotated[Path | None, typer.Option(help="File for the events of the first replay (JSON).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a workload through a policy: cost, quality and waiting times.

    Seeded: the same command prints the same figures. Always-weak and always-strong are replayed for comparison.
    With --version, --embeddings must be that version's own encoder's: some are made again.

    Example: serve-graph simulate --outcomes outcomes.parquet --weak cheap --strong frontier --rate 2
    --score lp_mean --accept-at -0.3 --price-weak 0.1,0.2 --price-strong 1,3 --burst 5,600,60
    """
    from router_models.data.outcomes import read_outcomes
    from router_models.planning.simulation.itineraries import version_itineraries
    from router_models.planning.simulation.queues import Overhead
    from router_models.planning.simulation.scenario import (
        Circumstances,
        beside,
        by_agreement,
        by_share,
        by_thresholds,
        replay,
    )
    from router_models.versions.router_version import RouterVersion
    from serve_graph.cli.offline.replay_text import replay_text

    check_tiers_differ(weak, strong)
    check_out(trace)
    flags = (
        TierFlags(weak, "weak", price_weak, tokens_weak, latency_weak),
        TierFlags(strong, "strong", price_strong, tokens_strong, latency_strong),
    )
    tier_costs = {flag.tier: tier_costs_of(flag, chars_per_token, terms) for flag in flags}
    served = None if version is None else RouterVersion.load(version)
    between = [tier for tier in (served.policy.tiers if served else ()) if tier not in tier_costs]
    tier_costs |= {tier: tier_costs_of(TierFlags(tier, "", None), None, terms) for tier in between}
    given = Circumstances(
        _arrivals(rate, burst),
        requests,
        {weak: slots_weak, strong: slots_strong, **_slots(slots or [], between)},
        _price_changes(price_change or [], tuple(tier_costs)),
        queue_limit,
        Overhead(router_ms / 1000, verifier_ms / 1000),
    )
    table = read_outcomes(outcomes, list(tier_costs), pair(scale, "--scale")).only(*tier_costs)
    name = str(pattern)
    if served is not None and version is not None:
        name = f"version {version.name}"
        whose = f"version {version.name}" if served.reads_embeddings else None
        ways = version_itineraries(served, embedded(table, embeddings, cache, served.encoder, whose))
    elif pattern in (Pattern.RANDOM, Pattern.LENGTH):
        ways = by_share(table, weak, strong, _needed(strong_share, "--strong-share"), rule=name, seed=seed)
    else:
        route = None if route_at is None else (route_score, route_at)
        if pattern is Pattern.PRE_ROUTE:
            ways = by_thresholds(table, weak, strong, route=_needed(route, "--route-at"))
        else:
            accept = (_needed(score, "--score"), _needed(accept_at, "--accept-at"))
            if pattern is Pattern.ENSEMBLE:
                ways = by_agreement(table, weak, strong, samples, accept)
            else:
                ways = by_thresholds(table, weak, strong, route=route, accept=accept)
    seeds = [seed + shift for shift in range(repeats)]
    policies = beside(ways, name, weak, strong)
    runs = replay(table, tier_costs, policies, given, seeds, keep_trace=trace is not None)
    if trace is not None:
        trace.parent.mkdir(parents=True, exist_ok=True)
        trace.write_text(json.dumps([dict(event) for event in runs[name][0].trace], indent=0))
    setup = {
        "outcomes": outcomes.name,
        "prompts": len(table),
        "requests": requests,
        "rate_per_s": rate,
        "burst": burst,
        "slots": dict(given.slots),
        "router_ms": router_ms,
        "verifier_ms": verifier_ms,
        "seeds": seeds,
    }
    if as_json:
        say_json({"setup": setup, "policies": {n: [run.to_json() for run in found] for n, found in runs.items()}})
    else:
        say(replay_text(setup, runs))


def _slots(given: list[str], tiers: list[str]) -> dict[str, int]:
    found = {}
    for text in given:
        tier, _, count = text.rpartition("=")
        if tier not in tiers or not count.isdigit():
            raise typer.BadParameter(f"--slots takes TIER=N with a tier of {tiers}, found {text!r}")
        found[tier] = int(count)
    if missing := [tier for tier in tiers if tier not in found]:
        raise typer.BadParameter(f"the version also serves {', '.join(missing)}: give --slots TIER=N for each")
    return found


def _price_changes(given: list[str], tiers: tuple[str, ...]) -> dict[str, list[tuple[float, Price]]]:
    from decimal import Decimal

    from router_models.pricing.prices import Price

    found: dict[str, list[tuple[float, Price]]] = {}
    for text in given:
        when, colon, rest = text.partition(":")
        tier, equals, rates = rest.rpartition("=")
        if not colon or not equals or tier not in tiers:
            raise typer.BadParameter(f"--price-change takes SECOND:TIER=IN,OUT with a tier of {tiers}, found {text!r}")
        start = float(numbers(when, "--price-change SECOND", 1, 1)[0])
        found.setdefault(tier, []).append((start, Price(*map(Decimal, numbers(rates, "--price-change", 2, 3)))))
    return {tier: sorted(changes, key=lambda change: change[0]) for tier, changes in found.items()}


def _arrivals(rate: float, burst: str | None) -> Arrivals:
    from router_models.planning.simulation.arrivals import Arrivals

    if burst is None:
        return Arrivals(rate)
    factor, every, length = map(float, numbers(burst, "--burst", 3, 3))
    return Arrivals(rate, factor, every, length)


def _needed(value: T | None, flag: str) -> T:
    if value is None:
        raise typer.BadParameter(f"this pattern needs {flag}")
    return value
