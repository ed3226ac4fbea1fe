"""The upstream of all gateways: the echo engine over HTTP, with the pages that gateways look at before they call it.

python -m benchmarks.gateways.upstream --port 9000
"""

from __future__ import annotations

import argparse
import json

import uvicorn
from starlette.types import Receive, Scope, Send

from serve_graph.engines.echo.server import EchoServer

MODEL = "echo"
PAGES = {
    "/health": {},
    "/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "echo"}]},
}


class Upstream:
    """The ASGI application."""

    def __init__(self) -> None:
        self.echo = EchoServer(MODEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = PAGES.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        if page is None:
            return await self.echo(scope, receive, send)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(page).encode()})
        return None


def main() -> None:
    """Serve on loopback until stopped."""
    reads = argparse.ArgumentParser(description=main.__doc__)
    reads.add_argument("--port", type=int, required=True)
    uvicorn.run(Upstream(), host="127.0.0.1", port=reads.parse_args().port, log_level="critical", proxy_headers=False)


if __name__ == "__main__":
    main()
