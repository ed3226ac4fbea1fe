"""The HTTP application: routes, health, metrics and error responses in OpenAI's shape, never with a stack trace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from router_models.types import DecisionRecord
from serve_graph import __version__
from serve_graph.access.accounts import Accounts
from serve_graph.access.auth import EVENTS, AuthMiddleware
from serve_graph.access.caller import CALLER, SCOPE_NAMES
from serve_graph.access.keys import Keyring
from serve_graph.api.audit import add_audit, note_reading
from serve_graph.api.feedback import add_feedback
from serve_graph.api.generation import HttpLimits, add_generation
from serve_graph.api.messages.dialect import ANTHROPIC_PATHS, MessagesDialect
from serve_graph.api.messages.models import anthropic_model, anthropic_models, asks_anthropic
from serve_graph.api.openapi import describe, errors, reply
from serve_graph.api.readiness import readiness_for
from serve_graph.api.transport.connection import PlainReply, Reply, read_body
from serve_graph.api.transport.content_encoding import offered
from serve_graph.api.transport.cross_origin import CrossOrigin
from serve_graph.config.http import CorsConfig
from serve_graph.errors import (
    NotFoundError,
    RequestError,
    ServeGraphError,
    UnknownModelError,
    error_body,
    error_kind,
    retry_after,
    status_of,
)
from serve_graph.gateway.handler import AUTO, Service
from serve_graph.learning.feedback import FeedbackIntake
from serve_graph.policy.registry_events import MOST_EVENT_BYTES, RegistryEvents
from serve_graph.protocol.requests import UnknownFields

if TYPE_CHECKING:
    from serve_graph.api.batches.files import BatchParts
    from serve_graph.api.console.parts import ConsoleParts
    from serve_graph.records.audit_log import AuditLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backend:
    """What the routes need besides the service: decisions, readiness, metrics, access control, background work."""

    service: Service
    find_decision: Callable[[str], Awaitable[DecisionRecord | None]]
    readiness: Callable[[], Awaitable[dict[str, Any]]]
    metrics: Callable[[], Awaitable[str]]
    background: Callable[[], Awaitable[None]]
    max_body_bytes: int
    keep_alive_s: float = 5.0
    start_before_commit: bool = True
    keyring: Keyring = field(default_factory=Keyring)
    accounts: Accounts = field(default_factory=Accounts)
    is_open: bool = False
    unknown_fields: UnknownFields = "refuse"
    cors: CorsConfig = field(default_factory=CorsConfig)
    names_requests: bool = True
    body_timeout_s: float | None = None
    feedback: FeedbackIntake | None = None
    audit: AuditLog | None = None
    console: ConsoleParts | None = None
    batches: BatchParts | None = None
    registry_events: RegistryEvents | None = None


def build_http(backend: Backend) -> FastAPI:
    """Build the ASGI application of the ingress."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.ensure_future(backend.background())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app = FastAPI(title="serve-graph", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.router.default_response_class = Reply
    service = backend.service
    names = dict.fromkeys([AUTO, *service.context.engines, *service.context.embedders, *service.aliases])

    limits = HttpLimits(
        backend.max_body_bytes, backend.keep_alive_s, backend.start_before_commit, backend.body_timeout_s
    )
    turns = backend.accounts.turns
    add_generation(app, service, limits, turns, backend.unknown_fields)
    if backend.feedback is not None:
        most, timeout_s = backend.max_body_bytes, backend.body_timeout_s
        add_feedback(app, backend.feedback, most, timeout_s, turns, backend.unknown_fields)
    if (events := backend.registry_events) is not None:

        @app.post(EVENTS, include_in_schema=False)
        async def registry_event(request: Request) -> Response:
            body, _ = await read_body(request, MOST_EVENT_BYTES, backend.body_timeout_s)
            await events.take(request.headers, body)
            return Reply({"status": "ok"})

    app.router.route_class = GetRoute
    if (batches := backend.batches) is not None:
        from serve_graph.api.batches.routes import add_batches

        timeout_s = backend.body_timeout_s
        bodies = -(-batches.config.max_file_bytes // backend.max_body_bytes)
        add_batches(app, batches, turns, timeout_s, None if timeout_s is None else timeout_s * bodies, backend.audit)
    if backend.audit is not None:
        add_audit(app, backend.audit)
    if backend.console is not None:
        from serve_graph.api.console.routes import add_console

        add_console(app, backend.console)

    @app.get("/v1/models", responses=reply("ModelList") | errors(401, 403))
    async def models(request: Request) -> dict[str, Any]:
        if asks_anthropic(request):
            return anthropic_models(names)
        return {"object": "list", "data": [_model(name) for name in names]}

    @app.get("/v1/models/{model:path}", responses=reply("Model") | errors(401, 403, 404))
    async def model(model: str, request: Request) -> dict[str, Any]:
        if service.model_meant(model) not in names:
            raise UnknownModelError(f"the model {model!r} does not exist", "model", "model_not_found")
        return anthropic_model(model) if asks_anthropic(request) else _model(model)

    @app.get("/v1/decisions/{decision_id}", responses=reply("DecisionRecord") | errors(401, 403, 404, 503))
    async def decision(decision_id: str) -> Response:
        from serve_graph.records.explanation import explained

        CALLER.get().require("admin", SCOPE_NAMES["admin"])
        printable = decision_id.isprintable()  # PostgreSQL rejects NUL
        found = await backend.find_decision(decision_id) if printable else None
        if found is None:
            raise NotFoundError(f"no decision {decision_id!r} (records appear within a second of the reply)", "id")
        await note_reading(backend.audit, "decisions.read", decision_id, {"key": found.key})
        said = [] if backend.feedback is None else await backend.feedback.said_of(decision_id)
        page = explained(found, service.context.prices, service.context.policy.tiers)
        return Reply(page | {"feedback": [one.shown() for one in said]})

    @app.get("/healthz", responses=reply("Health") | errors(403))
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", responses={**reply("Readiness"), 503: reply("Readiness")[200]} | errors(403))
    async def readyz() -> Response:
        state = await backend.readiness()
        return Reply(readiness_for(CALLER.get(), state), status_code=200 if state["ready"] else 503)

    @app.get("/metrics", response_class=PlainReply, responses=errors(401, 403))
    async def metrics() -> Response:
        CALLER.get().require("admin", SCOPE_NAMES["admin"])
        return PlainReply(await backend.metrics(), media_type="text/plain; version=0.0.4")

    app.add_middleware(
        AuthMiddleware,
        keyring=backend.keyring,
        accounts=backend.accounts,
        refused=service.refuse,
        is_open=backend.is_open,
        origins=backend.cors.origins,
        dialect=MessagesDialect,
        dialect_paths=ANTHROPIC_PATHS,
        names_requests=backend.names_requests,
        sessions=None if backend.console is None else backend.console.sessions,
    )
    if backend.cors.origins:
        app.add_middleware(CrossOrigin, config=backend.cors)
    _install_guards(app, service.refuse, backend)
    context = service.context
    answering = [AUTO, *context.engines, *(a for a, name in service.aliases.items() if name in context.engines)]
    embedding = [AUTO, *context.embedders, *(a for a, name in service.aliases.items() if name in context.embedders)]
    describe(app, answering, embedding, lambda: backend.keyring.required)
    return app


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "serve-graph"}


