"""Hand a finished request over to be decided by the other version of a rollout as well, off its path."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

from router_models.data.slices import slice_of
from router_models.monitoring.canary import Arm
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.deadline import NEVER, Deadline
from serve_graph.gateway.arms import RolloutArms
from serve_graph.gateway.constraints import RequestConstraints, RoutingContext, request_context
from serve_graph.gateway.request import Request
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.comparing.comparer import Comparer
from serve_graph.policy.rollout.assignment import unit_of

UNSLICED = "detected_language"
"""By what requests are sliced where neither version is."""


def offer_comparison(
    comparer: Comparer,
    request: Request,
    arms: RolloutArms,
    stable: CascadeContext,
    routing: RoutingContext,
    status: int = 200,
) -> None:
    """Offer a request that has ended with this status while a rollout is under way, where it is drawn.

    One that has failed for no fault of its caller's is offered where the candidate answers everybody: no other arm
    tells then whether it fails more often, and a failure counts against it as what cannot be graded does. Waits for
    nothing. `stable` and `routing` are the stable version's; the candidate's are those of `arms`.
    """
    assigned, rollout, context = request.assigned, arms.rollout, request.context
    if assigned is None or assigned.rollout != rollout.id:
        return
    failed = assigned.weight >= 1 and (status == 429 or status >= 500)
    if not failed and (status != 200 or request.state.completion is None):
        return
    if not comparer.draws(request.id, rollout.rate):
        return
    both = {"stable": (stable, routing), "candidate": (arms.context, arms.routing)}

    def context_of(arm: Arm) -> CascadeContext:
        return _context_of(request, *both[arm])

    def slices() -> tuple[str, ...]:
        named = [known.labels.slicer for _, known in both.values() if known.labels is not None]
        slicers = dict.fromkeys([name for name in named if name is not None] or [UNSLICED])
        return tuple(dict.fromkeys(slice_of(slicer, request.query) for slicer in slicers))

    comparer.offer(
        ComparedRequest(
            request.id,
            rollout.id,
            assigned.arm,
            assigned.weight,
            assigned.unit,
            rollout.rate,
            context.policy.top,
            request.query,
            request.state,
            request.cost_usd,
            request.terms if request.stream else None,
            context_of,
            slices,
            unit_of(request.resolved.session, None, request.query.text),
            datetime.fromtimestamp(request.created, UTC).isoformat(timespec="milliseconds"),
            failed,
        )
    )


def _context_of(request: Request, version: CascadeContext, routing: RoutingContext) -> CascadeContext:
    """What a version answers a request with, under the request's options, and with its whole time before it.

    Its session and its tool loop are as they were when it came.
    """
    served = request.context
    rules = served.constraints
    assert isinstance(rules, RequestConstraints), "a request that a version decides has its constraints"
    seconds = served.deadline.seconds
    deadline = Deadline(seconds, 0.0, lambda: 0.0) if math.isfinite(seconds) else NEVER
    made = request_context(
        version,
        request.resolved,
        routing,
        version.policy.top,
        deadline,
        query=request.query,
        stream=request.terms if request.stream else None,
        began=rules.began,
    )
    own = made.constraints
    assert isinstance(own, RequestConstraints), "and so has every version's context"
    return replace(made, constraints=replace(own, session=rules.session))
