"""Requests of a benchmark: a fixed number of callers who ask again as soon as they are answered."""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Load:
    """What one block of requests took, in seconds."""

    took_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    """Until the first chunk of a stream with text."""
    between_s: list[float] = field(default_factory=list)
    """Between two chunks of a stream with text."""
    answered: Counter[str] = field(default_factory=Counter)
    """By status, and by tier where the endpoint says which."""
    wall_s: float = 0.0

    def quantile(self, q: float) -> float:
        return quantile_of(self.took_s, q)

    @property
    def per_s(self) -> float:
        return len(self.took_s) / self.wall_s


def ask(
    url: str, prompts: Iterable[str], requests: int, callers: int, model: str = "auto", *, stream: bool = False,
    key: str = "none", seconds: float = math.inf, headers: Mapping[str, str] | None = None,
) -> Load:  # fmt: skip
    """Ask `requests` chat questions over `callers` connections, each taking the next prompt; none after `seconds`."""
    sent = {"authorization": f"Bearer {key}", **(headers or {})}
    return asyncio.run(_ask(url, itertools.cycle(prompts), requests, callers, model, stream, sent, seconds))


async def _ask(
    url: str, prompts: Iterator[str], requests: int, callers: int, model: str, stream: bool,
    headers: Mapping[str, str], seconds: float,
) -> Load:  # fmt: skip
    found, until = Load(), time.perf_counter() + seconds
    left = itertools.takewhile(lambda _: time.perf_counter() < until, range(requests))
    connector = aiohttp.TCPConnector(limit=callers)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def caller() -> None:
            for _ in left:
                body = {"model": model, "messages": [{"role": "user", "content": next(prompts)}], "stream": stream}
                began = time.perf_counter()
                async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                    if stream:
                        last = None
                        async for line in reply.content:
                            if b'"content":"' in line.replace(b": ", b":"):
                                now = time.perf_counter()
                                if last is None:
                                    found.first_s.append(now - began)
                                else:
                                    found.between_s.append(now - last)
                                last = now
                    else:
                        await reply.read()
                    found.took_s.append(time.perf_counter() - began)
                    found.answered[str(reply.status)] += 1
                    found.answered[reply.headers.get("x-serve-graph-tier", "")] += 1

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        found.wall_s = time.perf_counter() - began
    return found


def quantile_of(figures: Sequence[float], q: float) -> float:
    """The figure that so great a share lies below."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def median_and_range(figures: Sequence[float], digits: int = 1) -> str:
    """`median (least-most)` of several blocks."""
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f}-{max(figures):.{digits}f})"
