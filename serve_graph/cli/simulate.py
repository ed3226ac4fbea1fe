"""`serve-graph simulate`: replay recorded outcomes through a policy, with queues, slots and changing prices."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer

from router_models.arrivals import Arrivals, draw_rows
from router_models.economics import TierTerms, calls_of
from router_models.errors import DataError
from router_models.itineraries import (
    Itinerary,
    always_itineraries,
    ensemble_itineraries,
    mixed_itineraries,
    policy_itineraries,
    version_itineraries,
)
from router_models.outcomes import OutcomeTable, read_outcomes
from router_models.policy import Policy
from router_models.pricing import Price
from router_models.routers import LengthRouter
from router_models.simulation import Overhead, PriceSchedule, ReplayTier, Simulated
from router_models.simulation import simulate as replay
from router_models.types import FloatArray, OperatingPoint
from router_models.version import RouterVersion
from serve_graph.cli.offline import (
    EMBEDDINGS_CACHE,
    CharsOption,
    JsonOption,
    LatencyStrongOption,
    LatencyWeakOption,
    OutcomesOption,
    PriceStrongOption,
    PriceWeakOption,
    ScaleOption,
    SeedOption,
    StrongOption,
    TermsOption,
    TokensStrongOption,
    TokensWeakOption,
    WeakOption,
    clear_errors,
    embedded,
    numbers,
    pair,
    terms_of,
)
from serve_graph.cli.replay_text import replay_text

T = TypeVar("T")


class Pattern(StrEnum):
    """How a simulated policy uses its tiers."""

    VERSION = "version"
    PRE_ROUTE = "pre-route"
    CASCADE = "cascade"
    ENSEMBLE = "ensemble"
    RANDOM = "random"
    LENGTH = "length"


def simulate(
    outcomes: OutcomesOption,
    weak: WeakOption,
    strong: StrongOption,
    rate: Annotated[float, typer.Option("--rate", help="Requests per second.")],
    pattern: Annotated[Pattern, typer.Option("--pattern", help="What the policy does.")] = Pattern.CASCADE,
    version: Annotated[Path | None, typer.Option("--version", help="A sealed router version's folder.")] = None,
    score: Annotated[
        str | None, typer.Option("--score", help="Signal of the weak tier's answers: accept at ≥ --accept-at.")
    ] = None,
    accept_at: Annotated[float | None, typer.Option("--accept-at", help="Acceptance threshold.")] = None,
    route_score: Annotated[
        str, typer.Option("--route-score", help="'length' or a signal known before generation.")
    ] = "length",
    route_at: Annotated[float | None, typer.Option("--route-at", help="Try the weak tier at ≥ this.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="Weak answers at once (ensemble).")] = 3,
    strong_share: Annotated[
        float | None, typer.Option("--strong-share", help="Share sent to the strong tier (random, length).")
    ] = None,
    requests: Annotated[int, typer.Option("--requests", help="How many requests to replay.")] = 2000,
    burst: Annotated[str | None, typer.Option("--burst", help="FACTOR,EVERY,LENGTH: e.g. 5,600,60 seconds.")] = None,
    slots_weak: Annotated[int, typer.Option("--slots-weak", help="Calls the weak tier serves at once.")] = 16,
    slots_strong: Annotated[int, typer.Option("--slots-strong", help="Calls the strong tier serves at once.")] = 16,
    queue_limit: Annotated[
        int | None, typer.Option("--queue-limit", help="Refuse where a tier's queue is this long.")
    ] = None,
    price_weak: PriceWeakOption = None,
    price_strong: PriceStrongOption = None,
    price_change: Annotated[
        list[str] | None,
        typer.Option("--price-change", help="SECOND:TIER=IN,OUT[,CACHED]; may be given several times."),
    ] = None,
    tokens_weak: TokensWeakOption = None,
    tokens_strong: TokensStrongOption = None,
    latency_weak: LatencyWeakOption = None,
    latency_strong: LatencyStrongOption = None,
    chars_per_token: CharsOption = None,
    terms: TermsOption = None,
    router_ms: Annotated[float, typer.Option("--router-ms", help="Latency of one decision.")] = 5.0,
    verifier_ms: Annotated[float, typer.Option("--verifier-ms", help="Latency of one verdict.")] = 2.0,
    scale: ScaleOption = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Replays with seeds SEED, SEED+1, …", min=1)] = 5,
    seed: SeedOption = 0,
    embeddings: Annotated[Path | None, typer.Option("--embeddings", help="The prompts' embeddings (.npy).")] = None,
    cache: Annotated[Path, typer.Option("--cache", help="Where embeddings are kept.")] = EMBEDDINGS_CACHE,
    trace: Annotated[Path | None, typer.Option("--trace", help="Write the first replay's events here (JSON).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a workload through a policy and say what it costs, how good it is, and how long people wait.

    Seeded and exact: the same command prints the same figures. Always-weak and always-strong are replayed beside it.

    Example: serve-graph simulate --outcomes outcomes.parquet --weak cheap --strong frontier --rate 2
    --score lp_mean --accept-at -0.3 --price-weak 0.1,0.2 --price-strong 1,3 --burst 5,600,60
    """
    with clear_errors():
        table = read_outcomes(outcomes, scale=pair(scale, "--scale")).only(weak, strong)
        tier_terms = {
            weak: terms_of(weak, "weak", price_weak, tokens_weak, latency_weak, chars_per_token, terms),
            strong: terms_of(strong, "strong", price_strong, tokens_strong, latency_strong, chars_per_token, terms),
        }
        changes = _price_changes(price_change or [], (weak, strong))
        slots = {weak: slots_weak, strong: slots_strong}
        tiers = {
            name: _replayed(table, name, given, slots[name], queue_limit, changes.get(name, ()), seed)
            for name, given in tier_terms.items()
        }
        if version is not None:
            pattern = Pattern.VERSION
            loaded = RouterVersion.load(version)
            ways = version_itineraries(loaded, embedded(table, embeddings, cache))
        elif pattern is Pattern.VERSION:
            raise typer.BadParameter("--pattern version needs --version FOLDER")
        elif pattern in (Pattern.RANDOM, Pattern.LENGTH):
            ways = _by_share(table, weak, strong, pattern, strong_share, seed)
        elif pattern is Pattern.ENSEMBLE:
            agreement = _scores(table, weak, _needed(score, "--score (a signal of agreement)"), "--score")
            accept = _needed(accept_at, "--accept-at")
            ways = ensemble_itineraries((weak,) * samples, agreement, accept, strong)
        else:
            ways = _by_thresholds(table, weak, strong, pattern, score, accept_at, route_score, route_at)
        policies = {
            str(pattern): ways,
            f"always {weak}": always_itineraries(weak, len(table)),
            f"always {strong}": always_itineraries(strong, len(table)),
        }
        arrivals = _arrivals(rate, burst)
        overhead = Overhead(router_ms / 1000, verifier_ms / 1000)
        runs: dict[str, list[Simulated]] = {name: [] for name in policies}
        for shift in range(repeats):
            times = arrivals.times(requests, seed + shift)
            rows = draw_rows(requests, len(table), seed + shift)
            for name, plan in policies.items():
                keep = trace is not None and name == str(pattern) and shift == 0
                runs[name].append(replay(tiers, plan, times, rows, overhead, keep_trace=keep))
        if trace is not None:
            trace.write_text(json.dumps(list(map(dict, runs[str(pattern)][0].trace)), indent=0))
    setup = {
        "outcomes": outcomes.name,
        "prompts": len(table),
        "requests": requests,
        "rate_per_s": rate,
        "burst": burst,
        "slots": slots,
        "seeds": [seed + shift for shift in range(repeats)],
        "router_ms": router_ms,
        "verifier_ms": verifier_ms,
    }
    if as_json:
        figures = {name: [run.to_json() for run in found] for name, found in runs.items()}
        typer.echo(json.dumps({"setup": setup, "policies": figures}, indent=1))
        return
    typer.echo(replay_text(setup, runs))


