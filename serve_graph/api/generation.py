"""The routes that generate: chat, text completions, responses, messages and embeddings, over one code path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fastapi import FastAPI, Request, Response

from router_models.types import Query
from serve_graph.access.auth import PATH_MODEL
from serve_graph.access.caller import CALLER
from serve_graph.access.turns import Turns
from serve_graph.api.formats import ChatFormat, FunctionsFormat, ResponseFormat, TextFormat
from serve_graph.api.messages import CountTokensRequest, MessagesFormat, MessagesRequest, messages_query
from serve_graph.api.openapi import errors, reply, request_body
from serve_graph.api.responses import ResponsesFormat, ResponsesRequest, responses_query
from serve_graph.api.transport.connection import EventStream, Reply, read_body, while_connected
from serve_graph.api.transport.content_encoding import decoded
from serve_graph.api.transport.sse import kept_alive, unbroken
from serve_graph.errors import BudgetSpentError, RateLimitedError, RequestError
from serve_graph.gateway.context_length import prompt_tokens
from serve_graph.gateway.embeddings import answer_embeddings, open_embeddings
from serve_graph.gateway.handler import Service
from serve_graph.gateway.request import Request as Opened
from serve_graph.protocol.async_stream import BufferedAsyncIterator
from serve_graph.protocol.bounds import NODES_AT_ONCE, PARSED_AT_ONCE
from serve_graph.protocol.embeddings import EmbeddingsRequest, embeddings_query
from serve_graph.protocol.requests import (
    ChatRequest,
    CompletionRequest,
    R,
    RequestOptions,
    StreamOptions,
    UnknownFields,
    chat_query,
    completion_query,
    options_of,
    parse_request,
)

FAILURES = (400, 401, 403, 404, 408, 413, 415, 429, 499, 500, 503, 504)
REFUSALS = tuple(status for status in FAILURES if status < 503)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The body size limit, the keep-alive interval of streams, and whether a stream may start before its commit."""

    max_body_bytes: int
    keep_alive_s: float
    start_before_commit: bool
    body_timeout_s: float | None = None


class OpenAIRequest(Protocol):
    """The fields that all generating requests have."""

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


