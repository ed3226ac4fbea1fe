"""Requests of a benchmark: a fixed number of callers who ask again as soon as they are answered."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Load:
    """What one block of requests took, in seconds."""

    took_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    """Until the first chunk of a stream with text."""
    answered: Counter[str] = field(default_factory=Counter)
    """By status, and by tier where the endpoint says which."""
    wall_s: float = 0.0

    def quantile(self, q: float) -> float:
        ordered = sorted(self.took_s)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]

    @property
    def per_s(self) -> float:
        return len(self.took_s) / self.wall_s


def ask(
    url: str, prompts: Sequence[str], requests: int, callers: int, model: str = "auto", *, stream: bool = False,
    key: str = "none",
) -> Load:  # fmt: skip
    """Ask `requests` chat questions over `callers` connections, each taking the next prompt."""
    return asyncio.run(_ask(url, itertools.cycle(prompts), requests, callers, model, stream, key))


async def _ask(
    url: str, prompts: Iterator[str], requests: int, callers: int, model: str, stream: bool, key: str
) -> Load:
    found, left = Load(), iter(range(requests))
    connector = aiohttp.TCPConnector(limit=callers)
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def caller() -> None:
            for _ in left:
                body = {"model": model, "messages": [{"role": "user", "content": next(prompts)}], "stream": stream}
                began = time.perf_counter()
                async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                    if stream:
                        first = None
                        async for line in reply.content:
                            if first is None and b'"content":"' in line.replace(b": ", b":"):
                                first = time.perf_counter() - began
                                found.first_s.append(first)
                    else:
                        await reply.read()
                    found.took_s.append(time.perf_counter() - began)
                    found.answered[str(reply.status)] += 1
                    found.answered[reply.headers.get("x-serve-graph-tier", "")] += 1

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        found.wall_s = time.perf_counter() - began
    return found


def median_and_range(figures: Sequence[float], digits: int = 1) -> str:
    """`median (least-most)` of several blocks."""
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f}-{max(figures):.{digits}f})"