def _replayed(
    table: OutcomeTable,
    tier: str,
    terms: TierTerms,
    slots: int,
    queue_limit: int | None,
    changes: tuple[tuple[float, Price], ...],
    seed: int,
) -> ReplayTier:
    calls = calls_of(table, tier, terms, seed)
    if calls.seconds is None:
        raise DataError(f"no latencies of tier {tier!r} are recorded: assume them (--latency-weak/-strong P50,P95)")
    schedule = PriceSchedule(((0.0, terms.price), *changes))
    return ReplayTier(table.grade(tier), calls.usage, calls.seconds, slots, schedule, queue_limit)


def _price_changes(given: list[str], tiers: tuple[str, str]) -> dict[str, tuple[tuple[float, Price], ...]]:
    found: dict[str, list[tuple[float, Price]]] = {}
    for text in given:
        when, colon, rest = text.partition(":")
        tier, equals, rates = rest.partition("=")
        if not colon or not equals or tier not in tiers:
            raise typer.BadParameter(f"--price-change takes SECOND:TIER=IN,OUT with a tier of {tiers}, found {text!r}")
        start = float(numbers(when, "--price-change SECOND", 1, 1)[0])
        found.setdefault(tier, []).append((start, Price(*map(Decimal, numbers(rates, "--price-change", 2, 3)))))
    return {tier: tuple(sorted(changes, key=lambda change: change[0])) for tier, changes in found.items()}


