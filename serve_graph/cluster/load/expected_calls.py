"""Calls of dearer tiers that are to be expected: those under way now, times how often such were escalated lately."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from router_models.types import DecisionRecord
from serve_graph.cascade.interfaces import RecordSink
from serve_graph.cluster.load.scaling_policy import EXPECTED
from serve_graph.cluster.tier_client import HandleEngine

LEAST = 20
"""Calls of a tier before anything is concluded of what follows them."""


class ExpectedCalls:
    """How often a call of one tier is followed by one of another, over about the last `kept` calls of the first.

    Parameters
    ----------
    kept : int
        A call's weight falls to 1/e after so many later ones of the same tier.
    """

    def __init__(self, kept: int = 200) -> None:
        self.keep = 1.0 - 1.0 / kept
        self._calls: dict[str, int] = {}
        self._weight: dict[str, float] = {}
        self._followed: dict[str, dict[str, float]] = {}

    def note(self, record: DecisionRecord) -> None:
        """Learn from a finished request: which tier was called after which."""
        tiers = [call.tier for call in record.calls]
        for tier, following in pairwise([*tiers, ""]):
            if following == tier:
                continue
            followed = self._followed.setdefault(tier, {})
            self._calls[tier] = self._calls.get(tier, 0) + 1
            self._weight[tier] = self._weight.get(tier, 0.0) * self.keep + 1.0
            for other in followed:
                followed[other] *= self.keep
            if following:
                followed[following] = followed.get(following, 0.0) + 1.0

    def probability(self, tier: str, following: str) -> float:
        """The share of a tier's calls that a call of `following` came after; 0 before `LEAST` of them."""
        if self._calls.get(tier, 0) < LEAST:
            return 0.0
        return self._followed[tier].get(following, 0.0) / self._weight[tier]

    def expected(self, under_way: Mapping[str, float]) -> dict[str, float]:
        """Calls to come by tier.

        Parameters
        ----------
        under_way : mapping of str to float
            Requests that each tier has now, at work or waiting.

        Returns
        -------
        dict of str to float
            For each tier, the expected number of those requests that will be sent on to it.
        """
        found = dict.fromkeys(under_way, 0.0)
        for tier, requests in under_way.items():
            for following in self._followed.get(tier, {}):
                if following in found:
                    found[following] += requests * self.probability(tier, following)
        return found


class ExpectedLoad:
    """A RecordSink that learns from each record how often calls are escalated, and passes it on to another sink.

    Parameters
    ----------
    sink : RecordSink
        Where records go.
    engines : mapping of str to HandleEngine
        The tiers, cheapest first, whose admission says how many requests are there.
    """

    def __init__(self, sink: RecordSink, engines: Mapping[str, HandleEngine]) -> None:
        self.sink = sink
        self.engines = engines
        self.calls = ExpectedCalls()

    def write(self, record: DecisionRecord) -> None:
        """Write the record first: an error in learning from it cannot lose it."""
        self.sink.write(record)
        self.calls.note(record)

    def stats(self) -> dict[str, float]:
        """Return what is to come by tier: escalations that are to be expected, and requests not sent there yet."""
        waiting = {tier: float(len(engine.gate.queue)) for tier, engine in self.engines.items()}
        under_way = {tier: engine.gate.in_flight + waiting[tier] for tier, engine in self.engines.items()}
        expected = self.calls.expected(under_way)
        return {EXPECTED + tier: waiting[tier] + expected[tier] for tier in self.engines}
