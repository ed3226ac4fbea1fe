"""Two versions beside each other while a rollout is under way: which of them answers a request, wholly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from serve_graph.cascade.context import CascadeContext
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.policy.rollout.assignment import Arm, arm_of, unit_of
from serve_graph.policy.served_version import ServedRollout


@dataclass(frozen=True, slots=True)
class AssignedArm:
    """The arm of a rollout that answers a request, and with which probability it was chosen.

    `weight` is the candidate's share of traffic when the request came; `unit` whoever was assigned, hashed.
    """

    rollout: str
    arm: Arm
    weight: float
    unit: str

    @property
    def propensity(self) -> float:
        """The probability of this arm: it is greater than 0, for it was drawn."""
        return self.weight if self.arm == "candidate" else 1.0 - self.weight

    def as_recorded(self) -> dict[str, Any]:
        """What the request's evidence says of it."""
        return {"id": self.rollout, "arm": self.arm, "weight": self.weight, "unit": self.unit}


@dataclass(frozen=True, slots=True)
class RolloutArms:
    """A rollout on one ingress replica. `context` and `routing` are the candidate's alone."""

    rollout: ServedRollout
    context: CascadeContext
    routing: RoutingContext

    def beside(self, stable: RoutingContext) -> RolloutArms:
        """The same with what the replica knows: conversations, latencies and tiers asleep are both versions'."""
        routing = replace(self.routing, sessions=stable.sessions, latencies=stable.latencies, asleep=stable.asleep)
        return replace(self, routing=routing)

    def assign(self, session: str | None, key: str | None, prompt: str) -> AssignedArm:
        """The arm of a request: by its session, else by its key, else by its prompt."""
        unit = unit_of(session, key, prompt)
        arm = arm_of(self.rollout.id, unit, self.rollout.weight)
        return AssignedArm(self.rollout.id, arm, self.rollout.weight, unit)