def _by_share(
    table: OutcomeTable, weak: str, strong: str, pattern: Pattern, share: float | None, seed: int
) -> tuple[Itinerary, ...]:
    share = _needed(share, "--strong-share")
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"--strong-share must lie in [0, 1], found {share}")
    n = len(table)
    hard = np.random.default_rng(seed).random(n) if pattern is Pattern.RANDOM else -_scores(table, weak, "length", "")
    up = np.zeros(n, dtype=np.bool_)
    up[np.argsort(-hard, kind="stable")[: round(share * n)]] = True
    return mixed_itineraries(up, weak, strong)


def _by_thresholds(
    table: OutcomeTable,
    weak: str,
    strong: str,
    pattern: Pattern,
    score: str | None,
    accept_at: float | None,
    route_score: str,
    route_at: float | None,
) -> tuple[Itinerary, ...]:
    before = _scores(table, weak, route_score, "--route-score")
    if pattern is Pattern.PRE_ROUTE:
        point = OperatingPoint(_needed(route_at, "--route-at"), -np.inf)
        return policy_itineraries(Policy((weak, strong), {weak: point}), {weak: before}, {})
    after = _scores(table, weak, _needed(score, "--score"), "--score")
    point = OperatingPoint(-np.inf if route_at is None else route_at, _needed(accept_at, "--accept-at"))
    return policy_itineraries(Policy((weak, strong), {weak: point}), {weak: before}, {weak: after})


def _scores(table: OutcomeTable, tier: str, name: str, flag: str) -> FloatArray:
    if name == "length":
        return LengthRouter().predict(table.prompts)
    signals = table.answers_of(tier).signals
    if name not in signals:
        raise DataError(f"{flag} {name!r} is not recorded for {tier!r}; there are: length, {', '.join(signals)}")
    return signals[name]


def _needed(value: T | None, flag: str) -> T:
    if value is None:
        raise typer.BadParameter(f"this pattern needs {flag}")
    return value


def _arrivals(rate: float, burst: str | None) -> Arrivals:
    if burst is None:
        return Arrivals(rate)
    factor, every, length = map(float, numbers(burst, "--burst", 3, 3))
    return Arrivals(rate, factor, every, length)
