"""A hosted tier as a Ray Serve deployment: builds a HostedEngine and forwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from serve_graph.cluster.replicas.replica_logs import log_in_replica
from serve_graph.config.records import LoggingConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.engines.replica_counters import CountedReplica
from serve_graph.engines.telemetry.call_context import CallContext, take_over


class HostedDeployment(CountedReplica):
    """A tier behind one or several OpenAI-compatible APIs."""

    def __init__(self, config: HostedTierConfig, logs: LoggingConfig | None = None) -> None:
        log_in_replica(logs)
        self.engine = HostedEngine(config)

    async def generate(
        self, body: dict[str, Any], timeout_s: float, is_beside: bool = False, carried: CallContext | None = None
    ) -> dict[str, Any]:
        take_over(carried)
        return await self.engine.generate(body, timeout_s, is_beside)

    async def stream(
        self, body: dict[str, Any], timeout_s: float, carried: CallContext | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        take_over(carried)
        async with aclosing(self.engine.stream(body, timeout_s)) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(
        self, body: dict[str, Any], timeout_s: float, carried: CallContext | None = None
    ) -> dict[str, Any]:
        take_over(carried)
        return await self.engine.embed(body, timeout_s)

    async def counters(self) -> dict[str, float]:
        return self.engine.failover.counters()
