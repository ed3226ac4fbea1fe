"""Replay a workload under given circumstances over several seeds, beside always-weak and always-strong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.routers import LengthRouter
from router_models.planning.simulation.arrivals import Arrivals, draw_rows
from router_models.planning.simulation.itineraries import (
    Itinerary,
    always_itineraries,
    ensemble_itineraries,
    mixed_itineraries,
    policy_itineraries,
)
from router_models.planning.simulation.queues import (
    NO_OVERHEAD,
    Overhead,
    PriceSchedule,
    ReplayTier,
    Simulated,
    simulate,
)
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts, calls_of
from router_models.types import FloatArray, OperatingPoint
from router_models.versions.policy import Policy


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Hold how requests arrive and what serves them.

    Parameters
    ----------
    arrivals : Arrivals
        The stream of requests.
    requests : int
        How many.
    slots : mapping of str to int
        Calls that a tier carries at the same time.
    price_changes : mapping of str to sequence of tuple
        By tier, (second, price) pairs.
    queue_limit : int, optional
        The length of a queue at which requests are refused; None = no limit.
    overhead : Overhead
        The cost of decisions and verdicts.
    """

    arrivals: Arrivals
    requests: int
    slots: Mapping[str, int]
    price_changes: Mapping[str, Sequence[tuple[float, Price]]] = field(default_factory=dict)
    queue_limit: int | None = None
    overhead: Overhead = NO_OVERHEAD


def replay(
    table: OutcomeTable,
    terms: Mapping[str, TierCosts],
    policies: Mapping[str, Sequence[Itinerary]],
    given: Circumstances,
    seeds: Sequence[int],
    *,
    keep_trace: bool = False,
) -> dict[str, list[Simulated]]:
    """Replay every policy once per seed, all on the same arrivals and prompts.

    Parameters
    ----------
    table : OutcomeTable
        Recorded outcomes of the tiers.
    terms : mapping of str to TierCosts
        Prices and assumptions by tier.
    policies : mapping of str to sequence of Itinerary
        Policies by name.
    given : Circumstances
        How requests arrive and what serves them.
    seeds : sequence of int
        One run each.
    keep_trace : bool
        Whether to record every event of the first seed's runs.

    Returns
    -------
    dict of str to list of Simulated
        Runs by policy.

    Raises
    ------
    DataError
        Where a tier's tokens or latencies are neither recorded nor assumed.
    """
    tiers = {tier: replay_tier(table, tier, terms[tier], given, seeds[0]) for tier in terms}
    runs: dict[str, list[Simulated]] = {name: [] for name in policies}
    for seed in seeds:
        times = given.arrivals.times(given.requests, seed)
        rows = draw_rows(given.requests, len(table), seed)
        for name, ways in policies.items():
            keep = keep_trace and seed == seeds[0]
            runs[name].append(simulate(tiers, ways, times, rows, given.overhead, keep_trace=keep))
    return runs


def replay_tier(table: OutcomeTable, tier: str, terms: TierCosts, given: Circumstances, seed: int) -> ReplayTier:
    """Return one tier of a table, ready to be replayed."""
    calls = calls_of(table, tier, terms, seed)
    if calls.seconds is None:
        raise DataError(f"no latencies of tier {tier!r} are recorded: assume its p50 and p95 seconds")
    schedule = PriceSchedule(((0.0, terms.price), *given.price_changes.get(tier, ())))
    return ReplayTier(
        table.grade(tier),
        calls.usage,
        calls.seconds,
        given.slots[tier],
        schedule,
        given.queue_limit,
        terms.batch_multiplier,
    )


def by_thresholds(
    table: OutcomeTable,
    weak: str,
    strong: str,
    *,
    route: tuple[str, float] | None = None,
    accept: tuple[str, float] | None = None,
) -> tuple[Itinerary, ...]:
    """Return the itineraries of a two-tier policy over named scores.

    Only `route` is pre-routing, only `accept` a cascade, both a layered policy.

    Parameters
    ----------
    table : OutcomeTable
        n prompts.
    weak, strong : str
        The two tiers.
    route, accept : tuple of str and float, optional
        A score (see `score_named`) and its threshold, before and after generation.

    Returns
    -------
    tuple of Itinerary
        n itineraries.

    Raises
    ------
    DataError
        Where both are None, or a score is not recorded.
    """
    if route is None and accept is None:
        raise DataError("a policy needs a routing score, an acceptance score, or both")
    before = score_named(table, weak, route[0]) if route else np.zeros(len(table))
    after = score_named(table, weak, accept[0]) if accept else None
    point = OperatingPoint(route[1] if route else -np.inf, accept[1] if accept else -np.inf)
    policy = Policy((weak, strong), {weak: point})
    return policy_itineraries(policy, {weak: before}, {} if after is None else {weak: after})


def by_agreement(
    table: OutcomeTable, weak: str, strong: str, samples: int, accept: tuple[str, float]
) -> tuple[Itinerary, ...]:
    """Return the itineraries of an ensemble of weak answers, kept where a recorded agreement reaches the threshold."""
    return ensemble_itineraries((weak,) * samples, score_named(table, weak, accept[0]), accept[1], strong)


def by_share(
    table: OutcomeTable, weak: str, strong: str, share: float, *, rule: str, seed: int = 0
) -> tuple[Itinerary, ...]:
    """Return itineraries that send a share to strong: the longest prompts (`rule` 'length') or any ('random')."""
    if not 0 <= share <= 1:
        raise DataError(f"the strong tier's share must lie in [0, 1], found {share}")
    n = len(table)
    first = -score_named(table, weak, "length") if rule == "length" else np.random.default_rng(seed).random(n)
    up = np.zeros(n, dtype=np.bool_)
    up[np.argsort(-first, kind="stable")[: round(share * n)]] = True
    return mixed_itineraries(up, weak, strong)


def beside(policy: Sequence[Itinerary], name: str, weak: str, strong: str) -> dict[str, Sequence[Itinerary]]:
    """Return the policy with the two that it must be compared with."""
    n = len(policy)
    return {
        name: policy,
        f"always {weak}": always_itineraries(weak, n),
        f"always {strong}": always_itineraries(strong, n),
    }


def score_named(table: OutcomeTable, tier: str, name: str) -> FloatArray:
    """Return 'length', or a signal recorded with a tier's answers; DataError names the signals there are."""
    if name == "length":
        return LengthRouter().predict(table.prompts)
    signals = table.answers_of(tier).signals
    if name not in signals:
        raise DataError(f"score {name!r} is not recorded for {tier!r}; there are: length, {', '.join(signals)}")
    return signals[name]
