"""The product on one screen: decide, generate, judge, then accept, escalate once or abstain.

`next_step` says what comes next, and these few lines do it for an answer that is wanted whole. `streaming` does the
same piece by piece.
"""

from __future__ import annotations

from router_models.types import Completion, Query
from serve_graph.cascade.calls import perform, start
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.next_step import advance
from serve_graph.cascade.steps import CascadeEvent, Do, RequestState, StreamTerms


async def answer(
    context: CascadeContext,
    query: Query,
    forced: str | None,
    state: RequestState,
    stream: StreamTerms | None = None,
) -> Completion:
    """Answer a query whole.

    Parameters
    ----------
    context
        What to work with, as this request may use it.
    query
        The question.
    forced
        The tier that was asked for by name; None where the router chooses.
    state
        What happens is written down here, also where the request fails.
    stream
        By which rules it is decided, where it is decided as a stream although its answer is made whole.

    Raises
    ------
    EngineError
        No tier that may answer can.
    DeadlineError
        The request's time is spent.
    """
    event: CascadeEvent = start(context, query, forced, stream)
    while True:
        step = advance(state, event)
        if step.completion is not None and step.do is Do.REPLY:
            return step.completion
        if step.error is not None:
            raise step.error
        event = await perform(context, query, step, state)
