"""What tests ask of a graph that serves one version and may try another, and callers in conversations."""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from typer.testing import CliRunner

from serve_graph.cli import app
from tests.cluster.graphs.running_graph import until

Graph = Any
STABLE, CANDIDATE = "serve-graph-router/1", "serve-graph-router/2"
REACHES_WITHIN_S = 10.0
UNSEEN_S = 3.0
"""How long nobody may have been answered by a version that is gone: every replica has dozens of requests by then."""
SESSIONS = 24


@dataclass
class Callers:
    """Threads that ask a graph until this is left; `_ask(n)` is what the nth of them does."""

    graph: Graph
    callers: int = 4

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(self.callers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, caller: int) -> None:
        raise NotImplementedError


@dataclass
class Conversations(Callers):
    """Callers who each go through conversations of their own; when each was answered, how, and by which version."""

    callers: int = 3
    each: int = 16
    replies: list[tuple[float, str, int, str, str]] = field(default_factory=list)
    unanswered: list[tuple[float, str]] = field(default_factory=list)

    def _ask(self, caller: int) -> None:
        with httpx.Client(base_url=self.graph.url, timeout=60, headers=self.graph.headers) as client:
            n = 0
            while not self._over.wait(0.05):
                session, n = f"c{caller}-s{n % self.each}", n + 1
                message = {"role": "user", "content": "what colour is the cat?"}
                body = {"model": "auto", "messages": [message], "serve_graph": {"session": session}}
                try:
                    reply = client.post("/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.unanswered.append((time.monotonic(), type(error).__name__))
                    continue
                told = [str(reply.headers.get(f"x-serve-graph-{name}", "-")) for name in ("version", "decision")]
                self.replies.append((time.monotonic(), session, reply.status_code, *told))

    def last_of(self, version: str) -> float:
        """When it answered for the last time."""
        return max(at for at, _, _, name, _ in self.replies if name == version)

    def until_gone(self, version: str) -> None:
        """Wait until it has not answered anybody for a while; longer than a promotion may take is a fault."""
        until(lambda: time.monotonic() - self.last_of(version) > UNSEEN_S, REACHES_WITHIN_S + UNSEEN_S + 2)

    def taken_back(self) -> list[tuple[str, float]]:
        """Conversations that the stable version answered long after the candidate had: by how many seconds."""
        first: dict[str, float] = {}
        for at, session, _, version, _ in self.replies:
            if version == CANDIDATE:
                first.setdefault(session, at)
        later = [(s, at - first[s]) for at, s, _, version, _ in self.replies if version == STABLE and s in first]
        return [(session, late) for session, late in later if late > REACHES_WITHIN_S]


def invoked(graph: Graph, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(graph.state / "graph.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def rollout(graph: Graph) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoked(graph, "versions", "rollout", "--json"))
    return found


def moves(graph: Graph, since: int = 0) -> list[dict[str, Any]]:
    """What the audit log says was done to the candidate, the oldest first, without as many as were there before."""
    audit = json.loads(invoked(graph, "audit", "--json", "--limit", "1000"))
    found = [one for one in reversed(audit) if one["target"] == CANDIDATE and one["action"].startswith("versions.")]
    return found[since:]


def answered_by(graph: Graph) -> dict[int, str]:
    """Which version answers each of some conversations."""
    asked = {n: graph.chat("which?", serve_graph={"session": f"s{n}"}) for n in range(SESSIONS)}
    assert {reply.status_code for reply in asked.values()} == {200}
    return {n: str(reply.headers["x-serve-graph-version"]) for n, reply in asked.items()}
