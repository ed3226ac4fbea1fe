"""The echo engine as an OpenAI-compatible HTTP API with scripted faults and replies, for tests and benchmarks.

    python -m serve_graph.engines.echo.server --port 9000

`PUT /script` takes a list for the coming requests: faults `{"fault": NAME, "times": N, …}`, see `FAULTS`, and whole
replies, see `scripted`, which answer a POST to any path. `GET /script` returns how many requests were `seen` and are
`open`, how many entries are `left`, and the `last` request's path, headers and body. Any key is accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from starlette.types import Receive, Scope, Send

from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.engines.echo.engine import EchoEngine, EchoError
from serve_graph.engines.echo.scripted import check_script, send_scripted

Fault = Mapping[str, Any]
JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream")
NO_PRICE = PriceConfig(input_usd_per_mtok=Decimal(0), output_usd_per_mtok=Decimal(0))
ECHO_USAGE = MappingProxyType({"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7})


class EchoServer:
    """The ASGI application. One script for all connections, in the order in which requests arrive."""

    def __init__(self, name: str = "echo") -> None:
        self.engine = EchoEngine(EchoTierConfig(name=name, engine="echo", price=NO_PRICE))
        self.script: deque[Fault] = deque()
        self.seen = 0
        self.open = 0
        self.last: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["path"] == "/script" and scope["method"] == "PUT":
            try:
                self.script = deque(check_script(json.loads(await _body(receive)), FAULTS))
            except ValueError as error:
                await _whole(send, 400, json.dumps({"error": {"message": str(error)}}).encode())
                return
            self.seen = 0
            await _whole(send, 200, b"{}")
        elif scope["path"] == "/script":
            state = {"seen": self.seen, "open": self.open, "left": len(self.script), "last": self.last}
            await _whole(send, 200, json.dumps(state).encode())
        elif scope["method"] == "POST" and (
            self.script or scope["path"].endswith(("/chat/completions", "/embeddings"))
        ):
            await self._answer(scope, receive, send)
        else:
            await _whole(send, 404, b'{"error": {"message": "no such path"}}')

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _parsed(await _body(receive))
        headers = {k.decode(): v.decode("latin-1") for k, v in scope["headers"]}
        self.last = {"path": scope["path"], "headers": headers, "body": body}
        entry = self.script.popleft() if self.script else {"fault": "none"}
        self.seen += 1
        self.open += 1
        reply = FAULTS[entry["fault"]](self, body, entry, send) if "fault" in entry else send_scripted(entry, send)
        answering = asyncio.ensure_future(reply)
        disconnect = asyncio.ensure_future(receive())  # the only remaining message is the disconnect
        try:
            await asyncio.wait({answering, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open -= 1
            for task in (answering, disconnect):
                task.cancel()
            await asyncio.gather(answering, disconnect, return_exceptions=True)

    async def answer(self, body: dict[str, Any], _: Fault, send: Send) -> None:
        """No fault: a completion, or its stream."""
        try:
            if "input" in body:
                return await _whole(send, 200, json.dumps(self.engine.embed(body)).encode())
            if not body.get("stream"):
                return await _whole(send, 200, json.dumps(await self.engine.generate(body)).encode())
            await _begin(send, 200, SSE)
            async for event in self.events(body):
                await _piece(send, event)
            await _piece(send, b"data: [DONE]\n\n", more=False)
        except EchoError as fault:
            await _whole(send, fault.status, json.dumps({"error": {"message": fault.message}}).encode())

    async def status(self, _: dict[str, Any], fault: Fault, send: Send) -> None:
        """Reply with `status`, and `retry_after` where given."""
        wait = [(b"retry-after", str(fault["retry_after"]).encode())] if "retry_after" in fault else []
        error = {"error": {"message": fault.get("message", "scripted"), "code": "scripted"}}
        await _whole(send, fault["status"], json.dumps(error).encode(), *wait)

    async def slow(self, body: dict[str, Any], fault: Fault, send: Send) -> None:
        """Send the headers at once, then the answer in small parts, one every `seconds`."""
        await _begin(send, 200, SSE if body.get("stream") else JSON)
        async for crumb in self._crumbs(body):
            await _piece(send, crumb)
            await asyncio.sleep(fault.get("seconds", 0.2))
        await _piece(send, b"", more=False)

    async def reset(self, body: dict[str, Any], fault: Fault, send: Send) -> None:
        """Close the socket with a reset after `after` parts of the answer (0: before any)."""
        after = fault.get("after", 0)
        if after:
            await _begin(send, 200, SSE if body.get("stream") else JSON)
            sent = 0
            async for crumb in self._crumbs(body):
                if sent == after:
                    break
                await _piece(send, crumb)
                await asyncio.sleep(0.02)
                sent += 1
        _reset(send)

    async def malformed(self, body: dict[str, Any], _: Fault, send: Send) -> None:
        """Reply with status 200 and truncated JSON; in a stream, after its first word."""
        if not body.get("stream"):
            return await _whole(send, 200, b'{"id": "x", "choices": [{"message": ')
        await _begin(send, 200, SSE)
        events = self.events(body)
        await _piece(send, await anext(events))
        await _piece(send, b'data: {"id": "x", "choices": [{"del\n\n', more=False)
        return None

    async def error_body(self, body: dict[str, Any], fault: Fault, send: Send) -> None:
        """Reply with status 200 and an error object, with `code` where given."""
        error = json.dumps(
            {"error": {"message": "scripted", "code": fault.get("code")}, "usage": dict(ECHO_USAGE)}
        ).encode()
        if not body.get("stream"):
            return await _whole(send, 200, error)
        await _begin(send, 200, SSE)
        return await _piece(send, b"data: " + error + b"\n\n", more=False)

    async def no_choices(self, body: dict[str, Any], fault: Fault, send: Send) -> None:
        """Reply with status 200 and usage but without an answer, or with invalid `choices`."""
        choices = fault.get("choices", [])
        reply = json.dumps(
            {"id": "x", "object": "chat.completion", "choices": choices, "usage": dict(ECHO_USAGE)}
        ).encode()
        if not body.get("stream"):
            return await _whole(send, 200, reply)
        await _begin(send, 200, SSE)
        return await _piece(send, b"data: " + reply + b"\n\ndata: [DONE]\n\n", more=False)

    async def choiceless(self, body: dict[str, Any], _: Fault, send: Send) -> None:
        """Reply with the answer; a stream also has chunks without choices before, between and after the others.

        Such chunks are valid: APIs use them for filter results of the prompt, keep-alives, usage or their own data.
        """
        if not body.get("stream"):
            return await self.answer(body, _, send)
        head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "echo"}
        extra = [head | {"choices": []}, head | {"choices": None}, head]
        await _begin(send, 200, SSE)
        async for event in self.events(body):
            for chunk in extra:
                await _piece(send, b"data: " + json.dumps(chunk).encode() + b"\n\n")
            await _piece(send, event)
        for chunk in extra:
            await _piece(send, b"data: " + json.dumps(chunk).encode() + b"\n\n")
        return await _piece(send, b"data: [DONE]\n\n", more=False)

    async def html(self, _: dict[str, Any], fault: Fault, send: Send) -> None:
        """Reply with a proxy's HTML page instead of JSON."""
        page = b"<html><body>Bad gateway</body></html>"
        await _begin(send, fault.get("status", 200), (b"content-type", b"text/html"))
        await _piece(send, page, more=False)

    async def hang(self, _: dict[str, Any], __: Fault, ___: Send) -> None:
        """Accept the request and never reply."""
        await asyncio.Event().wait()

    async def events(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        """Yield the answer's stream as server-sent events."""
        async for chunk in self.engine.stream(body):
            yield b"data: " + json.dumps(chunk).encode() + b"\n\n"

    async def _crumbs(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        if body.get("stream"):
            async for event in self.events(body):
                yield event
            return
        whole = json.dumps(await self.engine.generate(body)).encode()
        for start in range(0, len(whole), 40):
            yield whole[start : start + 40]


FAULTS: Mapping[str, Callable[[EchoServer, dict[str, Any], Fault, Send], Awaitable[None]]] = MappingProxyType(
    {
        "none": EchoServer.answer,
        "status": EchoServer.status,
        "slow": EchoServer.slow,
        "reset": EchoServer.reset,
        "malformed": EchoServer.malformed,
        "error_body": EchoServer.error_body,
        "no_choices": EchoServer.no_choices,
        "choiceless": EchoServer.choiceless,
        "html": EchoServer.html,
        "hang": EchoServer.hang,
    }
)


async def _lifespan(receive: Receive, send: Send) -> None:
    for kind in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{kind}.complete"})


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


async def _begin(send: Send, status: int, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def _piece(send: Send, piece: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _whole(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await _begin(send, status, JSON, *headers)
    await _piece(send, body, more=False)


def _reset(send: Send) -> None:
    """Close uvicorn's connection with a reset, through its transport, since ASGI has no such message."""
    transport = send.__self__.transport  # type: ignore[attr-defined]
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()


def main() -> None:
    """Serve on loopback until stopped."""
    import uvicorn

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="echo")
    args = parser.parse_args()
    uvicorn.run(
        EchoServer(args.name),
        host="127.0.0.1",
        port=args.port,
        log_level="critical",
        proxy_headers=False,
        loop="asyncio",
    )


if __name__ == "__main__":
    main()
