"""A hosted tier: failover over one engine per API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

from router_models.types import Attempt
from serve_graph.config.judge import HostedVerifierConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.engines.hosted.anthropic.engine import AnthropicEngine
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.failover import Failover
from serve_graph.engines.hosted.openai_compatible import OpenAICompatibleEngine
from serve_graph.engines.hosted.scoring import HostedScorer
from serve_graph.engines.scores import Scoring

ENGINES: Mapping[str, type[OpenAICompatibleEngine] | type[AnthropicEngine]] = MappingProxyType(
    {"openai": OpenAICompatibleEngine, "anthropic": AnthropicEngine}
)


def _engine(
    config: HostedTierConfig, api: HostedDeploymentConfig, http_client: Any
) -> OpenAICompatibleEngine | AnthropicEngine:
    if isinstance(config, HostedVerifierConfig):
        return HostedScorer(api, config.timeout_s, http_client, scoring=Scoring.of(config))
    return ENGINES[api.api](api, config.timeout_s, http_client)


class HostedEngine:
    """Takes and returns OpenAI dicts; `attempts` beside a reply, a stream's first chunk or an error lists the calls.

    `attempts` is present if there were several calls or the tier has several deployments. Raises ConfigError at
    construction if a key is missing. `http_client` replaces the connections to the APIs, of all deployments.
    """

    def __init__(self, config: HostedTierConfig, http_client: Any = None) -> None:
        self.config = config
        self.engines = {api.name: _engine(config, api, http_client) for api in config.apis}
        weights = {api.name: api.weight for api in config.apis}
        self.failover = Failover(self.engines, weights, config.failover, config.timeout_s)

    async def generate(self, body: dict[str, Any], timeout_s: float, is_beside: bool = False) -> dict[str, Any]:
        """Return a chat.completion, or an error object; `is_beside` as `Attempts` has it."""
        try:
            reply, attempts = await self.failover.generate(body, timeout_s, is_beside)
        except DeploymentError as error:
            return error.body()
        return reply | self._told(attempts)

    async def embed(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return an embeddings reply, or an error object."""
        try:
            reply, attempts = await self.failover.embed(body, timeout_s)
        except DeploymentError as error:
            return error.body()
        return reply | self._told(attempts)

    async def stream(self, body: dict[str, Any], timeout_s: float) -> AsyncGenerator[dict[str, Any], None]:
        """Yield chat.completion.chunk dicts; an error object is the last one if the tier failed."""
        first = True
        try:
            async with aclosing(self.failover.stream(body, timeout_s)) as chunks:
                async for chunk, attempts in chunks:
                    yield chunk | (self._told(attempts) if first else {})
                    first = False
        except DeploymentError as error:
            yield error.body()

    async def close(self) -> None:
        """Close all connections."""
        for engine in self.engines.values():
            await engine.close()

    def _told(self, attempts: tuple[Attempt, ...]) -> dict[str, Any]:
        return {"attempts": attempts} if len(attempts) > 1 or len(self.config.apis) > 1 else {}
