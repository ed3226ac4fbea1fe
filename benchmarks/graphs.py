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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
SERVE_GRAPH = str(Path(sys.executable).parent / "serve-graph")
MARK = "SERVE_GRAPH_BENCHMARK"
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
class Marked:
    """Processes with a mark in their environment, which is that of all whom they started."""

    mark: str

    def each(self) -> Iterator[tuple[int, str, Usage]]:
        """Each process: its id, its kind (a Ray actor's class, a deployment, else the program), what it uses."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.has(folder):
                    yield int(folder.name), _kind(folder), _usage(folder)

    def has(self, folder: Path) -> bool:
        """Whether a process, by its folder below /proc, is one of these."""
        return f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes()

    def usage(self) -> dict[str, Usage]:
        """What the processes use, by kind."""
        found: dict[str, Usage] = defaultdict(Usage)
        for _, kind, used in self.each():
            found[kind] += used
        return dict(found)

    def replicas(self, deployment: str) -> int:
        """How many processes are replicas of a deployment, those that start or stop included."""
        return sum(kind == deployment for _, kind, _ in self.each())


@dataclass(frozen=True)
class Started(Marked):
    """A program of a benchmark with what it started; the program itself may write its title over its environment."""

    url: str
    pid: int = 0

    def has(self, folder: Path) -> bool:
        return folder.name == str(self.pid) or super().has(folder)


def engines_of(kinds: Iterable[tuple[str, float]]) -> float:
    """What vLLM's own processes have of a quantity that is known by kinds of processes."""
    return sum(used for kind, used in kinds if kind == "VLLM")


def _kind(folder: Path) -> str:
    said = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    if replica := re.match(r"ray::ServeReplica:[^:]*:([^.\s]+)", said):
        return replica[1]
    if actor := re.match(r"ray::(\w+)", said):
        return actor[1]
    names = (
        "VLLM",
        "haproxy",
        "raylet",
        "gcs_server",
        "serve-graph",
        "litellm",
        "uvicorn",
        "node",
        "dashboard",
        "agent",
    )
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
    env = os.environ | environment | {MARK: mark}
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=out, cwd=ROOT, env=env) as running:
        try:
            until = time.monotonic() + within_s
            while not _answers(url + ready):
                if running.poll() is not None or time.monotonic() > until:
                    raise BenchmarkError(f"{words[0]} does not answer: {log.read_text()[-2000:]}")
                time.sleep(0.5)
            yield Started(mark, url, running.pid)
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