def add_generation(
    app: FastAPI, service: Service, limits: HttpLimits, turns: Turns, unknown_fields: UnknownFields = "refuse"
) -> None:
    """Add the routes to the application; bodies that take long to read are read in `turns` of keys."""

    def rested() -> None:
        turns.check(CALLER.get().name)

    async def read(kind: type[R], request: Request) -> R:
        """Parse the body, beside the event loop and in the key's turn where that may take long: undoing its encoding
        is part of that. A key that has to rest is told so before its body is received.
        """
        most, model = limits.max_body_bytes, request.scope.get(PATH_MODEL)
        sent, codings = await read_body(request, most, limits.body_timeout_s, rested)
        if not codings and len(sent) <= PARSED_AT_ONCE and sent.count(b"{") + sent.count(b"[") <= NODES_AT_ONCE:
            return parse_request(kind, sent, unknown_fields, model)
        key = CALLER.get().name
        return await turns.run_on(
            key, len(sent), lambda: parse_request(kind, decoded(sent, codings, most), unknown_fields, model)
        )

    @app.post(
        "/v1/chat/completions",
        responses=reply("ChatCompletion", streams="ChatCompletionChunk") | errors(*FAILURES),
        openapi_extra=request_body("ChatRequest"),
    )
    async def chat_completions(request: Request) -> Response:
        parsed = await read(ChatRequest, request)
        shape = FunctionsFormat if parsed.uses_functions else ChatFormat
        return await respond(request, chat_query(parsed), parsed, shape(_wants_usage(parsed)))

    @app.post(
        "/v1/completions",
        responses=reply("Completion", streams="Completion") | errors(*FAILURES),
        openapi_extra=request_body("CompletionRequest"),
    )
    async def completions(request: Request) -> Response:
        parsed = await read(CompletionRequest, request)
        return await respond(request, completion_query(parsed), parsed, TextFormat(_wants_usage(parsed)))

    @app.post(
        "/v1/responses",
        responses=reply("Response", streams="ResponseStreamEvent") | errors(*FAILURES),
        openapi_extra=request_body("ResponsesRequest"),
    )
    async def responses(request: Request) -> Response:
        parsed = await read(ResponsesRequest, request)
        return await respond(request, responses_query(parsed), parsed, ResponsesFormat(parsed))

    @app.post(
        "/v1/messages",
        responses=reply("AnthropicMessage", streams="AnthropicStreamEvent")
        | errors(*FAILURES, 529, speaks="Anthropic"),
        openapi_extra=request_body("MessagesRequest"),
    )
    async def messages(request: Request) -> Response:
        parsed = await read(MessagesRequest, request)
        return await respond(request, messages_query(parsed), parsed, MessagesFormat.of(parsed))

    @app.post(
        "/v1/messages/count_tokens",
        responses=reply("AnthropicTokenCount") | errors(*REFUSALS, speaks="Anthropic"),
        openapi_extra=request_body("CountTokensRequest"),
    )
    async def count_tokens(request: Request) -> Response:
        parsed = await read(CountTokensRequest, request)
        query = messages_query(parsed)
        service.open(
            query, parsed.model, False, parsed.serve_graph, reserves=False
        )  # raises if the model is unknown or forbidden
        return Reply({"input_tokens": prompt_tokens(query)})

    @app.post(
        "/v1/embeddings",
        responses=reply("CreateEmbeddingResponse") | errors(*FAILURES),
        openapi_extra=request_body("EmbeddingsRequest"),
    )
    async def embeddings(request: Request) -> Response:
        parsed = await read(EmbeddingsRequest, request)
        query, body = embeddings_query(parsed)
        opened = await opened_for(service, lambda: open_embeddings(service, query, parsed.model))
        try:
            answer = await while_connected(request, answer_embeddings(service, opened, body))
        except BaseException:
            service.record(opened, asyncio.CancelledError())  # no effect unless cancelled before it started
            raise
        return Reply(answer, headers=opened.headers())

    async def respond(
        request: Request, query: Query, parsed: OpenAIRequest, response_format: ResponseFormat
    ) -> Response:
        if parsed.stream_options and not parsed.stream:
            raise RequestError("stream_options requires stream: true", "stream_options", "invalid_value")
        options = options_from(parsed)
        opened = await opened_for(service, lambda: service.open(query, parsed.model, bool(parsed.stream), options))
        try:
            if parsed.stream:
                return await streamed(request, opened, response_format)
            answer = await while_connected(request, service.answer(opened, response_format.whole))
        except BaseException:
            service.record(opened, asyncio.CancelledError())  # no effect unless cancelled before it started
            raise
        return Reply(answer, headers=opened.headers())

    async def streamed(request: Request, opened: Opened, response_format: ResponseFormat) -> Response:
        """Start the response with the first chunk, or with comments after `keep_alive_s`.

        Failures before that are raised and become an HTTP status.
        """
        chunks = BufferedAsyncIterator(service.stream(opened))
        try:
            wait_s = limits.keep_alive_s if limits.start_before_commit else None
            first = await while_connected(request, chunks.started(wait_s))
            if first.done():
                first.result()
        except BaseException:
            await chunks.aclose()
            raise
        started = first.done()
        events = kept_alive(
            response_format.events(unbroken(chunks.source, first)), limits.keep_alive_s, at_once=not started
        )

        async def ending() -> None:
            await chunks.aclose()
            service.record(opened, asyncio.CancelledError())  # no effect if the stream has written its record

        return EventStream(events, opened.headers(committed=started), ending)


async def opened_for(service: Service, accept: Callable[[], Opened]) -> Opened:
    """Accept a request, once more where its key's limits ran short here and other replicas gave parts back."""
    try:
        return accept()
    except (RateLimitedError, BudgetSpentError):
        if not await service.renewed():
            raise
        return accept()


def options_from(parsed: OpenAIRequest) -> RequestOptions | None:
    """Return the request's options for the policy, with a session taken from OpenAI's own fields if they set none."""
    return options_of(parsed.serve_graph, parsed.prompt_cache_key, parsed.user)


def _wants_usage(parsed: OpenAIRequest) -> bool:
    return bool(parsed.stream_options and parsed.stream_options.include_usage)
