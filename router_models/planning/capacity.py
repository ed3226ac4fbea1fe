"""What each tier would carry at the busiest: requests at once, by Little's law, and the replicas that they take.

A tier has on average so many requests at once as come in a second, times the seconds that each of them is there:
L = λ · E[calls per request · seconds per call], over the same prompts as every other figure of a plan. Requests come
by chance, so that a part of a tier's places has to be free on average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router_models.errors import DataError
from router_models.metrics import Interval, bootstrap_values, interval_of
from router_models.planning.patterns import Operated, Outcomes
from router_models.planning.simulation.itineraries import Itinerary
from router_models.planning.workload import Workload
from router_models.types import FloatArray, IntArray

CAPACITY_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class TierPlaces:
    """Hold what a tier can have at once.

    Parameters
    ----------
    most : int, optional
        Requests at once with all the replicas that it may have; None: no limit is known.
    of_replica : int, optional
        Requests at once of one replica; None: somebody else's machines, or not known.
    """

    most: int | None = None
    of_replica: int | None = None


@dataclass(frozen=True, slots=True)
class BusiestHour:
    """Hold the traffic that tiers must carry.

    Parameters
    ----------
    per_s : float
        Requests a second at the busiest.
    places : mapping of str to TierPlaces
        By tier, as far as it is known.
    share : float
        The part of a tier's places that may be taken on average, in (0, 1].

    Raises
    ------
    DataError
        For a rate that is not positive and finite, or a share outside its range.
    """

    per_s: float
    places: Mapping[str, TierPlaces]
    share: float = 0.9

    def __post_init__(self) -> None:
        if not (math.isfinite(self.per_s) and self.per_s > 0):
            raise DataError(f"requests a second must be a finite number above 0, found {self.per_s}")
        if not 0 < self.share <= 1:
            raise DataError(f"the part of places that may be taken lies in (0, 1], found {self.share}")


@dataclass(frozen=True, slots=True)
class TierCapacity:
    """Hold what one tier has under a policy.

    Parameters
    ----------
    tier : str
        Its name.
    calls : float
        Calls of it for a request, on average.
    at_once : Interval, optional
        Requests at once on average, with the 95 % bootstrap interval over prompts; None: its latency is not known.
    replicas : int, optional
        Replicas for the interval's upper end; None where `at_once` or the places of a replica are not known.
    most : int, optional
        Requests at once that it can have at most; None: not known.
    fits : bool, optional
        Whether the interval's upper end leaves as many places free as it should; None: not known.
    """

    tier: str
    calls: float
    at_once: Interval | None
    replicas: int | None
    most: int | None
    fits: bool | None


@dataclass(frozen=True, slots=True)
class PolicyLoad:
    """Hold what the tiers have under one policy, cheapest first."""

    name: str
    tiers: tuple[TierCapacity, ...]


def policy_loads(
    work: Workload, operated: Operated, played: Outcomes, busiest: BusiestHour, seed: int
) -> tuple[PolicyLoad, ...]:
    """Compute what the tiers carry under a pattern, and with either tier alone.

    Parameters
    ----------
    work : Workload
        The workload; its evidence rows are used.
    operated : Operated
        The pattern.
    played : Outcomes
        What becomes of the evidence rows under it.
    busiest : BusiestHour
        The traffic, and what the tiers can have.
    seed : int
        Seeds the resamples.

    Returns
    -------
    tuple of PolicyLoad
        The pattern's, always-cheap's and always-frontier's.
    """
    n = len(played.tried)
    ones, none = np.ones(n), np.zeros(n)
    calls = {
        operated.pattern.name: (operated.pattern.calls * played.tried.astype(float), 1.0 - played.kept),
        f"always {work.cheap}": (ones, none),
        f"always {work.frontier}": (none, ones),
    }
    rows = ~work.choosing
    seconds = [None if column is None else column[rows] for column in (work.cheap_s, work.frontier_s)]
    groups = work.group_of[rows]
    return tuple(
        PolicyLoad(
            name,
            tuple(
                _load(tier, made, each_s, busiest, groups, seed)
                for tier, made, each_s in zip((work.cheap, work.frontier), both, seconds, strict=True)
            ),
        )
        for name, both in calls.items()
    )


def version_load(
    name: str,
    itineraries: Sequence[Itinerary],
    seconds: Mapping[str, FloatArray | None],
    busiest: BusiestHour,
    seed: int,
    groups: IntArray,
) -> PolicyLoad:
    """Compute what the tiers carry under a version: by the way that each prompt takes under it.

    Parameters
    ----------
    name : str
        The version's.
    itineraries : sequence of Itinerary
        One per prompt (`simulation.itineraries.version_itineraries`); of prompts it was not fitted on.
    seconds : mapping of str to array of float or None
        By tier, cheapest first: seconds of a call with each prompt; None: not known.
    busiest : BusiestHour
        The traffic, and what the tiers can have.
    seed : int
        Seeds the resamples.
    groups : array of int
        Prompts of one group are drawn together.

    Returns
    -------
    PolicyLoad
    """
    called = {
        tier: np.array([sum(step.tiers.count(tier) for step in way.steps) for way in itineraries], dtype=np.float64)
        for tier in seconds
    }
    return PolicyLoad(
        name, tuple(_load(tier, called[tier], each_s, busiest, groups, seed) for tier, each_s in seconds.items())
    )


def _load(
    tier: str, calls: FloatArray, seconds: FloatArray | None, busiest: BusiestHour, groups: IntArray, seed: int
) -> TierCapacity:
    places = busiest.places.get(tier, TierPlaces())
    if seconds is None:
        return TierCapacity(tier, float(calls.mean()), None, None, places.most, None)
    busy = busiest.per_s * calls * seconds

    def means(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ busy / weights.sum(axis=1), dtype=np.float64)

    at_once = interval_of(
        float(busy.mean()), bootstrap_values(means, len(busy), draws=CAPACITY_DRAWS, seed=seed, groups=groups)
    )
    replicas = None if places.of_replica is None else math.ceil(at_once.high / (busiest.share * places.of_replica))
    fits = None if places.most is None else at_once.high <= busiest.share * places.most
    return TierCapacity(tier, float(calls.mean()), at_once, replicas, places.most, fits)