def _install_guards(app: FastAPI, refused: Callable[[int], None], backend: Backend) -> None:
    """Convert every exception to OpenAI's error object.

    `refused` is called with the status of each request that is rejected before it has a decision record; a key that is
    rejected again and again waits for it.
    """

    async def counted(status: int) -> None:
        refused(status)
        if (key := CALLER.get().name) is not None:
            await backend.accounts.refusals.hold(key)

    @app.exception_handler(ServeGraphError)
    async def known(_: Request, error: ServeGraphError) -> Response:
        if isinstance(error, RequestError):  # an engine's rejection has a record and is not a RequestError
            await counted(status_of(error)[0])
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        await counted(error.status_code)
        message = f"{error.detail}: {request.method} {request.url.path}"
        return Reply(error_body(message, "invalid_request_error"), error.status_code, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Reply(error_body("client closed the request", "client_closed_request"), 499)

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> Response:
        logger.exception("unexpected error", exc_info=error)
        return Reply(error_body("internal error; see the server log", "server_error"), 500)


class GetRoute(APIRoute):
    """A route that answers HEAD as GET without the body, for probes and load balancers."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "HEAD":
            return await super().handle(scope, receive, send)

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        return await super().handle({**scope, "method": "GET"}, receive, without_body)


def error_response(error: ServeGraphError) -> Response:
    """Convert a ServeGraphError to an HTTP response."""
    status = status_of(error)[0]
    body = error_body(str(error), error_kind(error), getattr(error, "param", None), getattr(error, "code", None))
    wait = retry_after(error)
    headers = {} if wait is None else {"retry-after": wait}
    if status == 415:
        headers["accept-encoding"] = ", ".join(offered())
    return Reply(body, status, headers=headers)
