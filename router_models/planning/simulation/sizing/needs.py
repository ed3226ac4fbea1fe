"""Work out what a number of requests a day needs: by Little's law at the busiest, and hour by hour over a day."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from router_models.planning.simulation.itineraries import Itinerary, Step
from router_models.planning.simulation.replicas.scaling import ReplicaScaling
from router_models.planning.simulation.replicas.service_time import token_counts
from router_models.planning.simulation.replicas.tier_queue import ReplicaTier
from router_models.planning.simulation.replicas.traffic import DAY_S
from router_models.planning.simulation.sizing.inputs import SizedTier, SizingFile
from router_models.types import Action, FloatArray

DRAWN_PROMPTS = 20_000
"""Prompts drawn, of which requests are."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class Drawn:
    """Hold the prompts that requests are drawn of.

    Parameters
    ----------
    itineraries : tuple of Itinerary
        The way of each.
    seconds : dict of str to array of float
        By tier: seconds of a call with each.
    calls : dict of str to float
        By tier: calls a request, on average.
    """

    itineraries: tuple[Itinerary, ...]
    seconds: dict[str, FloatArray]
    calls: dict[str, float]

    def mean_s(self, tier: str) -> float:
        """Return seconds of a tier for a request, on average: calls times seconds of a call."""
        called = np.array([any(step.tiers[0] == tier for step in way.steps) for way in self.itineraries])
        return float((self.seconds[tier] * called).mean())


@dataclass(frozen=True, slots=True)
class TierNeeds:
    """Hold what one tier needs.

    Parameters
    ----------
    name : str
        The tier.
    calls : float
        Calls a request.
    call_s : float
        Seconds of a call.
    at_once : float
        Calls at once, on average, in a burst at the busiest time of the day.
    replicas : int, optional
        Replicas for these, with a part of the places free; None: somebody else's machines.
    usd_fixed, usd_scaled : float
        Dollars a day with so many replicas all day, and with as many as each hour needs; of a hosted tier its tokens.
    """

    name: str
    calls: float
    call_s: float
    at_once: float
    replicas: int | None
    usd_fixed: float
    usd_scaled: float


@dataclass(frozen=True, slots=True)
class GatewayNeeds:
    """Hold cores at the busiest of ingress, router, verifier and everything beside, and dollars a day for all of them.

    Parameters
    ----------
    ingress, router, verifier, beside : int
        Cores; a replica of the first three uses one at most.
    usd : float
        Dollars a day.
    """

    ingress: int
    router: int
    verifier: int
    beside: int
    usd: float


@dataclass(frozen=True, slots=True)
class StoreNeeds:
    """Hold what the decision store has to take.

    Parameters
    ----------
    rows_per_s : float
        At the busiest.
    gb_per_day, gb_kept : float
        Gigabytes of a day, and of all that is kept.
    sqlite_cores, postgresql_cores : float
        Cores of either database at the busiest.
    usd : float
        Dollars a day for what is kept.
    """

    rows_per_s: float
    gb_per_day: float
    gb_kept: float
    sqlite_cores: float
    postgresql_cores: float
    usd: float


@dataclass(frozen=True, slots=True)
class Needs:
    """Hold what a number of requests a day needs.

    Parameters
    ----------
    per_day, mean_per_s, busiest_per_s : float
        Requests a day; a second on average; and in a burst at the busiest time.
    tiers : tuple of TierNeeds
        Cheapest first.
    gateway : GatewayNeeds
        Ingress, router, verifier.
    store : StoreNeeds
        The decision store.
    """

    per_day: float
    mean_per_s: float
    busiest_per_s: float
    tiers: tuple[TierNeeds, ...]
    gateway: GatewayNeeds
    store: StoreNeeds

    @property
    def usd_fixed(self) -> float:
        """Return dollars a day with as many replicas all day as the busiest moment needs."""
        return sum(tier.usd_fixed for tier in self.tiers) + self.gateway.usd + self.store.usd

    @property
    def usd_scaled(self) -> float:
        """Return dollars a day with as many replicas as each hour needs."""
        return sum(tier.usd_scaled for tier in self.tiers) + self.gateway.usd + self.store.usd


def draw_prompts(given: SizingFile, seed: int = 0, n: int = DRAWN_PROMPTS) -> Drawn:
    """Draw prompts with their ways down the ladder and their seconds at each tier."""
    rng = np.random.default_rng(seed)
    names = [tier.name for tier in given.tiers]
    first = rng.choice(len(names), n, p=[tier.first for tier in given.tiers])
    goes_on = [rng.random(n) < tier.sent_on for tier in given.tiers]
    ways, calls = [], dict.fromkeys(names, 0.0)
    for i in range(n):
        steps, at = [], int(first[i])
        while True:
            steps.append(Step((names[at],), given.tiers[at].judged))
            calls[names[at]] += 1 / n
            if not goes_on[at][i]:
                break
            at += 1
        action = Action.ESCALATED if len(steps) > 1 else Action.ACCEPTED if steps[0].judged else Action.ROUTED
        ways.append(Itinerary(tuple(steps), names[at], action, routed=True))
    seconds = {
        tier.name: tier.engine.speed().seconds(
            np.full(n, tier.tokens.prompt), token_counts(tier.tokens.answer, tier.tokens.spread, n, seed + 1 + i)
        )
        for i, tier in enumerate(given.tiers)
    }
    return Drawn(tuple(ways), seconds, calls)


