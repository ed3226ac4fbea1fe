"""The middleware that authenticates and authorizes each HTTP request.

Plain ASGI, so streams and disconnects pass through unchanged.

Without keys, only loopback clients are admitted (any client if `is_open`), except web pages of other origins that the
configuration does not name, and they have every scope. With keys, every path except `/healthz` and `/readyz` requires
one.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_graph.access.accounts import Accounts
from serve_graph.access.caller import CALLER, SCOPE_NAMES, Caller, missing_scope
from serve_graph.access.console.sessions import (
    CONSOLE,
    ConsoleSessions,
    is_console,
    needs_no_session,
    refuse_other_pages,
    way_to_sign_in,
)
from serve_graph.access.keys import Keyring
from serve_graph.access.origins import is_forwarded, is_local_page, is_loopback, is_private_host
from serve_graph.access.paths import CANONICAL, canonical
from serve_graph.config.access import KeyConfig
from serve_graph.config.access import Scope as KeyScope
from serve_graph.config.http import ANY_PAGE, origin_pattern
from serve_graph.errors import (
    AccessError,
    AuthenticationError,
    BudgetSpentError,
    RateLimitedError,
    ServeGraphError,
    error_body,
    retry_after,
    status_of,
)

REPLY = "serve_graph.reply"
"""The scope's key for what every reply needs: when the request arrived, and headers."""
REFUSED_KEY = "serve_graph.refused_key"
"""The scope's key for the name of the access key whose request may be refused at the door."""
ADMITTED = "serve_graph.admitted"
"""The scope's key for whether the request has been counted for its key's limits."""
PATH_MODEL = "serve_graph.model"
"""The scope's key for the model that a path names."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")
RENEWALS = 2
"""How often a replica asks for parts of limits before it refuses: another may be giving back what it lacks."""
EVENTS = "/v1/registry/events"
OPEN = frozenset({"/healthz", "/readyz", EVENTS})
"""Paths that ask for no key; `EVENTS` asks for a signature."""
FORWARDED = frozenset(
    b"x-forwarded-for forwarded x-real-ip x-client-ip true-client-ip cf-connecting-ip x-original-forwarded-for".split()
)
BACKGROUND = "x-serve-graph-background"
"""The header of a request that nobody waits for."""
FEEDBACK_PATH = "/v1/feedback"
NEVER_ANSWERED = (FEEDBACK_PATH, "/v1/files", "/v1/batches")
"""Beginnings of paths of requests that no tier answers: they count against the limit on requests alone."""
NOT_WAITED_FOR = (*NEVER_ANSWERED, *OPEN)
"""Those, and what needs no key: whoever has none could keep batches waiting."""
ANY_KEY = ("/v1/models", "/v1/feedback")
ADMIN = ("/v1/decisions", "/v1/audit", "/metrics", "/console")


class AuthMiddleware:
    """ASGI middleware in front of every route; `refused` is called with the status of each rejected request.

    Requests whose path begins with one of `dialect_paths` go through `dialect` first, replies to them last: it may
    change the path, and the replies of this middleware too. `names_requests`: replies carry the request's id, which
    Ray Serve adds itself where it is in front. `sessions`: those of the console, None where there is no console.
    """

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring,
        accounts: Accounts,
        refused: Callable[[int], None] = lambda _: None,
        *,
        is_open: bool = False,
        origins: tuple[str, ...] = (),
        dialect: Callable[[ASGIApp], ASGIApp] | None = None,
        dialect_paths: tuple[str, ...] = (),
        names_requests: bool = True,
        sessions: ConsoleSessions | None = None,
    ) -> None:
        self.sessions = sessions
        self.names_requests = names_requests
        self.dialect = None if dialect is None else dialect(self._admitted)
        self.dialect_paths = dialect_paths
        self.refused = refused
        self.origins = origin_pattern(tuple(origin for origin in origins if origin not in ANY_PAGE))
        self.is_open = is_open
        self.app = app
        self.keyring = keyring
        self.accounts = accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope[REPLY] = time.perf_counter(), []
        if (prefix := scope.get("root_path", "")) and scope["path"].startswith(f"{prefix}/"):
            scope = {**scope, "path": scope["path"].removeprefix(prefix), "root_path": ""}
        if scope["path"] not in CANONICAL:
            path, model = canonical(scope["path"])
            scope = {**scope, "path": path, "raw_path": path.encode(), PATH_MODEL: model}
        if self.dialect is not None and scope["path"].startswith(self.dialect_paths):
            return await self.dialect(scope, receive, send)
        return await self._admitted(scope, receive, send)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            try:
                caller = self._authenticate(scope)
            except (RateLimitedError, BudgetSpentError) as error:
                caller = await self._authenticate_again(scope, error)
        except ServeGraphError as error:
            self.refused(status_of(error)[0])
            response = self._refusal(error, scope)
            started, named = scope[REPLY]
            took_ms = b"%d" % ((time.perf_counter() - started) * 1000)
            response.raw_headers += [*named, (b"openai-processing-ms", took_ms)]
            if self.keyring.required:
                await self.accounts.refusals.hold(scope.get(REFUSED_KEY, ""))
            return await response(scope, receive, send)
        token = CALLER.set(caller)
        waits = scope["method"] == "POST" and not scope["path"].startswith(NOT_WAITED_FOR)
        in_background = waits and caller.in_background
        waits = waits and not in_background
        traffic = self.accounts.traffic
        traffic.under_way += waits
        try:
            if in_background:
                async with self.accounts.background_place():
                    return await self.app(scope, receive, send)
            return await self.app(scope, receive, send)
        finally:
            CALLER.reset(token)
            if waits:
                traffic.under_way -= 1
                traffic.left_at = traffic.clock()
            if caller.takes_a_place and caller.key is not None:
                self.accounts.leave(caller.key)

    async def _authenticate_again(self, scope: Scope, refused: RateLimitedError | BudgetSpentError) -> Caller:
        """As `_authenticate`, once this replica has asked for parts of the limits that ran short; raises `refused`."""
        for _ in range(RENEWALS):
            if not await self.accounts.renewed():
                break
            del scope[REPLY][1][:]
            try:
                return self._authenticate(scope)
            except (RateLimitedError, BudgetSpentError) as error:
                refused = error
        raise refused

    def _authenticate(self, scope: Scope) -> Caller:
        """Return the caller; raises AuthenticationError, AccessError, RateLimitedError or BudgetSpentError."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        _, named = scope[REPLY]
        if self.names_requests:
            named.append((b"x-request-id", request_id.encode()))
        key = self._key(scope, headers)
        path = scope["path"]
        needed = None if self._is_open_page(path) else scopes_for(path)
        stranger = needed is None and key is None and self._is_stranger(headers)
        named_tier, session = headers.get("x-serve-graph-tier"), headers.get("x-serve-graph-session")
        caller = Caller(
            key, named_tier, session, request_id, stranger,
            traceparent=headers.get("traceparent"), tracestate=headers.get("tracestate"),
            in_background=BACKGROUND in headers,
        )  # fmt: skip
        if key is None or needed is None:
            return caller
        scope[REFUSED_KEY] = key.name
        for each in needed:
            if each not in key.scopes:
                raise missing_scope(each, SCOPE_NAMES[each])
        if scope["method"] == "POST" and "admin" not in needed:
            try:
                if ADMITTED not in scope:
                    self.accounts.admit(key, spends=not path.startswith(NEVER_ANSWERED))
                    scope[ADMITTED] = True
            finally:
                named += self.accounts.limit_headers(key)
            if key.concurrency is not None:
                self.accounts.enter(key)
                return replace(caller, takes_a_place=True)
        return caller

    def _key(self, scope: Scope, headers: Mapping[str, str]) -> KeyConfig | None:
        if not self.keyring.required:
            client = scope.get("client")
            if not self.is_open and client is not None and not is_loopback(client[0]):
                raise AccessError("without access keys this endpoint accepts loopback clients only")
            if not self.is_open and scope["path"] not in OPEN and _comes_from_elsewhere(scope):
                raise AccessError(
                    "without access keys this endpoint does not answer other machines, which a proxy forwards this "
                    "request for: create an access key, or set access.open: true",
                    code="forwarded_not_allowed",
                )
            self._refuse_foreign_pages(scope["path"], headers)
            if self.is_open and scope["path"].startswith(CONSOLE):
                raise AccessError("without access keys and with access.open, there is no console: create a key")
            if self.sessions is not None and scope["path"].startswith(CONSOLE):
                refuse_other_pages(scope["method"], headers)
            return None
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            secret = headers.get("x-api-key", "").strip() or headers.get("api-key", "")
        if self.sessions is not None and scope["path"].startswith(CONSOLE) and is_console(scope["path"]):
            refuse_other_pages(scope["method"], headers)
            if not secret.strip() and (signed_in := self.sessions.find(self.sessions.cookie_in(headers))) is not None:
                return signed_in
        if scope["path"] in OPEN or self._is_open_page(scope["path"]):  # whoever has a key is told more there
            return self.keyring.find(secret.strip())
        if not secret.strip():
            raise AuthenticationError(
                "no API key given; send it as `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`",
                code="missing_api_key",
            )
        key = self.keyring.find(secret.strip())
        if key is None:
            raise AuthenticationError("incorrect API key given", code="invalid_api_key")
        return key

    def _is_open_page(self, path: str) -> bool:
        return path.startswith(CONSOLE) and self.sessions is not None and needs_no_session(path)

    def _refusal(self, error: ServeGraphError, scope: Scope) -> Response:
        """The reply to a request that is not admitted: where a browser wants a page, the way to sign in."""
        if self.sessions is not None and isinstance(error, AuthenticationError) and is_console(scope["path"]):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            if (way := way_to_sign_in(scope["path"], scope["method"], headers)) is not None:
                return RedirectResponse(way, 303)
        return refusal(error)

    def _is_stranger(self, headers: Mapping[str, str]) -> bool:
        """Whether somebody without a key may be told no more than one word (paths that need none)."""
        host = headers.get("host")
        return self.keyring.required or not (self.is_open or host is None or is_private_host(host))

    def _refuse_foreign_pages(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise AccessError for a web page that is neither this machine's nor named in `http.cors.origins`."""
        origin, host = headers.get("origin"), headers.get("host")
        if origin is not None and not is_local_page(origin) and not self.origins.fullmatch(origin):
            raise AccessError(
                "without access keys this endpoint accepts no requests from web pages of other origins: list "
                f"{origin[:200]!r} in http.cors.origins (`*` and `null` need access keys)",
                code="origin_not_allowed",
            )
        if not self.is_open and host is not None and path not in OPEN and not is_private_host(host):
            raise AccessError(
                f"without access keys this endpoint does not answer for the host {host[:200]!r}: address it as "
                "localhost, create an access key, or set access.open: true",
                code="host_not_allowed",
            )


def _comes_from_elsewhere(scope: Scope) -> bool:
    """Whether a header by which proxies name callers, each as often as it was sent, names another machine."""
    return any(name in FORWARDED and is_forwarded(value.decode("latin-1")) for name, value in scope["headers"])


def scopes_for(path: str) -> tuple[KeyScope, ...] | None:
    """Return the scopes that a path requires: () = any valid key, None = no key."""
    if path in OPEN:
        return None
    if path.startswith(ADMIN):
        return ("admin",)
    return () if path.startswith(ANY_KEY) else ("use",)


def refusal(error: ServeGraphError) -> JSONResponse:
    """Convert an exception to an HTTP response with OpenAI's error object."""
    status, kind = status_of(error)
    wait = retry_after(error)
    headers = ({} if wait is None else {"retry-after": wait}) | (
        {"www-authenticate": "Bearer"} if status == 401 else {}
    )
    kind = getattr(error, "kind", kind)
    return JSONResponse(error_body(str(error), kind, None, getattr(error, "code", None)), status, headers)
