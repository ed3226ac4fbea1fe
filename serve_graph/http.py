"""Wire ⇄ nouns: the routes, nothing else. Every error leaves in OpenAI's shape; none shows a stack trace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from router_models.types import DecisionRecord
from serve_graph.access.accounts import Accounts
from serve_graph.access.gate import AccessGate
from serve_graph.access.keys import Keyring
from serve_graph.errors import (
    NotFoundError,
    PayloadTooLargeError,
    RequestError,
    ServeGraphError,
    error_body,
    retry_after,
    status_of,
)
from serve_graph.openai_api import (
    ChatRequest,
    CompletionRequest,
    RequestOptions,
    Sampling,
    chat_query,
    completion_query,
    options_of,
    parse_request,
)
from serve_graph.service import AUTO, Service
from serve_graph.streaming import kept_alive

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backend:
    """What the routes need beside the service: the decision log, health, metrics, and what runs for ever."""

    service: Service
    find_decision: Callable[[str], Awaitable[DecisionRecord | None]]
    readiness: Callable[[], Awaitable[dict[str, Any]]]
    metrics: Callable[[], Awaitable[str]]
    background: Callable[[], Awaitable[None]]
    max_body_bytes: int
    keep_alive_s: float = 5.0
    keyring: Keyring = field(default_factory=Keyring)
    accounts: Accounts = field(default_factory=Accounts)


def build_http(backend: Backend) -> FastAPI:
    """The ASGI application of the ingress."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.ensure_future(backend.background())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app = FastAPI(title="serve-graph", version="0.1.0", docs_url=None, redoc_url=None, lifespan=lifespan)
    service = backend.service

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        asked = parse_request(ChatRequest, await read_body(request, backend.max_body_bytes))
        query = chat_query(asked)
        if asked.stream_options and not asked.stream:
            raise RequestError("stream_options needs stream: true", "stream_options", "invalid_value")
        opened = service.open(query, asked.model, bool(asked.stream), wishes(asked))
        opened.include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        if asked.stream:
            events = kept_alive(await service.stream(opened), backend.keep_alive_s)
            headers = service.headers(opened, with_cost=opened.trail.completion is not None)
            return EventStream(events, headers)
        reply = await service.answer(opened)
        return JSONResponse(reply, headers=service.headers(opened, with_cost=True))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        asked = parse_request(CompletionRequest, await read_body(request, backend.max_body_bytes))
        if asked.stream:
            raise RequestError(
                "/v1/completions does not stream; use /v1/chat/completions", "stream", "unsupported_value"
            )
        opened = service.open(completion_query(asked), asked.model, False, wishes(asked))
        reply = await service.answer(opened)
        choice = reply["choices"][0]
        text = {"index": 0, "text": choice["message"]["content"] or "", "logprobs": None}
        reply |= {"object": "text_completion", "choices": [text | {"finish_reason": choice["finish_reason"]}]}
        return JSONResponse(reply, headers=service.headers(opened, with_cost=True))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        names = [AUTO, *service.graph.engines]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "serve-graph"} for name in names]
        return {"object": "list", "data": data}

    @app.get("/v1/decisions/{decision_id}")
    async def decision(decision_id: str) -> Response:
        from serve_graph.explaining import explained

        found = await backend.find_decision(decision_id)
        if found is None:
            raise NotFoundError(f"no decision {decision_id!r} (records appear within a second of the reply)", "id")
        return JSONResponse(explained(found, service.graph.prices, service.graph.policy.tiers))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        state = await backend.readiness()
        return JSONResponse(state, status_code=200 if state["ready"] else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(await backend.metrics(), media_type="text/plain; version=0.0.4")

    app.add_middleware(AccessGate, keyring=backend.keyring, accounts=backend.accounts)
    _install_guards(app)
    return app


def wishes(asked: Sampling) -> RequestOptions | None:
    """What the caller asks of the policy, a session in OpenAI's own fields included."""
    return options_of(asked.serve_graph, asked.prompt_cache_key, asked.user)


def _install_guards(app: FastAPI) -> None:
    """Turn every exception into OpenAI's error object."""

    @app.exception_handler(ServeGraphError)
    async def known(_: Request, error: ServeGraphError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        message = f"{error.detail}: {request.method} {request.url.path}"
        return JSONResponse(error_body(message, "invalid_request_error"), error.status_code, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return JSONResponse(error_body("client closed the request", "client_closed_request"), 499)

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> Response:
        logger.exception("unexpected error", exc_info=error)
        return JSONResponse(error_body("internal error; the log has the details", "server_error"), 500)


class EventStream(StreamingResponse):
    """Server-sent events, closed however the sending ends: a caller who leaves must not leave the engine talking."""

    def __init__(self, events: AsyncGenerator[bytes, None], headers: dict[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.events.aclose()


def error_response(error: ServeGraphError) -> Response:
    """An exception of ours as an HTTP reply."""
    status, kind = status_of(error)
    body = error_body(str(error), kind, getattr(error, "param", None), getattr(error, "code", None))
    wait = retry_after(error)
    return JSONResponse(body, status, headers=None if wait is None else {"retry-after": wait})


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, or PayloadTooLargeError as soon as it exceeds `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise PayloadTooLargeError(f"the request body exceeds {limit} bytes", code="payload_too_large")
        parts.append(part)
    return b"".join(parts)
