"""An echo tier, or verifier, as a Ray Serve deployment: builds an EchoEngine and forwards."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from serve_graph.cluster.replicas.replica_logs import log_in_replica
from serve_graph.config.records import LoggingConfig
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.engines.echo.engine import EchoError
from serve_graph.engines.echo.verifier import echo_engine
from serve_graph.engines.joined_chunks import joined_chunks
from serve_graph.engines.replica_counters import CountedReplica
from serve_graph.engines.telemetry.call_context import CallContext, take_over
from serve_graph.protocol.async_stream import ready_together


class EchoDeployment(CountedReplica):
    """A tier without a model. Counts what it is busy with under vLLM's own name for it."""

    def __init__(self, config: EchoTierConfig, logs: LoggingConfig | None = None) -> None:
        log_in_replica(logs)
        time.sleep(config.start_s)  # there is nothing else for it to do yet
        self.engine = echo_engine(config)
        self.running = 0

    async def generate(self, body: dict[str, Any], carried: CallContext | None = None) -> dict[str, Any]:
        take_over(carried)
        self.running += 1
        try:
            return await self.engine.generate(body)
        except EchoError as fault:
            return {"error": {"message": fault.message, "code": fault.status}}
        finally:
            self.running -= 1

    async def stream(
        self, body: dict[str, Any], carried: CallContext | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield chunks, those that are there at the same time together, their texts as one."""
        take_over(carried)
        self.running += 1
        try:
            async with aclosing(ready_together(self.engine.stream(body))) as pieces:
                async for piece in pieces:
                    yield joined_chunks(piece)
        except EchoError as fault:
            yield [{"error": {"message": fault.message, "code": fault.status}}]
        finally:
            self.running -= 1

    async def embed(self, body: dict[str, Any], carried: CallContext | None = None) -> dict[str, Any]:
        take_over(carried)
        return self.engine.embed(body)

    async def counters(self) -> dict[str, float]:
        return {"num_requests_running": float(self.running)}
