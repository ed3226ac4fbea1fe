"""Middleware for callers that speak Anthropic's API: paths, error objects and the `request-id` header."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_graph.api.messages.errors import translated_error

PREFIX = "/anthropic"
ANTHROPIC_PATHS = ("/v1/messages", "/v1/models", f"{PREFIX}/")
VERSION = b"anthropic-version"
REQUEST_ID_HEADER = b"x-request-id"


class MessagesDialect:
    """Serve `/anthropic/v1/…` as `/v1/…`, and convert every error reply to Anthropic's shape, wherever it was made.

    Errors of `/v1/models` are converted if the request has an `anthropic-version` header. The `request-id` of a reply
    is its `x-request-id`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if not path.startswith((PREFIX, "/v1/messages")) and not any(name == VERSION for name, _ in scope["headers"]):
            return await self.app(scope, receive, send)
        translation = Translation(send, scope["headers"])
        try:
            await self.app(_without_prefix(scope), receive, translation)
        except Exception:
            if not translation.started:  # the handler of unexpected errors, outside this, can only log it
                await translation.failed()
            raise


class Translation:
    """A `send` that holds an error reply back until its body is there, and converts it."""

    def __init__(self, send: Send, asked: Iterable[tuple[bytes, bytes]]) -> None:
        self.send = send
        self.asked = asked
        self.started = False
        self.held: Message | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        self.started = True
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self.held = message
                return
            headers = list(message["headers"])
            message = {**message, "headers": [*headers, (b"request-id", _request_id(headers, self.asked).encode())]}
        elif self.held is not None:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_error(self.held)
            return
        await self.send(message)

    async def failed(self) -> None:
        """Send the reply to a request that failed unexpectedly."""
        self.body = json.dumps({"error": {"message": "internal error; see the server log"}}).encode()
        await self._send_error({"type": "http.response.start", "status": 500, "headers": []})

    async def _send_error(self, start: Message) -> None:
        named = _request_id(start["headers"], self.asked)
        status, content = translated_error(start["status"], _error_in(self.body), named)
        body = json.dumps(content).encode()
        own = (b"content-length", b"content-type")
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in own]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers.append((b"request-id", named.encode()))
        await self.send({**start, "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _without_prefix(scope: Scope) -> Scope:
    if not scope["path"].startswith(f"{PREFIX}/v1/"):
        return scope
    raw = scope.get("raw_path") or scope["path"].encode()
    return {**scope, "path": scope["path"].removeprefix(PREFIX), "raw_path": raw.removeprefix(PREFIX.encode())}


def _request_id(*headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the request's id from its reply's headers, or from its own where Ray Serve names it; else a new one."""
    given = (value for name, value in chain(*headers) if name.lower() == REQUEST_ID_HEADER)
    return next((value.decode("latin-1") for value in given), f"req_{uuid.uuid4().hex}")


def _error_in(body: bytes) -> Mapping[str, Any]:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = None
    return error if isinstance(error, Mapping) else {}
