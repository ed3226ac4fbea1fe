"""Tiers without a replica at the moment, by their own scaling: a request goes to the next one and wakes the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from router_models.types import Decision
from serve_graph.gateway.rules import raised, without_links


@dataclass(slots=True)
class AsleepTiers:
    """Which tiers are scaled to zero, as far as this ingress replica knows.

    Parameters
    ----------
    wake : callable
        Called with the name of a tier that a request was to go to; has it started.
    """

    wake: Callable[[str], None] = lambda tier: None
    tiers: frozenset[str] = field(default_factory=frozenset)

    def apply(self, decision: Decision, ladder: Sequence[str]) -> Decision:
        """Return the decision for the next tier of the ladder that is awake, the last one failing that."""
        if decision.then:
            decision = without_links(decision, lambda tier: tier not in self.tiers)
        if decision.tier not in self.tiers or decision.tier not in ladder or decision.tier == ladder[-1]:
            return decision
        self.wake(decision.tier)
        dearer = ladder[ladder.index(decision.tier) + 1 :]
        tier = next((tier for tier in dearer if tier not in self.tiers), ladder[-1])
        return raised(decision, tier, f"{decision.tier} had no replica and is being started", ladder)
