"""Put load on a running endpoint: check the shape of every reply and measure latencies in quantiles.

Every reply is parsed with the `openai` package's types; one that they reject, or that breaks the endpoint's contract
(headers, [DONE], an answer or an error but not both), is counted as malformed and quoted.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from openai.types.chat import ChatCompletion, ChatCompletionChunk

DECISION_HEADERS = ("x-serve-graph-decision", "x-serve-graph-tier", "x-serve-graph-outcome")


@dataclass(frozen=True, slots=True)
class Load:
    """Send `prompts` in turn until `requests` are sent or `duration_s` seconds have passed, whichever comes first.

    A share `stream_share` of requests streams, in `stream_mode` (None: as configured); a share `leave_share`
    disconnects after 0.2 s.
    """

    url: str
    prompts: Sequence[str]
    requests: int
    concurrency: int = 16
    model: str = "auto"
    stream_share: float = 0.0
    stream_mode: str | None = None
    leave_share: float = 0.0
    duration_s: float = float("inf")
    timeout_s: float = 120.0
    max_tokens: int | None = None
    seed: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class LoadResult:
    """The results. `statuses`: HTTP status of each reply, or "stream broken", "left" (disconnected) or "no reply".

    `first_bytes_of`: seconds to the first byte of complete streams, by outcome and tier.
    """

    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    first_bytes_s: list[float] = field(default_factory=list)
    first_bytes_of: dict[str, list[float]] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return the figures to print: counts, requests per second, p50/p95/p99 of replies and of first bytes."""
        return {
            "requests": self.statuses.total(),
            "seconds": round(self.seconds, 1),
            "requests_per_s": round(self.statuses.total() / max(self.seconds, 1e-9), 1),
            "latency_s": quantiles(self.latencies_s),
            "first_byte_s": quantiles(self.first_bytes_s),
            "first_byte_of": {key: quantiles(seconds) for key, seconds in sorted(self.first_bytes_of.items())},
            "statuses": dict(sorted(self.statuses.items())),
            "outcomes": {f"{outcome} by {tier}": n for (outcome, tier), n in sorted(self.outcomes.items())},
            "malformed": len(self.malformed),
        }


def quantiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return p50, p95 and p99 in seconds; None for an empty sequence."""
    if not seconds:
        return None
    return {f"p{q}": round(float(np.quantile(seconds, q / 100)), 4) for q in (50, 95, 99)}


async def run_load(load: Load, progress: Callable[[str], None] = lambda _: None) -> LoadResult:
    """Run the load with `concurrency` requests at a time; every request is counted in `statuses`."""
    result, rng, started = LoadResult(), random.Random(load.seed), time.perf_counter()
    plan = iter(range(load.requests))
    limits = httpx.Limits(max_connections=load.concurrency, max_keepalive_connections=load.concurrency)
    async with httpx.AsyncClient(timeout=load.timeout_s, limits=limits, headers=dict(load.headers)) as client:

        async def worker() -> None:
            for i in plan:
                if time.perf_counter() - started > load.duration_s:
                    return
                stream, disconnects = rng.random() < load.stream_share, rng.random() < load.leave_share
                await _one(client, load, load.prompts[i % len(load.prompts)], stream, disconnects, result)
                if (done := result.statuses.total()) % 1000 == 0:
                    progress(f"{done} replies, {len(result.malformed)} malformed")

        await asyncio.gather(*(worker() for _ in range(load.concurrency)))
    result.seconds = time.perf_counter() - started
    return result


async def _one(
    client: httpx.AsyncClient, load: Load, prompt: str, stream: bool, disconnects: bool, result: LoadResult
) -> None:
    body: dict[str, Any] = {"model": load.model, "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    if load.stream_mode is not None:
        body["serve_graph"] = {"stream": load.stream_mode}
    if load.max_tokens is not None:
        body["max_tokens"] = load.max_tokens
    started = time.perf_counter()
    try:
        async with asyncio.timeout(0.2 if disconnects else None):
            async with client.stream("POST", f"{load.url}/v1/chat/completions", json=body) as response:
                first: float | None = None
                parts = []
                async for part in response.aiter_bytes():
                    if first is None and not part.startswith(b":"):
                        first = time.perf_counter() - started
                    parts.append(part)
    except TimeoutError:
        result.statuses["left"] += 1
        return
    except httpx.HTTPError as error:
        result.statuses["no reply"] += 1
        result.malformed.append(f"no reply: {error!r}")
        return
    seconds = time.perf_counter() - started
    try:
        status, facts = read_reply(response.status_code, response.headers, b"".join(parts), stream)
    except (ValueError, KeyError, IndexError, TypeError) as error:  # pydantic's ValidationError is a ValueError
        result.statuses[str(response.status_code)] += 1
        result.malformed.append(f"{response.status_code} {error!r}: {b''.join(parts)[:300]!r}")
        return
    result.statuses[status] += 1
    result.latencies_s.append(seconds)
    if first is not None and stream:
        result.first_bytes_s.append(first)
    if facts:
        if first is not None and stream:
            result.first_bytes_of.setdefault(f"{facts['outcome']} by {facts['tier']}", []).append(first)
        result.outcomes[facts["outcome"], facts["tier"]] += 1
        result.decisions.append(facts["decision"])


def read_reply(
    status: int, headers: Mapping[str, str], content: bytes, stream: bool
) -> tuple[str, dict[str, Any] | None]:
    """Check one reply's shape; returns its status in words and its `serve_graph` object. Raises ValueError."""
    if status != 200:
        _check_error(json.loads(content))
        return str(status), None
    if not stream:
        ChatCompletion.model_validate_json(content)
        facts = json.loads(content)["serve_graph"]
        _check(all(headers.get(name) for name in DECISION_HEADERS), "a header is missing")
        return "200", dict(facts)
    events = [part for part in content.decode("utf-8").split("\n\n") if part and not part.startswith(":")]
    _check(all(event.startswith("data: ") for event in events), "an event is not data")
    chunks = [json.loads(event[6:]) for event in events if event != "data: [DONE]"]
    if chunks and "error" in chunks[-1]:
        _check_error(chunks[-1])
        _check("data: [DONE]" not in events, "[DONE] after an error")
        return "stream broken", None
    _check(events[-1:] == ["data: [DONE]"] and events.count("data: [DONE]") == 1, "[DONE] is not the last event")
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    finishes = [choice for chunk in chunks for choice in chunk["choices"] if choice.get("finish_reason")]
    _check(len(finishes) == 1, "not exactly one finish reason")
    facts = [chunk["serve_graph"] for chunk in chunks if "serve_graph" in chunk]  # a proxy may add chunks after it
    _check(len(facts) == 1, "not exactly one serve_graph object")
    return "200", dict(facts[0])


def _check_error(body: Mapping[str, Any]) -> None:
    _check(
        set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}, "not an error object"
    )


def _check(holds: bool, wrong: str) -> None:
    if not holds:
        raise ValueError(wrong)
