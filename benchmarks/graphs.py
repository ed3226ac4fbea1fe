"""Graphs that a benchmark starts, and what each of their processes uses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
SERVE_GRAPH = str(Path(sys.executable).parent / "serve-graph")
_MARK = "SERVE_GRAPH_BENCHMARK"
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """Something that is measured did not start, or did not answer as it should."""


@dataclass(frozen=True)
class Usage:
    """Processor seconds since the processes began, and resident memory in bytes."""

    cpu_s: float = 0.0
    resident: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu_s + other.cpu_s, self.resident + other.resident)


@dataclass(frozen=True)
class Started:
    """A program of a benchmark with all the processes that it started, found by a mark in their environment."""

    url: str
    mark: str

    def usage(self) -> dict[str, Usage]:
        """What the processes use, by kind: a Ray actor's class, a deployment, else the name of the program."""
        found: dict[str, Usage] = defaultdict(Usage)
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._is_ours(folder):
                    found[_kind(folder)] += _usage(folder)
        return dict(found)

    def replicas(self, deployment: str) -> int:
        """How many processes are replicas of a deployment, those that start or stop included."""
        named = f"ServeReplica:serve-graph:{deployment}".encode()
        found = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                found += named in (folder / "cmdline").read_bytes() and self._is_ours(folder)
        return found

    def _is_ours(self, folder: Path) -> bool:
        return f"{_MARK}={self.mark}".encode() in (folder / "environ").read_bytes()


def _kind(folder: Path) -> str:
    said = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    if replica := re.match(r"ray::ServeReplica:[^:]*:([^.\s]+)", said):
        return replica[1]
    if actor := re.match(r"ray::(\w+)", said):
        return actor[1]
    names = ("haproxy", "raylet", "gcs_server", "serve-graph", "litellm", "uvicorn", "node", "dashboard", "agent")
    return next((name for name in names if name in said), "other")


def _usage(folder: Path) -> Usage:
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, resident)


@contextlib.contextmanager
def started(
    words: list[str], url: str, log: Path, within_s: float = 240, ready: str = "/readyz", **environment: str
) -> Iterator[Started]:
    """A program, once `ready` below its URL answers with 200; it is stopped by Ctrl-C, whatever happens."""
    mark = uuid.uuid4().hex
    env = os.environ | environment | {_MARK: mark}
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=out, cwd=ROOT, env=env) as running:
        try:
            until = time.monotonic() + within_s
            while not _answers(url + ready):
                if running.poll() is not None or time.monotonic() > until:
                    raise BenchmarkError(f"{words[0]} does not answer: {log.read_text()[-2000:]}")
                time.sleep(0.5)
            yield Started(url, mark)
        finally:
            running.send_signal(signal.SIGINT)
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                running.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def serve_graph(*words: str) -> str:
    """Run a command of `serve-graph` to its end; returns what it printed, raises BenchmarkError where it fails."""
    done = subprocess.run([SERVE_GRAPH, *words], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise BenchmarkError(f"serve-graph {' '.join(words)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout
