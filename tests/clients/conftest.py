import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn


@pytest.fixture
def served(endpoint: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Serve an Endpoint of fakes on a loopback port of its own; the Endpoint comes back with `url` (…/v1)."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(**settings: Any) -> Any:
        at = endpoint(**settings)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(at.app, port=port, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        for _ in range(6000):
            if server.started:
                break
            time.sleep(0.01)
        running.append((server, thread))
        at.url = f"http://127.0.0.1:{port}/v1"
        return at

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(10)
