"""A verifier model behind another server's HTTP API: failover as of any hosted tier."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.failures import error_in_reply, failure_of, refused_by_api
from serve_graph.engines.hosted.openai_compatible import OpenAICompatibleEngine
from serve_graph.engines.http_client import send_whole
from serve_graph.engines.scores import NO_SCORE, Scoring, score_completion


class HostedScorer(OpenAICompatibleEngine):
    """Take a conversation that ends in an answer, return its score. Every failure is a DeploymentError, in time."""

    def __init__(
        self, config: HostedDeploymentConfig, silence_s: float, http_client: Any = None, *, scoring: Scoring
    ) -> None:
        super().__init__(config, silence_s, http_client)
        self.scoring = scoring

    async def generate(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return the score as a chat.completion."""
        asked = self.scoring.body(body["messages"], self.config.model)
        names = {name: self.config.parameters.get(name, name) for name in asked}
        asked = {new: asked[name] for name, new in names.items() if new is not None}
        try:
            async with asyncio.timeout(timeout_s):
                response = await send_whole(self.client, self._request(self.scoring.route, asked))
            if not response.is_success:
                raise refused_by_api(response)
            data = json.loads(response.content)
            if refused := error_in_reply(data):
                raise refused
            reply = data if isinstance(data, dict) else {}
            found = score_completion(self.scoring, reply, self.config.name)
            if "error" in found:
                raise DeploymentError(str(found["error"]["message"]), 502, usage=reply.get("usage"), kind=NO_SCORE)
            return found
        except Exception as error:
            raise failure_of(error, timeout_s) from error
