"""One engine call and what goes on the bill for it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from router_models.types import Attempt, Call, Completion, Query
from serve_graph.cascade.billing import answered, unanswered
from serve_graph.cascade.context import Graph, Trail
from serve_graph.errors import EngineError
from serve_graph.protocol.responses import usage_of


async def call(graph: Graph, tier: str, query: Query, trail: Trail) -> Completion:
    """Make one engine call and put it on the bill; raises what the engine raises."""
    started = time.perf_counter()
    try:
        completion = await graph.engines[tier].generate(query)
    except EngineError as error:
        tell(graph, tier, error.attempts, trail)
        raise
    tell(graph, tier, completion.attempts, trail)
    trail.calls.append(charge(graph, tier, completion, time.perf_counter() - started))
    return completion


async def embed(graph: Graph, body: Mapping[str, Any], trail: Trail) -> dict[str, Any]:
    """Have the trail's tier make embeddings and put that on the bill, however it ends; raises what the tier raises."""
    started, tier = time.perf_counter(), trail.tier
    try:
        reply = dict(await graph.embedders[tier].embed(body))
        usage = usage_of(reply.get("usage") or {})
    except BaseException as error:
        if isinstance(error, EngineError):
            tell(graph, tier, error.attempts, trail)
        trail.overhead.append(unanswered(graph.prices, tier, time.perf_counter() - started, error))
        raise
    trail.calls.append(charge(graph, tier, Completion("", usage=usage), time.perf_counter() - started))
    return reply


def charge(graph: Graph, tier: str, completion: Completion, latency_s: float, named: int = 0) -> Call:
    """Price one completion at its tier's rates; `named` are its tokens where its engine gave no count."""
    return answered(graph.prices, tier, completion, latency_s, named)


def tell(graph: Graph, tier: str, attempts: Sequence[Attempt], trail: Trail) -> None:
    """Note the calls a tier took among its deployments, and bill those that failed and were charged all the same.

    What an API said stays out of the record: it may quote the prompt.
    """
    if attempts:
        steps = ", ".join(f"{a.deployment} ({a.status} after {a.latency_s:.2f} s)" for a in attempts)
        trail.notes.append(f"{tier} called {steps}")
    for attempt in attempts:
        if attempt.usage:
            failed = Completion("", usage=usage_of(attempt.usage))
            trail.calls.append(charge(graph, tier, failed, attempt.latency_s))
