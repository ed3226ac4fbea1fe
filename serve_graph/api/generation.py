"""The routes that answer: chat, text completions, responses, embeddings. One way through, four wordings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from fastapi import FastAPI, Request, Response

from router_models.types import Query
from serve_graph.api.connection import EventStream, Reply, read_body, while_connected
from serve_graph.api.formats import ChatFormat, ResponseFormat, TextFormat
from serve_graph.api.openapi import asks, errors, reply
from serve_graph.api.responses import ResponsesFormat, ResponsesRequest, responses_query
from serve_graph.api.sse import kept_alive, unbroken
from serve_graph.errors import RequestError
from serve_graph.gateway.handler import Service
from serve_graph.gateway.request import Request as Opened
from serve_graph.protocol.async_stream import BufferedAsyncIterator
from serve_graph.protocol.embeddings import EmbeddingsRequest, embeddings_query
from serve_graph.protocol.requests import (
    ChatRequest,
    CompletionRequest,
    RequestOptions,
    StreamOptions,
    chat_query,
    completion_query,
    options_of,
    parse_request,
)

FAILURES = (400, 401, 403, 404, 413, 429, 499, 500, 503, 504)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How large a body is read, how long a stream may be silent, whether a reply may begin uncommitted."""

    max_body_bytes: int
    keep_alive_s: float
    start_before_commit: bool


class OpenAIRequest(Protocol):
    """What the request bodies have in common."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool | None: ...
    @property
    def stream_options(self) -> StreamOptions | None: ...
    @property
    def serve_graph(self) -> RequestOptions | None: ...
    @property
    def prompt_cache_key(self) -> str | None: ...
    @property
    def user(self) -> str | None: ...


def add_generation(app: FastAPI, service: Service, limits: HttpLimits) -> None:
    """Add the routes to the application."""

    @app.post(
        "/v1/chat/completions",
        responses=reply("ChatCompletion", streams="ChatCompletionChunk") | errors(*FAILURES),
        openapi_extra=asks("ChatRequest"),
    )
    async def chat_completions(request: Request) -> Response:
        parsed = parse_request(ChatRequest, await read_body(request, limits.max_body_bytes))
        return await respond(request, chat_query(parsed), parsed, ChatFormat(_wants_usage(parsed)))

    @app.post(
        "/v1/completions",
        responses=reply("Completion", streams="Completion") | errors(*FAILURES),
        openapi_extra=asks("CompletionRequest"),
    )
    async def completions(request: Request) -> Response:
        parsed = parse_request(CompletionRequest, await read_body(request, limits.max_body_bytes))
        return await respond(request, completion_query(parsed), parsed, TextFormat(_wants_usage(parsed)))

    @app.post(
        "/v1/responses",
        responses=reply("Response", streams="ResponseStreamEvent") | errors(*FAILURES),
        openapi_extra=asks("ResponsesRequest"),
    )
    async def responses(request: Request) -> Response:
        parsed = parse_request(ResponsesRequest, await read_body(request, limits.max_body_bytes))
        return await respond(request, responses_query(parsed), parsed, ResponsesFormat(parsed))

    @app.post(
        "/v1/embeddings",
        responses=reply("CreateEmbeddingResponse") | errors(*FAILURES),
        openapi_extra=asks("EmbeddingsRequest"),
    )
    async def embeddings(request: Request) -> Response:
        parsed = parse_request(EmbeddingsRequest, await read_body(request, limits.max_body_bytes))
        query, body = embeddings_query(parsed)
        opened = service.open_embeddings(query, parsed.model)
        try:
            said = await while_connected(request, service.embed(opened, body))
        except BaseException:
            service.record(opened, asyncio.CancelledError())  # nothing, unless it was cancelled before it began
            raise
        return Reply(said, headers=opened.headers())

    async def respond(
        request: Request, query: Query, parsed: OpenAIRequest, response_format: ResponseFormat
    ) -> Response:
        if parsed.stream_options and not parsed.stream:
            raise RequestError("stream_options needs stream: true", "stream_options", "invalid_value")
        opened = service.open(query, parsed.model, bool(parsed.stream), options_from(parsed))
        try:
            if parsed.stream:
                return await streamed(request, opened, response_format)
            said = await while_connected(request, service.answer(opened, response_format.whole))
        except BaseException:
            service.record(opened, asyncio.CancelledError())  # nothing, unless it was cancelled before it began
            raise
        return Reply(said, headers=opened.headers())

    async def streamed(request: Request, opened: Opened, response_format: ResponseFormat) -> Response:
        """Begin once somebody speaks, or after `keep_alive_s` with comments. Failures until then are raised."""
        chunks = BufferedAsyncIterator(service.stream(opened))
        try:
            wait_s = limits.keep_alive_s if limits.start_before_commit else None
            first = await while_connected(request, chunks.started(wait_s))
            if first.done():
                first.result()
        except BaseException:
            await chunks.aclose()
            raise
        spoke = first.done()
        events = kept_alive(
            response_format.events(unbroken(chunks.source, first)), limits.keep_alive_s, at_once=not spoke
        )

        async def ending() -> None:
            await chunks.aclose()
            service.record(opened, asyncio.CancelledError())  # nothing, where the stream has recorded itself

        return EventStream(events, opened.headers(committed=spoke), ending)


def options_from(parsed: OpenAIRequest) -> RequestOptions | None:
    """What the caller asks of the policy, a session in OpenAI's own fields included."""
    return options_of(parsed.serve_graph, parsed.prompt_cache_key, parsed.user)


def _wants_usage(parsed: OpenAIRequest) -> bool:
    return bool(parsed.stream_options and parsed.stream_options.include_usage)
