"""A finished request that is to be decided by the other version of a rollout too. Data, and two things made later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from router_models.monitoring.canary import Arm
from router_models.types import Query
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.steps import RequestState, StreamTerms


@dataclass(frozen=True, slots=True)
class ComparedRequest:
    """One request that one version of a rollout has answered.

    Parameters
    ----------
    decision, rollout : str
        The request's id and the rollout's.
    arm : str
        The version that answered it.
    weight, unit, probability
        As `Comparison` has them.
    last_tier : str
        The last tier that takes the request.
    query : Query
        The request.
    state : RequestState
        How it was answered.
    usd : Decimal
        What that cost.
    stream : StreamTerms, optional
        When it was shown; None where it was wanted whole.
    context_of : callable
        What a version answers it with, by arm. Takes its time, so it is called off the request's path.
    slices : callable
        The slices that it is in; as `context_of`.
    group : str, optional
        A hash of its session, else of its prompt: of each the first comparison counts.
    came_at : str, optional
        When it came (ISO 8601, UTC): pairs are tested in this order.
    failed : bool
        Whether no answer came of it, for no fault of its caller's: it is not decided anew, and its row has no grades.
    """

    decision: str
    rollout: str
    arm: Arm
    weight: float
    unit: str
    probability: float
    last_tier: str
    query: Query
    state: RequestState
    usd: Decimal
    stream: StreamTerms | None
    context_of: Callable[[Arm], CascadeContext]
    slices: Callable[[], tuple[str, ...]] = tuple
    group: str | None = None
    came_at: str | None = None
    failed: bool = False

    @property
    def other(self) -> Arm:
        """The version that did not answer it."""
        return "candidate" if self.arm == "stable" else "stable"
