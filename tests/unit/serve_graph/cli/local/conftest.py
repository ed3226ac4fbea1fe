"""What answers `/readyz` as a running graph does."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest


class ReadyServer(HTTPServer):
    """Answers every GET with what `reply` makes of its `authorization` header: a status and an object."""

    reply: Callable[[str | None], tuple[int, Any]] = staticmethod(lambda _: (200, {}))


class _Handler(BaseHTTPRequestHandler):
    server: ReadyServer

    def do_GET(self) -> None:
        status, told = self.server.reply(self.headers["authorization"])
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def ready_server() -> Iterator[ReadyServer]:
    server = ReadyServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
