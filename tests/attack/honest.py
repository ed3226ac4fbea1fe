"""The honest key of a load of attacks: what it asks, how long it waits, and the page that says so."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

TIMES = 2.0
CHAT = "/v1/chat/completions"


@dataclass
class Reach:
    """Where the graph is and with which keys: what other processes need to know of a `Target`."""

    port: int
    secrets: dict[str, str]

    def head(self, line: str, *headers: str) -> bytes:
        """The head of a request as bytes: its first line, a host, and these headers."""
        return "\r\n".join([line, f"Host: 127.0.0.1:{self.port}", *headers, "", ""]).encode("latin-1")


@dataclass
class Honest:
    """Requests of the honest key at a fixed pace, whether answered or not; every fourth is a stream."""

    target: Reach
    per_s: float = 10.0
    took_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def run(self, seconds: float) -> Honest:
        headers = {"authorization": f"Bearer {self.target.secrets['honest']}"}
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{self.target.port}", timeout=60, headers=headers) as client,
            ThreadPoolExecutor(32) as callers,
        ):
            begun = time.monotonic()
            for i in range(int(seconds * self.per_s)):
                time.sleep(max(0.0, begun + i / self.per_s - time.monotonic()))
                callers.submit(self._ask, client, i)
        return self

    def _ask(self, client: httpx.Client, i: int) -> None:
        content = {
            "model": "auto",
            "messages": [{"role": "user", "content": f"honest question {i}"}],
            "stream": i % 4 == 0,
        }
        began = time.monotonic()
        try:
            reply = client.post(CHAT, json=content)
            whole = reply.status_code == 200 and (i % 4 or "[DONE]" in reply.text)
            self.statuses[str(reply.status_code) if whole or reply.status_code != 200 else "broken stream"] += 1
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1
        self.took_s.append(time.monotonic() - began)

    def quantile(self, q: float) -> float:
        """In seconds, over every request, whatever became of it."""
        ordered = sorted(self.took_s)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]

    @property
    def failed(self) -> int:
        return self.statuses.total() - self.statuses["200"]

    @property
    def server_errors(self) -> int:
        return sum(count for status, count in self.statuses.items() if status.startswith("5"))


def ask_honestly(reach: Reach, seconds: float) -> Honest:
    """The honest key's requests, in a process of its own."""
    return Honest(reach).run(seconds)


def passed(alone: Honest, beside: Honest) -> bool:
    """Whether the honest key was answered every time, its 99th percentile at most TIMES as long as alone."""
    return beside.failed == 0 and beside.quantile(0.99) <= TIMES * alone.quantile(0.99)


@dataclass
class Measured:
    """What the honest key saw alone, beside the attacker and beside the control; what the attacker was answered.

    `attacker_share`: of a core that the attacking client took, and that the control burns.
    """

    alone: Honest
    beside: Honest
    answered: Counter[tuple[str, str]]
    control: Honest | None = None
    attacker_share: float = 0.0


def report(found: Measured, seconds: float, command: str) -> str:
    """The page of results, in Markdown."""
    alone, beside, control = found.alone, found.beside, found.control
    machine = f"{os.cpu_count()} cores {platform.machine()}, load average {os.getloadavg()[0]:.1f} at its end"
    lines = [
        "# An honest key beside one that attacks",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {machine}; attacker, honest caller, proxy, ingress, router,",
        "verifier and echo engines share them, each in a process of its own.",
        "",
        "| the honest key | requests | answered | 5xx | p50, ms | p99, ms | slowest, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [("alone", alone), (f"for {seconds:.0f} s of attack", beside)]
    burning = f"beside a process that burns {found.attacker_share:.2f} of a core"
    rows += [] if control is None else [(burning, control)]
    for name, each in rows:
        figures = (each.quantile(0.5), each.quantile(0.99), max(each.took_s))
        cells = [name, f"{len(each.took_s):,}", f"{each.statuses['200']:,}", str(each.server_errors)]
        lines.append("| " + " | ".join(cells + [f"{1000 * figure:.0f}" for figure in figures]) + " |")
    ratio = beside.quantile(0.99) / alone.quantile(0.99)
    verdict = "**passed**" if passed(alone, beside) else "**failed**"
    wanted = f"wanted: at most {TIMES:g}, and every request answered"
    lines += ["", f"p99 is {ratio:.2f} times that of the same key alone; {wanted}: {verdict}.", ""]
    if control is not None:
        floor, share = control.quantile(0.99) / alone.quantile(0.99), found.attacker_share
        over = beside.quantile(0.99) / control.quantile(0.99)
        lines += [
            "The floor on this machine: beside a process that sends nothing and burns the processor time that the",
            f"attacking client took ({share:.2f} of a core), p99 is {floor:.2f} times that of the key alone. Beside",
            f"the attack it is {over:.2f} times the floor: that much is what the graph does for the attacker.",
            "",
        ]
    lines += ["| what the attacking key sent | times | answered |", "|---|---|---|"]
    for name in sorted({name for name, _ in found.answered}):
        mine = {status: count for (each, status), count in sorted(found.answered.items()) if each == name}
        told = ", ".join(f"{status} × {count:,}" for status, count in mine.items())
        lines.append(f"| {name} | {sum(mine.values()):,} | {told} |")
    return "\n".join(lines) + "\n"
