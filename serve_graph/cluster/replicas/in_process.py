"""A deployment's object in the process that calls it, asked as by a handle: hosted tiers that the ingress calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_graph.cluster.replicas.broadcast import Replicas
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, HostedTierConfig


class InProcessHandle:
    """Stands for a `DeploymentHandle`: `handle.method.remote(...)` is a task, or with `options(stream=True)` a stream.

    What a call is made for (`carried`) is known here already, and is not handed over.
    """

    def __init__(self, deployment: object, *, stream: bool = False) -> None:
        self._deployment = deployment
        self._stream = stream

    def options(self, *, stream: bool = False) -> InProcessHandle:
        return InProcessHandle(self._deployment, stream=stream)

    def __getattr__(self, name: str) -> InProcessMethod:
        return InProcessMethod(getattr(self._deployment, name), self._stream)


class InProcessMethod:
    """A method of that object."""

    def __init__(self, method: Any, stream: bool) -> None:
        self._method = method
        self._stream = stream

    def remote(self, *args: Any, carried: object = None) -> Any:
        """Begin the call: an `asyncio.Task`, or an `InProcessStream`."""
        made = self._method(*args)
        return InProcessStream(made) if self._stream else asyncio.ensure_future(made)


class InProcessStream:
    """What a method yields, until it is cancelled."""

    def __init__(self, pieces: AsyncGenerator[Any, None]) -> None:
        self._pieces = pieces
        self._closing: asyncio.Task[None] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._pieces)

    def cancel(self) -> None:
        """Close it soon, and with it the connection that it reads."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        with suppress(Exception):  # nobody waits for it any more
            await self._pieces.aclose()


TierHandle = DeploymentHandle[Any] | InProcessHandle
"""What a tier is called by."""


class TierOfIngresses:
    """The parts of a tier that each ingress replica calls by itself, asked through those replicas."""

    def __init__(self, ingresses: Replicas, tier: str) -> None:
        self.ingresses = ingresses
        self.tier = tier

    async def all(self, method: str, argument: object, within_s: float) -> list[Any]:
        """Call a method of each, as `Replicas.all` says; `counted` is the one that there is."""
        if method != "counted":
            raise ValueError(f"{self.tier}: ingress replicas are not asked for {method}")
        return await self.ingresses.all("tier_counted", self.tier, within_s)


def is_called_here(tier: AnyTierConfig) -> bool:
    """Whether the ingress calls a tier itself, so that it has no deployment."""
    return isinstance(tier, HostedTierConfig) and tier.placement == "ingress"


def tiers_called_here(config: GraphConfig) -> dict[str, InProcessHandle]:
    """The hosted tiers that the ingress calls itself, each with connections and breakers of this process.

    Raises ConfigError where a key is missing.
    """
    tiers = [tier for tier in config.every_tier if isinstance(tier, HostedTierConfig) and is_called_here(tier)]
    if not tiers:
        return {}
    from serve_graph.cluster.hosted_deployment import HostedDeployment  # what calls APIs, where there are such

    return {tier.name: InProcessHandle(HostedDeployment(tier)) for tier in tiers}
