import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


class Api:
    """An echo engine that speaks OpenAI in a process of its own, and misbehaves as a test scripts it."""

    def __init__(self, name: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/v1"
        command = [sys.executable, "-m", "serve_graph.engines.echo_server", "--port", str(self.port), "--name", name]
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        deadline = time.monotonic() + 60
        while True:
            try:
                self.state()
                return
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def plays(self, *faults: dict[str, Any]) -> None:
        """Set the script: one entry for each coming request, `times` repeats it; afterwards all is well."""
        self._asked("PUT", json.dumps(faults).encode())

    def state(self) -> dict[str, Any]:
        """`seen`, `open`, `left` and the `last` request."""
        return self._asked("GET")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def _asked(self, method: str, body: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/script", body, method=method)
        with urllib.request.urlopen(request, timeout=5) as reply:
            state: dict[str, Any] = json.loads(reply.read())
        return state


@pytest.fixture(scope="session")
def _apis() -> Iterator[Callable[[str], Api]]:
    started: dict[str, Api] = {}
    yield lambda name: started.setdefault(name, started.get(name) or Api(name))
    for api in started.values():
        api.stop()


@pytest.fixture
def api(_apis: Callable[[str], Api], monkeypatch: pytest.MonkeyPatch) -> Api:
    """A second server process, with an empty script; its key is in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    api = _apis("east")
    api.plays()
    return api


@pytest.fixture
def other_api(_apis: Callable[[str], Api]) -> Api:
    """A third one."""
    api = _apis("west")
    api.plays()
    return api
