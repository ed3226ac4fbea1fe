"""Send each request to the deployments of a tier until one answers. `attempts` decides, this executes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from router_models.types import Attempt
from serve_graph.config.tiers.parts import FailoverConfig
from serve_graph.engines.hosted.attempts import Attempts, Pause, Try
from serve_graph.engines.hosted.breaker import Breaker
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.protocol.chunks import says_something

Ask = Callable[[dict[str, Any], float], Awaitable[dict[str, Any]]]


class Target(Protocol):
    """A deployment that takes and returns OpenAI dicts.

    All methods raise DeploymentError, at the latest after `timeout_s` seconds without an answer (`generate`, `embed`)
    or without a chunk with content (`stream`).
    """

    async def generate(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]: ...

    async def embed(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]: ...

    def stream(self, body: dict[str, Any], timeout_s: float) -> AsyncGenerator[dict[str, Any], None]: ...


@dataclass(slots=True)
class Failover:
    """Answer with the first deployment that can.

    A stream commits to a deployment with its first chunk with content: chunks before it (the role) are buffered, and
    after it no other deployment is called. `own_limit_s` is the tier's time limit: one of a caller's that is shorter
    trips no breaker.
    """

    targets: Mapping[str, Target]
    weights: Mapping[str, float]
    config: FailoverConfig
    own_limit_s: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
    breakers: dict[str, Breaker] = field(init=False)
    calls: int = field(init=False, default=0)
    failures: int = field(init=False, default=0)
    throttled: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        config = self.config
        self.breakers = {name: Breaker(config.trip_after, config.cooldown_s) for name in self.targets}

    async def generate(
        self, body: dict[str, Any], timeout_s: float, is_beside: bool = False
    ) -> tuple[dict[str, Any], tuple[Attempt, ...]]:
        """Return a reply within `timeout_s`, pauses included, and the calls made; raises DeploymentError."""
        return await self._whole(body, timeout_s, lambda target: target.generate, is_beside)

    async def embed(self, body: dict[str, Any], timeout_s: float) -> tuple[dict[str, Any], tuple[Attempt, ...]]:
        """Like `generate`, for embeddings."""
        return await self._whole(body, timeout_s, lambda target: target.embed)

    async def _whole(
        self, body: dict[str, Any], timeout_s: float, method: Callable[[Target], Ask], is_beside: bool = False
    ) -> tuple[dict[str, Any], tuple[Attempt, ...]]:
        attempts = self._open(timeout_s, is_beside)
        while True:
            tried = await self._next(attempts)
            started = self.clock()
            reply: dict[str, Any] | None = None
            try:
                reply = await method(self.targets[tried.deployment])(body, tried.timeout_s)
            except DeploymentError as error:
                self._failed(attempts, tried, error, started)
            except BaseException:
                attempts.dropped(tried)
                raise
            if reply is not None:
                attempts.answered(tried, self.clock() - started)
                attempts.ended(tried)
                return reply, tuple(attempts.made)

    async def stream(
        self, body: dict[str, Any], timeout_s: float
    ) -> AsyncGenerator[tuple[dict[str, Any], tuple[Attempt, ...]], None]:
        """Yield chunks, the first within `timeout_s`, each with the calls made so far; raises DeploymentError."""
        attempts = self._open(timeout_s)
        while True:
            tried = await self._next(attempts)
            started = self.clock()
            buffered: list[dict[str, Any]] = []
            committed = False
            try:
                async with aclosing(self.targets[tried.deployment].stream(body, tried.timeout_s)) as chunks:
                    async for chunk in chunks:
                        buffered.append(chunk)
                        if not committed and not says_something(chunk):
                            continue
                        if not committed:
                            attempts.answered(tried, self.clock() - started)
                            committed = True
                        for piece in buffered:
                            yield piece, tuple(attempts.made)
                        buffered.clear()
                if not committed:
                    raise DeploymentError("the hosted API ended its stream without an answer", 502)
                attempts.ended(tried)
                return
            except DeploymentError as error:
                if committed:
                    self.failures += 1
                    breaker = self.breakers[tried.deployment]
                    if error.is_requests_fault:
                        breaker.succeeded(False)
                    else:
                        breaker.failed(False, self.clock())
                    raise
                self._failed(attempts, tried, error, started)
            except BaseException:
                if not committed:
                    attempts.dropped(tried)
                raise

    def counters(self) -> dict[str, float]:
        """Return the number of calls, of failed ones and of those refused with 429, of deployments whose breaker
        blocks calls, and of those that refuse the tier's key, account or model.
        """
        now = self.clock()
        resting = sum(breaker.free_at(now) > now for breaker in self.breakers.values())
        refusing = sum(breaker.misconfigured for breaker in self.breakers.values())
        return {
            "deployment_calls": self.calls,
            "deployment_failures": self.failures,
            "deployment_throttled_total": self.throttled,
            "deployments_resting": resting,
            "deployments_refusing": refusing,
        }

    def _open(self, timeout_s: float, is_beside: bool = False) -> Attempts:
        deadline, own_limit_s = self.clock() + timeout_s, self.own_limit_s
        return Attempts(self.weights, self.breakers, self.config, deadline, self.draw, own_limit_s, is_beside)

    async def _next(self, attempts: Attempts) -> Try:
        while isinstance(step := attempts.next(self.clock()), Pause):
            await self.sleep(step.seconds)
        self.calls += 1
        return step

    def _failed(self, attempts: Attempts, tried: Try, error: DeploymentError, started: float) -> None:
        self.failures += 1
        self.throttled += error.status == 429
        now = self.clock()
        attempts.failed(tried, error, now, now - started)
