"""One engine call and what goes on the bill for it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from router_models.types import Attempt, Call, Completion, Query
from serve_graph.cascade.billing import answered, unanswered
from serve_graph.cascade.context import CascadeContext, RequestState
from serve_graph.errors import EngineError
from serve_graph.protocol.responses import usage_of


async def call(context: CascadeContext, tier: str, query: Query, state: RequestState) -> Completion:
    """Make one engine call and put it on the bill; raises what the engine raises."""
    started = time.perf_counter()
    try:
        completion = await context.engines[tier].generate(query)
    except EngineError as error:
        record_attempts(context, tier, error.attempts, state)
        raise
    record_attempts(context, tier, completion.attempts, state)
    state.calls.append(charge(context, tier, completion, time.perf_counter() - started))
    return completion


async def embed(context: CascadeContext, body: Mapping[str, Any], state: RequestState) -> dict[str, Any]:
    """Have the trail's tier make embeddings and put that on the bill, however it ends; raises what the tier raises."""
    started, tier = time.perf_counter(), state.tier
    try:
        reply = dict(await context.embedders[tier].embed(body))
        usage = usage_of(reply.get("usage") or {})
    except BaseException as error:
        if isinstance(error, EngineError):
            record_attempts(context, tier, error.attempts, state)
        state.overhead.append(unanswered(context.prices, tier, time.perf_counter() - started, error))
        raise
    state.calls.append(charge(context, tier, Completion("", usage=usage), time.perf_counter() - started))
    return reply


def charge(context: CascadeContext, tier: str, completion: Completion, latency_s: float, named: int = 0) -> Call:
    """Price one completion at its tier's rates; `named` are its tokens where its engine gave no count."""
    return answered(context.prices, tier, completion, latency_s, named)


def record_attempts(context: CascadeContext, tier: str, attempts: Sequence[Attempt], state: RequestState) -> None:
    """Note the calls a tier took among its deployments, and bill those that failed and were charged all the same.

    What an API said stays out of the record: it may quote the prompt.
    """
    if attempts:
        steps = ", ".join(f"{a.deployment} ({a.status} after {a.latency_s:.2f} s)" for a in attempts)
        state.notes.append(f"{tier} called {steps}")
    for attempt in attempts:
        if attempt.usage:
            failed = Completion("", usage=usage_of(attempt.usage))
            state.calls.append(charge(context, tier, failed, attempt.latency_s))
