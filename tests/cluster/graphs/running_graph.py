"""A graph in a process of its own, as a user brings it up, and waiting until something is so."""

import asyncio
import json
import math
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from openai import OpenAI

from router_models.types import DecisionRecord
from serve_graph.cli.local.launch import free_port
from serve_graph.records.store import DecisionStore

HERE = Path(__file__).parent
ECHO = HERE.parents[2] / "configs" / "echo.yaml"
MARKER = "SERVE_GRAPH_TEST_RUN"
SCRATCH = re.compile(r"/tmp/sg-[a-z0-9_]{8}(?=/)")
"""The folder of a start, which HAProxy's command names."""


@dataclass
class RunningGraph:
    """A graph in its own process, and what a test needs to ask it, hurt it and stop it."""

    state: Path
    changes: dict[str, Any] = field(default_factory=dict)
    tier_timeout_s: float = 3.0
    replica_counts: dict[str, int] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: subprocess.Popen[str] | None = None

    def start(self, attempts: int = 3) -> "RunningGraph":
        """Bring it up. Ray gives a busy machine 30 s and then gives up: that, and only that, is tried again."""
        while True:
            try:
                return self._start(500.0)
            except AssertionError:
                self._let_go()
                attempts -= 1
                if attempts == 0 or "Ray did not start" not in self.log.read_text():
                    raise

    def _start(self, seconds: float) -> "RunningGraph":
        config = yaml.safe_load(ECHO.read_text())
        for section, values in self.changes.items():
            config[section] = config.get(section, {}) | values if isinstance(values, dict) else values
        self.port = free_port()
        config["http"] = config.get("http", {}) | {
            "port": self.port,
            "keep_alive_s": 0.5,
            "scaling": self._fixed("ingress"),
        }
        for name in ("router", "verifier"):  # one of each, unless more are wanted, so that killing it leaves none
            config["policy"][f"{name}_scaling"] = self._fixed(name)
        for tier in config["tiers"]:
            tier["timeout_s"] = self.tier_timeout_s
        self.echoes = sum(tier["engine"] == "echo" for tier in config["tiers"])
        config["state_folder"] = str(self.state)
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / "graph.yaml"
        path.write_text(yaml.safe_dump(config))
        self.log = self.state / "graph.log"
        begun = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "graph_process.py"), str(path)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {MARKER: self.run},
                start_new_session=True,
            )
        with ThreadPoolExecutor(1) as reader:
            try:
                self.url = reader.submit(self._read_url).result(seconds)
            except TimeoutError:
                for process in self.processes():
                    process.kill()
                raise AssertionError(f"the graph was not up after {seconds} s:\n{self.log.read_text()}") from None
        assert self.url, f"the graph did not come up:\n{self.log.read_text()}"
        self.up_s = time.monotonic() - begun
        self.client = httpx.Client(base_url=self.url, timeout=60, headers=self.headers)
        self.openai = OpenAI(api_key="none", base_url=f"{self.url}/v1", max_retries=0, timeout=60)
        return self

    def _fixed(self, deployment: str) -> dict[str, int]:
        n = self.replica_counts.get(deployment, 1)
        return {"min_replicas": n, "max_replicas": n}

    def _let_go(self) -> None:
        """Nothing of a start that failed stays behind to be warned of in the middle of somebody's test."""
        for process in self.processes():
            process.kill()
        assert self.process is not None
        self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read_url(self) -> str:
        """What the process prints when the graph is up; '' where it ends instead. Ray may print before it."""
        assert self.process is not None
        assert self.process.stdout is not None
        return next((line.strip() for line in self.process.stdout if line.startswith("http://")), "")

    def chat(self, content: str = "hello", model: str = "auto", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
        return self.client.post("/v1/chat/completions", json=body)

    def answers(self, times: int = 12) -> bool:
        """Whether every one of several new connections has a reply: none meets a replica that is gone."""
        try:
            return all(httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200 for _ in range(times))
        except httpx.TransportError:
            return False

    def hang_up(self, content: str, **fields: Any) -> None:
        """Ask, wait until an engine has been called, and close the connection; no other call may be under way.

        The body is sent after the headers, as most HTTP clients do.
        """
        until(lambda: self.busy() == 0)
        body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": content}], **fields}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port)) as caller:
            caller.sendall(head.encode())
            time.sleep(0.1)
            caller.sendall(body)
            until(lambda: self.busy() > 0, every=0.02)

    def busy(self) -> float:
        """Engine calls under way, by the echo engines' own count; NaN while one of them does not say."""
        lines = self.client.get("/metrics").text.splitlines()
        name = "serve_graph_engine_num_requests_running"
        counts = [float(line.split()[-1]) for line in lines if line.startswith(name)]
        return sum(counts) if len(counts) == self.echoes else math.nan

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The operating system's processes of one deployment, busy or not."""
        name = f"ServeReplica:serve-graph:{deployment}"
        return [p for p in self.processes() if name in " ".join(_quietly(p.cmdline, []))]

    def kill(self, deployment: str) -> set[int]:
        """SIGKILL every replica of a deployment; returns their process ids."""
        victims = self.replicas(deployment)
        assert victims, f"no replica of {deployment} found"
        for victim in victims:
            victim.kill()
        return {victim.pid for victim in victims}

    def processes(self) -> list[psutil.Process]:
        """Everything that this graph started and that still lives, whoever its parent is by now."""
        return [
            process
            for process in psutil.process_iter()
            if _quietly(process.environ, {}).get(MARKER) == self.run and _quietly(process.status, "zombie") != "zombie"
        ]

    def stop(self, name: signal.Signals, whole_group: bool = False, seconds: float = 90.0) -> int:
        """Signal the process (or, as a terminal's Ctrl-C does, its whole group) and wait; returns its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, name) if whole_group else self.process.send_signal(name)
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                for left in self.processes():
                    left.kill()
            if self.process.stdout is not None:
                self.process.stdout.close()
            if hasattr(self, "client"):  # it came up
                self.client.close()
                self.openai.close()

    def end(self) -> None:
        """Kill all of it, where no test is about how it stops, which takes five seconds."""
        scratch: set[str] = set()
        while left := self.processes():  # one that is killed later may have begun another
            for process in left:
                scratch |= set(SCRATCH.findall(" ".join(_quietly(process.cmdline, []))))
                _quietly(process.kill, None)
            psutil.wait_procs(left, 30)
        self.stop(signal.SIGKILL)
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def store_url(self) -> str:
        given = self.changes.get("records", {}).get("url")
        return given or f"sqlite+aiosqlite:///{self.state / 'decisions.db'}"

    def records(self) -> dict[str, list[DecisionRecord]]:
        """Every record in the store, by id, read behind the graph's back."""

        async def read() -> list[DecisionRecord]:
            store = DecisionStore(self.store_url)
            try:
                return await store.latest(1_000_000)
            finally:
                await store.close()

        found: dict[str, list[DecisionRecord]] = {}
        for record in asyncio.run(read()):
            found.setdefault(record.id, []).append(record)
        return found

    def names_so_far(self) -> set[str]:
        """The ids of every record written until now: none is still on its way."""
        until(lambda: "serve_graph_records_spooled 0.0\n" in self.client.get("/metrics").text)
        return set(self.records())

    def record_of(self, response: httpx.Response, seconds: float = 20.0) -> DecisionRecord:
        """The one record of a reply, as soon as the store has it."""
        name = response.headers["x-serve-graph-decision"]
        until(lambda: self.client.get(f"/v1/decisions/{name}").status_code == 200, seconds)
        [record] = self.records()[name]
        return record

    def locked_store(self) -> sqlite3.Connection:
        """Keep everybody else from writing to the SQLite store until the connection is closed."""
        connection = sqlite3.connect(self.state / "decisions.db", timeout=30, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        return connection


def _quietly(ask: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return ask()
    except psutil.Error:
        return otherwise


def until(ready: Callable[[], Any], seconds: float = 60.0, every: float = 0.2) -> float:
    """Wait until something is so; returns how long it took."""
    started = time.monotonic()
    while not ready():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"still not so after {seconds:g} s")
        time.sleep(every)
    return time.monotonic() - started
