"""One request of a batch, through the graph's own path: what its route would answer, or how it would fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from router_models.types import Query
from serve_graph.access.caller import CALLER
from serve_graph.access.turns import Turns
from serve_graph.api.formats import ChatFormat, FunctionsFormat, TextFormat
from serve_graph.api.generation import opened_for, options_from
from serve_graph.api.responses import ResponsesFormat, ResponsesRequest, responses_query
from serve_graph.errors import RequestError, ServeGraphError, error_body, error_kind, status_of
from serve_graph.gateway.embeddings import answer_embeddings, open_embeddings
from serve_graph.gateway.handler import Service
from serve_graph.protocol.bounds import NODES_AT_ONCE, PARSED_AT_ONCE
from serve_graph.protocol.embeddings import EmbeddingsRequest, embeddings_query
from serve_graph.protocol.requests import (
    ChatRequest,
    CompletionRequest,
    UnknownFields,
    chat_query,
    completion_query,
    parse_request,
)


class _Kind(NamedTuple):
    request: type[Any]
    query: Callable[[Any], Query]
    wording: Callable[[Any], Callable[[dict[str, Any]], dict[str, Any]]]


def _chat_wording(parsed: ChatRequest) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return (FunctionsFormat if parsed.uses_functions else ChatFormat)(False).whole


GENERATING: Mapping[str, _Kind] = MappingProxyType(
    {
        "/v1/chat/completions": _Kind(ChatRequest, chat_query, _chat_wording),
        "/v1/completions": _Kind(CompletionRequest, completion_query, lambda _: TextFormat(False).whole),
        "/v1/responses": _Kind(ResponsesRequest, responses_query, lambda parsed: ResponsesFormat(parsed).whole),
    }
)


async def answered_line(
    service: Service, endpoint: str, body: bytes, turns: Turns, unknown_fields: UnknownFields = "refuse"
) -> dict[str, Any]:
    """The reply to a request, as the endpoint's route would send it; the record is written as for any other.

    A long body is read in its key's turn, as those of its other requests are.

    Raises what the route would: RequestError, RateLimitedError, BudgetSpentError, EngineError and the like.
    """
    if endpoint == "/v1/embeddings":
        asked = await _parsed(EmbeddingsRequest, body, turns, unknown_fields)
        query, sent = embeddings_query(asked)
        opened = await opened_for(service, lambda: open_embeddings(service, query, asked.model))
        return await answer_embeddings(service, opened, sent)
    kind = GENERATING[endpoint]
    parsed = await _parsed(kind.request, body, turns, unknown_fields)
    if parsed.stream:
        raise RequestError("requests of a batch cannot be streamed: leave `stream` out", "stream", "invalid_value")
    query = kind.query(parsed)
    opened = await opened_for(service, lambda: service.open(query, parsed.model, False, options_from(parsed)))
    try:
        return await service.answer(opened, kind.wording(parsed))
    except BaseException:
        service.record(opened, asyncio.CancelledError())  # no effect where the record is written
        raise


async def _parsed(kind: type[Any], body: bytes, turns: Turns, unknown_fields: UnknownFields) -> Any:
    if len(body) <= PARSED_AT_ONCE and body.count(b"{") + body.count(b"[") <= NODES_AT_ONCE:
        return parse_request(kind, body, unknown_fields)
    return await turns.run_on(CALLER.get().name, len(body), lambda: parse_request(kind, body, unknown_fields))


def failure(error: Exception) -> tuple[int, dict[str, Any]]:
    """The status and the body with which a route would say so."""
    if not isinstance(error, ServeGraphError):
        return 500, error_body("internal error; see the server log", "server_error")
    body = error_body(str(error), error_kind(error), getattr(error, "param", None), getattr(error, "code", None))
    return status_of(error)[0], body


def tokens_of(reply: Mapping[str, Any]) -> tuple[int, int]:
    """The input and output tokens that a reply counts, in either of OpenAI's words."""
    usage = reply.get("usage") or {}
    put = usage.get("prompt_tokens", usage.get("input_tokens")) or 0
    return int(put), int(usage.get("completion_tokens", usage.get("output_tokens")) or 0)
