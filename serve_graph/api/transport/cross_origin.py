"""What web pages of other origins may do: Starlette's CORS middleware, as `http.cors` configures it."""

from __future__ import annotations

import functools
import logging

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_graph.api.transport.connection import Reply
from serve_graph.config.http import CorsConfig, origin_pattern
from serve_graph.errors import error_body

logger = logging.getLogger(__name__)
READABLE = (
    "openai-processing-ms",
    "request-id",
    "retry-after",
    *(f"x-ratelimit-{name}-{what}" for what in ("requests", "tokens") for name in ("limit", "remaining", "reset")),
    "x-request-id",
    "x-serve-graph-cost-usd",
    "x-serve-graph-decision",
    "x-serve-graph-outcome",
    "x-serve-graph-layer",
    "x-serve-graph-intent",
    "x-serve-graph-tier",
    "x-serve-graph-version",
)
"""The reply's headers that scripts of a web page may read."""


class CrossOrigin(CORSMiddleware):
    """Adds CORS headers to every reply, errors of all kinds included, and answers preflight requests.

    The outermost middleware, in front of authentication: a preflight request carries no key. Starlette's handler of
    unexpected errors is outside every middleware, and its replies would have no CORS headers: the 500 is made here.
    """

    def __init__(self, app: ASGIApp, config: CorsConfig) -> None:
        super().__init__(
            app,
            allow_origins=["*"] if "*" in config.origins else [],
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            allow_credentials=config.credentials,
            allow_private_network=True,
            expose_headers=READABLE,
            max_age=config.max_age_s,
        )
        self.allow_origin_regex = origin_pattern(config.origins)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        body = error_body(bytes(response.body).decode(), "permission_error", code="origin_not_allowed")
        return JSONResponse(body, 400, kept)

    async def simple_response(self, scope: Scope, receive: Receive, send: Send, request_headers: Headers) -> None:
        with_headers = functools.partial(self.send, send=send, request_headers=request_headers)
        started = False

        async def passed_on(message: Message) -> None:
            nonlocal started
            started = True
            await with_headers(message)

        try:
            await self.app(scope, receive, passed_on)
        except Exception as error:
            if started:
                raise
            logger.exception("unexpected error", exc_info=error)
            failed = Reply(error_body("internal error; see the server log", "server_error"), 500)
            await failed(scope, receive, with_headers)
