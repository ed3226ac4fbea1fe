"""Itineraries as arrays: which tier a prompt's request calls first, and which after each tier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from router_models.errors import DataError
from router_models.planning.simulation.itineraries import Itinerary
from router_models.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Paths:
    """Hold the way of each of n prompts down a ladder of k tiers.

    Parameters
    ----------
    first : array of int, (n,)
        The tier that is called first, by its place in the ladder.
    following : array of int, (k, n)
        Which tier is called after each; -1: the request ends there, or does not come there.
    judged : array of bool, (k, n)
        Whether a verifier scores the tier's answer.
    routed : array of bool, (n,)
        Whether a router decided.
    sent_on, came_from : array of float, (k, k)
        Of a tier's calls (row), the shares that a call of another (column) comes after, and before.
    """

    first: IntArray
    following: IntArray
    judged: BoolArray
    routed: BoolArray
    sent_on: FloatArray
    came_from: FloatArray

    @property
    def prompts(self) -> int:
        """Return how many prompts there are."""
        return len(self.first)

    @classmethod
    def of(cls, itineraries: Sequence[Itinerary], tiers: tuple[str, ...]) -> Paths:
        """Return itineraries as arrays; DataError where one has several calls at once, or goes up the ladder."""
        place = {name: i for i, name in enumerate(tiers)}
        n, k = len(itineraries), len(tiers)
        if not n or not k:
            raise DataError("at least one prompt and one tier are needed")
        first, following = np.empty(n, dtype=np.int64), np.full((k, n), -1, dtype=np.int64)
        judged, steps = np.zeros((k, n), dtype=np.bool_), np.zeros((k, k))
        calls = np.zeros(k)
        for i, way in enumerate(itineraries):
            if any(len(step.tiers) != 1 for step in way.steps) or not way.steps:
                raise DataError("an itinerary makes several calls at once, or none: replay it with `queues.simulate`")
            if unknown := {step.tiers[0] for step in way.steps} - set(tiers):
                raise DataError(f"itineraries name tier(s) {sorted(unknown)} that are not simulated: {list(tiers)}")
            path = [place[step.tiers[0]] for step in way.steps]
            if path != sorted(set(path)):
                raise DataError(f"an itinerary calls a tier after a dearer one, or twice: {[tiers[t] for t in path]}")
            first[i] = path[0]
            calls[path] += 1
            for tier, step in zip(path, way.steps, strict=True):
                judged[tier, i] = step.judged
            for tier, later in pairwise(path):
                following[tier, i] = later
                steps[tier, later] += 1
        made = np.maximum(calls, 1)
        routed = np.array([way.routed for way in itineraries])
        return cls(first, following, judged, routed, steps / made[:, None], (steps / made[None, :]).T)

    def mean_service_s(self, tier: int, service_s: FloatArray) -> float | None:
        """Return the mean seconds of a tier's calls; None where no prompt calls it."""
        called = (self.first == tier) | (self.following == tier).any(axis=0)
        return float(service_s[called].mean()) if called.any() else None
