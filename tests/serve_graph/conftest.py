import asyncio
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from router_models.types import Call, DecisionRecord, Usage
from serve_graph.http import Backend, build_http
from serve_graph.metrics import render_metrics
from serve_graph.service import Service
from serve_graph.streaming import StreamTerms
from serve_graph.testing import ListSink, fake_graph
from serve_graph.trail import Graph

ROOT = Path(__file__).parents[2]
CALLER = ("127.0.0.1", 50_000)


@dataclass
class Endpoint:
    """The HTTP application over a graph of fakes, without a server."""

    graph: Graph
    sink: ListSink = field(default_factory=ListSink)
    max_body_bytes: int = 4096
    ready: bool = True
    terms: StreamTerms | None = None
    hold_tool_loops: bool = True
    keep_alive_s: float = 5.0
    start_before_commit: bool = True
    is_open: bool = False

    def __post_init__(self) -> None:
        self.service = Service(self.graph, self.sink, self.terms, hold_tool_loops=self.hold_tool_loops)
        self.app: FastAPI = build_http(
            Backend(
                self.service,
                self._find,
                self._readiness,
                self._metrics,
                self._background,
                self.max_body_bytes,
                self.keep_alive_s,
                self.start_before_commit,
                is_open=self.is_open,
            )
        )

    @property
    def record(self) -> DecisionRecord:
        """The only record there is."""
        [record] = self.sink.records
        return record

    def client(self, caller: tuple[str, int] = CALLER) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=caller)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    async def chat(self, model: str = "auto", content: Any = "hello", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
        async with self.client() as client:
            return await client.post("/v1/chat/completions", json=body)

    async def _find(self, decision_id: str) -> DecisionRecord | None:
        return next((record for record in self.sink.records if record.id == decision_id), None)

    async def _readiness(self) -> dict[str, Any]:
        return {"ready": self.ready}

    async def _metrics(self) -> str:
        return render_metrics(self.service.tally, 0, {})

    async def _background(self) -> None:
        return None


@pytest.fixture
def endpoint() -> Callable[..., Endpoint]:
    """Make an Endpoint; keywords are its own fields' or `fake_graph`'s."""

    def make(**settings: Any) -> Endpoint:
        own = {name: settings.pop(name) for name in list(settings) if name in Endpoint.__dataclass_fields__}
        return Endpoint(fake_graph(**settings), **own)

    return make


@pytest.fixture
def a_record() -> Callable[..., DecisionRecord]:
    """Make a DecisionRecord; keywords replace its fields."""

    def make(id: str = "dec-1", **fields: Any) -> DecisionRecord:
        calls = (
            Call("cheap", Usage(10, 5, 2), 0.25, Decimal("0.000002")),
            Call("frontier", Usage(12, 7), 1.5, Decimal("0.00026")),
        )
        values: dict[str, Any] = {
            "id": id,
            "created_at": "2026-01-02T03:04:05.678+00:00",
            "requested_model": "auto",
            "tier": "frontier",
            "outcome": "escalated",
            "version": "serve-graph-router/1",
            "status": 200,
            "stream": False,
            "prompt_sha256": "ab" * 32,
            "prompt_chars": 5,
            "route_reason": "estimated 0.900 ≥ 0.500: try cheap",
            "p_cheap_ok": 0.9,
            "distance": None,
            "verdict_reason": "estimated 0.100 < 0.500: escalate",
            "p_answer_ok": 0.1,
            "calls": calls,
            "cost_usd": Decimal("0.000262"),
            "latency_s": 1.76,
            "metadata": {"task": "naïve ☃"},
        }
        return DecisionRecord(**values | fields)

    return make


class PostgresServer:
    """A PostgreSQL server of the tests' own, on a free loopback port, that a test may stop and start."""

    def __init__(self, bin_folder: Path, folder: Path, user: str | None) -> None:
        self.bin = bin_folder
        self.folder = folder
        self.user = user
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -F"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options, "-w", "start"
        )

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def emptied(self) -> str:
        """The URL of the one database, emptied (making a database takes much longer)."""
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres")
        self._run("psql", *where, "-q", "-c", "DROP TABLE IF EXISTS decisions")
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        with (self.folder / "commands.log").open("ab") as log:  # a pipe would stay open in the server
            subprocess.run(command, check=True, stdout=log, stderr=log, user=self.user, cwd=self.folder, timeout=120)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server, started; skipped where its programs are not installed or no user may run it."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = sorted(debian, key=lambda path: float(path.parts[4])) or list(
        map(Path, filter(None, [shutil.which("initdb")]))
    )
    if not found:
        pytest.skip("PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        known = {entry.pw_name for entry in pwd.getpwall()}
        user = next((name for name in ("postgres", "nobody") if name in known), None)
        if user is None:
            pytest.skip("running as root, and there is no user postgres or nobody to run the PostgreSQL server as")
    folder = Path(tempfile.mkdtemp(prefix="sg-pg-", dir="/tmp"))
    if user is not None:
        shutil.chown(folder, user)
    server = PostgresServer(found[-1].parent, folder, user)
    server.start()
    yield server
    server.stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def sqlite_threads_end() -> AsyncIterator[None]:
    """Let aiosqlite's workers end before the loop does: after a failed connect they still report to it."""
    before = threading.active_count()
    yield
    for _ in range(500):
        if threading.active_count() <= before:
            break
        await asyncio.sleep(0.01)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty decision store of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.emptied()


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
def apis() -> Iterator[Callable[[str], Api]]:
    """Second server processes, each started when it is first asked for, by name."""
    started: dict[str, Api] = {}
    yield lambda name: started.setdefault(name, started.get(name) or Api(name))
    for api in started.values():
        api.stop()


@pytest.fixture
def api(apis: Callable[[str], Api], monkeypatch: pytest.MonkeyPatch) -> Api:
    """A second server process, with an empty script; its key is in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    api = apis("east")
    api.plays()
    return api


@pytest.fixture
def other_api(apis: Callable[[str], Api]) -> Api:
    """A third one."""
    api = apis("west")
    api.plays()
    return api
