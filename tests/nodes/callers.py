"""Callers outside the cluster, behind what a Kubernetes Service does: workers whose `/readyz` answers get requests.

Nothing is asked twice: what a caller sees is what the graph did.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

ASK_WITHIN_S = 30.0
PROBE_EVERY_S, PROBE_WITHIN_S, PROBE_FAULTS = 2.0, 4.0, 2
KINDS: tuple[dict[str, Any], ...] = ({"model": "auto"}, {"model": "auto", "stream": True}, {"model": "frontier"})


@dataclass(frozen=True)
class Reply:
    """What became of one request; `said` is its status and outcome, or how it failed."""

    began: float
    took: float
    said: str
    node: str
    decision: str
    whole: bool

    @property
    def ended(self) -> float:
        return self.began + self.took


@dataclass
class Callers:
    """Threads that ask one question after the other, through whichever worker is ready."""

    nodes: Sequence[str]
    port: int
    key: str
    threads: int = 4
    pause_s: float = 0.2
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._faults: Counter[str] = Counter(dict.fromkeys(self.nodes, PROBE_FAULTS))
        self._turn = itertools.count()
        self._running = [threading.Thread(target=self._ask, args=(i,), daemon=True) for i in range(self.threads)]
        self._running += [threading.Thread(target=self._probe, args=(node,), daemon=True) for node in self.nodes]

    def __enter__(self) -> Callers:
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._running:
            thread.join(ASK_WITHIN_S + 5)

    @property
    def ready(self) -> list[str]:
        """The workers that a Service would send requests to."""
        return [node for node in self.nodes if self._faults[node] < PROBE_FAULTS]

    def _probe(self, node: str) -> None:
        while not self._over.wait(PROBE_EVERY_S):
            try:
                good = httpx.get(f"http://{node}:{self.port}/readyz", timeout=PROBE_WITHIN_S).status_code == 200
            except httpx.HTTPError:
                good = False
            self._faults[node] = 0 if good else self._faults[node] + 1

    def _ask(self, caller: int) -> None:
        for n in itertools.count():
            if self._over.wait(self.pause_s):
                return
            ready = self.ready
            began = time.monotonic()
            if not ready:
                self.replies.append(Reply(began, 0.0, "no worker is ready", "", "", False))
                continue
            node = ready[next(self._turn) % len(ready)]
            self.replies.append(self.ask(node, f"question {n} of caller {caller}", KINDS[n % len(KINDS)]))

    def ask(self, node: str, content: str, fields: dict[str, Any]) -> Reply:
        """One request on a connection of its own."""
        body = {**fields, "messages": [{"role": "user", "content": content}]}
        began, decision, said, whole = time.monotonic(), "", "", False
        try:
            with httpx.stream(
                "POST", f"http://{node}:{self.port}/v1/chat/completions", json=body, timeout=ASK_WITHIN_S,
                headers={"authorization": f"Bearer {self.key}"},
            ) as reply:  # fmt: skip
                decision = reply.headers.get("x-serve-graph-decision", "")
                text = reply.read().decode()
            whole = "[DONE]" in text if fields.get("stream") else True
            outcome = reply.headers.get("x-serve-graph-outcome", "")
            said = f"{reply.status_code} {outcome}".strip()
            if reply.status_code == 200 and ('"error"' in text or not whole):
                said, whole = "200, and its stream ended in an error", False
        except httpx.HTTPError as error:
            said = {"ConnectTimeout": "no connection", "ConnectError": "no connection", "ReadTimeout": "no reply"}.get(
                type(error).__name__, "connection lost"
            )
        answered = whole and said.startswith("200")
        return Reply(began, time.monotonic() - began, said, node, decision, answered)


def longest_gap(replies: Sequence[Reply], since: float, until: float) -> float:
    """The longest time between two answers, of all callers together."""
    times = sorted(reply.ended for reply in replies if reply.whole and since <= reply.ended <= until)
    return max(later - before for before, later in itertools.pairwise([since, *times, until]))
