"""Whether the tiers can carry a candidate at a greater share of traffic: Little's law on what live traffic takes.

A tier has on average so many requests at once as come in a second, times the seconds that each keeps its place:
L = λ · calls per request · seconds per call. What a tier has now is measured, whoever asks it; a greater share of the
candidate adds λ · Δshare · (the candidate's calls per request - the stable version's) · seconds per call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, HostedTierConfig

if TYPE_CHECKING:
    from router_models.planning.capacity import TierPlaces

FEWEST = 20
"""Requests, and pairs, of which something is concluded at least."""


@dataclass(frozen=True, slots=True)
class LiveLoad:
    """What the tiers did lately.

    Parameters
    ----------
    seconds : float
        How long that was.
    decided : int
        Requests in it that a version decided.
    calls : mapping of str to int
        Calls of each tier in it, whoever made them.
    busy_s : mapping of str to float
        How long those kept a place, together.
    """

    seconds: float
    decided: int
    calls: Mapping[str, int]
    busy_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PathCalls:
    """How often each version of a rollout would call each tier, over the requests that both have decided."""

    pairs: int
    stable: Mapping[str, int]
    candidate: Mapping[str, int]


def places_of(config: GraphConfig) -> dict[str, int]:
    """How many requests each tier has at once at most, with all the replicas that it may have.

    A hosted tier is somebody else's: it has as many as `admission.max_in_flight` of all ingress replicas, or no limit.
    """
    found = ((tier.name, _places(tier, config.http.scaling.max_replicas)) for tier in config.tiers)
    return {name: places for name, places in found if places is not None}


def tier_places(config: GraphConfig) -> dict[str, TierPlaces]:
    """What each tier can have at once, altogether and in one replica; of a hosted tier no replica is ours."""
    from router_models.planning.capacity import TierPlaces

    most = places_of(config)
    return {
        tier.name: TierPlaces(
            most.get(tier.name), None if isinstance(tier, HostedTierConfig) else tier.scaling.max_ongoing_requests
        )
        for tier in config.tiers
    }


def _places(tier: AnyTierConfig, ingress_replicas: int) -> int | None:
    admitted = tier.admission.max_in_flight
    limits = [] if admitted is None else [admitted * ingress_replicas]
    if not isinstance(tier, HostedTierConfig):
        limits.append(tier.scaling.max_replicas * tier.scaling.max_ongoing_requests)
    return min(limits, default=None)


def overload_of(
    places: Mapping[str, int], load: LiveLoad, paths: PathCalls, weight: float, wanted: float, most: float
) -> str | None:
    """Why the tiers cannot carry the candidate at another share of traffic; None where they can, or nothing is known.

    `weight` is its share now, `wanted` the one that is asked about, `most` the part of a tier's places that may be
    taken on average: requests come by chance, so that at all of them they wait without end. A tier of which the
    candidate needs no more than is needed now is no reason, however full it is.
    """
    if min(load.decided, paths.pairs) < FEWEST or load.seconds <= 0:
        return None
    rate = load.decided / load.seconds
    for tier, limit in places.items():
        if not load.calls.get(tier):
            continue
        each_s = load.busy_s[tier] / load.calls[tier]
        stable, candidate = (calls.get(tier, 0) / paths.pairs for calls in (paths.stable, paths.candidate))
        now = load.busy_s[tier] / load.seconds
        needed = now + rate * (wanted - weight) * (candidate - stable) * each_s
        if needed > max(most * limit, now):
            return (
                f"tier {tier!r} would have {needed:.3g} requests at once on average, now {now:.3g}, and takes {limit} "
                f"({most:.0%} of them on average at most): {rate:.3g} requests a second, for each {candidate:.2f} "
                f"calls of it by the candidate and {stable:.2f} by the stable version, of {each_s:.3g} s each"
            )
    return None