def needs_of(given: SizingFile, drawn: Drawn, per_day: float) -> Needs:
    """Work out what a number of requests a day needs.

    Parameters
    ----------
    given : SizingFile
        Traffic, tiers, and what was measured.
    drawn : Drawn
        From `draw_prompts`.
    per_day : float
        Requests a day.

    Returns
    -------
    Needs
    """
    traffic = given.traffic.at(per_day)
    busiest = traffic.busiest_per_s
    hours = traffic.per_s * (1 - given.traffic.daily_swing * np.cos(2 * np.pi * (np.arange(24) + 0.5) / 24))
    gateway, store = given.gateway, given.store
    judged = sum(drawn.calls[tier.name] for tier in given.tiers if tier.judged)

    def cores(ms: float) -> int:
        return math.ceil(busiest * ms / 1000 / gateway.busy_share) if ms else 0

    ingress, router = cores(gateway.ingress_cpu_ms), cores(gateway.router_cpu_ms)
    verifier, beside = cores(gateway.verifier_cpu_ms * judged), cores(gateway.beside_cpu_ms)
    kept = per_day * store.bytes_per_record / GB
    return Needs(
        per_day=per_day,
        mean_per_s=traffic.per_s,
        busiest_per_s=busiest,
        tiers=tuple(_tier(given, tier, drawn, busiest, hours) for tier in given.tiers),
        gateway=GatewayNeeds(
            ingress, router, verifier, beside, (ingress + router + verifier + beside) * 24 * gateway.usd_per_core_hour
        ),
        store=StoreNeeds(
            rows_per_s=busiest,
            gb_per_day=kept,
            gb_kept=kept * store.keep_days,
            sqlite_cores=busiest * store.sqlite_cpu_ms / 1000,
            postgresql_cores=busiest * store.postgresql_cpu_ms / 1000,
            usd=kept * store.keep_days * store.usd_per_gb_month / 30,
        ),
    )


def simulated_tiers(given: SizingFile, drawn: Drawn, needs: Needs, per_s: float) -> dict[str, ReplicaTier]:
    """Return the tiers for the simulator: as many replicas as a rate needs, scaling up to what the busiest needs.

    Parameters
    ----------
    given, drawn : SizingFile, Drawn
        What the needs were worked out from.
    needs : Needs
        Their replicas at the busiest are the most that there may be.
    per_s : float
        Requests a second when the simulation begins.

    Returns
    -------
    dict of str to ReplicaTier
        A hosted tier has places for everybody.
    """
    found = {}
    for tier, needed in zip(given.tiers, needs.tiers, strict=True):
        seconds, own = drawn.seconds[tier.name], tier.replicas
        if own is None or needed.replicas is None:
            found[tier.name] = ReplicaTier(seconds, math.ceil(4 * needed.at_once) + 16)
            continue
        most = max(needed.replicas, own.min_replicas)
        scaling = ReplicaScaling(
            own.min_replicas, most, own.target_share * own.places, own.start_s, own.upscale_delay_s,
            own.downscale_delay_s, own.look_back_s, own.anticipate,
        )  # fmt: skip
        begin = math.ceil(per_s * drawn.mean_s(tier.name) / scaling.target_ongoing_requests)
        found[tier.name] = ReplicaTier(seconds, own.places, min(most, max(own.min_replicas, begin)), scaling)
    return found


def _tier(given: SizingFile, tier: SizedTier, drawn: Drawn, busiest: float, hours: FloatArray) -> TierNeeds:
    calls, each_s = drawn.calls[tier.name], drawn.mean_s(tier.name)
    call_s = each_s / calls if calls else 0.0
    at_once = busiest * each_s
    if tier.hosted is not None:
        tokens = tier.tokens
        cached = tokens.prompt * tier.engine.prefix_cached
        cached_usd = tier.hosted.cached_input_usd_per_mtok
        one = (
            tokens.prompt - cached
        ) * tier.hosted.input_usd_per_mtok + tokens.answer * tier.hosted.output_usd_per_mtok
        one += cached * (tier.hosted.input_usd_per_mtok if cached_usd is None else cached_usd)
        usd = float(hours.mean()) * DAY_S * calls * one / 1e6
        return TierNeeds(tier.name, calls, call_s, at_once, None, usd, usd)
    own = tier.replicas
    assert own is not None
    room = given.busy_share * own.places
    replicas = max(own.min_replicas, math.ceil(at_once / room))
    hourly = np.maximum(own.min_replicas, np.ceil(hours * each_s / (own.target_share * own.places)))
    return TierNeeds(
        tier.name,
        calls,
        call_s,
        at_once,
        replicas,
        replicas * 24 * own.usd_per_hour,
        float(hourly.sum()) * own.usd_per_hour,
    )
