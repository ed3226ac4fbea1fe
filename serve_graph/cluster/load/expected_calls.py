"""Calls that each tier will soon have: those under way there, and those that cheaper tiers are about to send on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby, pairwise

from router_models.planning.simulation.replicas.expected import expected_calls
from router_models.types import DecisionRecord
from serve_graph.cascade.interfaces import RecordSink
from serve_graph.cluster.load.scaling_policy import EXPECTED
from serve_graph.cluster.tier_client import HandleEngine

LEAST = 20
"""Calls of a tier before anything is concluded of what comes before or after them."""


class ExpectedCalls:
    """What follows, and what precedes, a tier's calls, over about its last `kept` ones.

    Parameters
    ----------
    kept : int
        A call's weight falls to 1/e after so many later ones of the same tier.
    """

    def __init__(self, kept: int = 200) -> None:
        self._after = _Shares(kept)
        self._before = _Shares(kept)

    def note(self, record: DecisionRecord) -> None:
        """Learn from a finished request: which tier was called after which."""
        tiers = [tier for tier, _ in groupby(call.tier for call in record.calls)]
        for before, tier in pairwise(["", *tiers]):
            self._before.note(tier, before)
        for tier, following in pairwise([*tiers, ""]):
            self._after.note(tier, following)

    def probability(self, tier: str, following: str) -> float:
        """The share of a tier's calls that a call of `following` came after; 0 before `LEAST` of them."""
        return self._after.share(tier, following)

    def expected(self, under_way: Mapping[str, float], service_s: Mapping[str, float | None]) -> dict[str, float]:
        """Return the calls that each tier has once what is at cheaper tiers now has been answered there.

        Parameters
        ----------
        under_way : mapping of str to float
            Requests that each tier has now, at work or waiting.
        service_s : mapping of str to float or None
            Seconds that a call of each tier takes; None: not known, taken to be as long as the others'.

        Returns
        -------
        dict of str to float
            Never fewer than are under way; see `expected_calls`, by which `simulate_replicas` scales as well.
        """
        return expected_calls(under_way, service_s, self.probability, self._before.share)


class _Shares:
    """How often each name was seen beside a tier, over about the last `kept` calls of the tier."""

    def __init__(self, kept: int) -> None:
        self.keep = 1.0 - 1.0 / kept
        self._calls: dict[str, int] = {}
        self._weight: dict[str, float] = {}
        self._seen: dict[str, dict[str, float]] = {}

    def note(self, tier: str, beside: str) -> None:
        seen = self._seen.setdefault(tier, {})
        self._calls[tier] = self._calls.get(tier, 0) + 1
        self._weight[tier] = self._weight.get(tier, 0.0) * self.keep + 1.0
        for other in seen:
            seen[other] *= self.keep
        seen[beside] = seen.get(beside, 0.0) + 1.0

    def share(self, tier: str, beside: str) -> float:
        if self._calls.get(tier, 0) < LEAST:
            return 0.0
        return self._seen[tier].get(beside, 0.0) / self._weight[tier]


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
        """Return how many calls each tier's engine will have, those that wait for admission included."""
        gates = {tier: engine.gate for tier, engine in self.engines.items()}
        under_way = {tier: float(gate.in_flight + len(gate.queue)) for tier, gate in gates.items()}
        service_s = {tier: gate.service_s for tier, gate in gates.items()}
        by_engine: dict[str, float] = {}
        for tier, calls in self.calls.expected(under_way, service_s).items():
            name = EXPECTED + self.engines[tier].config.engine_name
            by_engine[name] = by_engine.get(name, 0.0) + calls
        return by_engine
