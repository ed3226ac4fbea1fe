"""Embeddings: passed through to a tier that makes them, and recorded as any request is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from router_models.types import Action, Query
from serve_graph.access.caller import CALLER
from serve_graph.cascade import calls
from serve_graph.errors import UnknownModelError
from serve_graph.gateway.handler import AUTO, Service
from serve_graph.gateway.options import chosen_tier
from serve_graph.gateway.request import Request


def open_embeddings(service: Service, query: Query, model: str) -> Request:
    """Accept an embeddings request for the tier it names, or for `auto` for the cheapest that embeds.

    Raises as `Service.open` does, UnknownModelError where that tier does not embed.
    """
    caller, embedders = CALLER.get(), service.context.embedders
    meant = service.model_meant(model)
    forced = chosen_tier(caller, None if meant == AUTO else meant)
    tier = next(iter(embedders), AUTO) if forced is None else forced
    if tier not in embedders:
        known = ", ".join(embedders) or "none"
        raise UnknownModelError(f"no embeddings from {tier!r}; tiers that embed: {known}", "model", "model_not_found")
    certificate = service.routing.certificate_status.snapshot()
    context = replace(service.context, certificate=certificate, set_apart="embeddings are passed through")
    request = Request(query, model, forced, False, context, key=caller.name, embeds=True)
    request.request_id, request.shares = caller.request_id, service.routing.shares
    request.state.go(tier, Action.ROUTED if forced is None else Action.FORCED, "embeddings")
    service.reserve(request, (tier,), answers=False)
    service.begin(request)
    return request


async def answer_embeddings(service: Service, request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
    """Pass embeddings through. Raises EngineError where the tier cannot make them now."""
    try:
        reply = await service.deadline(request.resolved).kept(calls.embed(service.context, body, request.state))
    except BaseException as error:
        service.record(request, error)
        raise
    service.record(request)
    return reply | {"model": request.state.tier, "serve_graph": request.facts()}
