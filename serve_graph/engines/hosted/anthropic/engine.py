"""Anthropic's Messages API as an engine, over httpx and without retries: failover decides."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx

from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.engines.hosted.anthropic.reply import ChunksOfMessage, chat_completion
from serve_graph.engines.hosted.anthropic.request import anthropic_request
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.event_stream import LAST_WORD_S, EventReader
from serve_graph.engines.hosted.failures import failure_of, refused_by_api
from serve_graph.engines.http_client import hosted_api_client, read_whole, send_whole
from serve_graph.engines.telemetry.call_context import trace_headers
from serve_graph.protocol.responses import MALFORMED

API_VERSION = "2023-06-01"
ANTHROPIC_URL = "https://api.anthropic.com/v1"
_VERSIONED = re.compile(r"/v\d+\w*$")


class AnthropicEngine:
    """Take and return OpenAI dicts, and ask one API in Anthropic's. Every failure is a DeploymentError, in time.

    `silence_s`: how long a stream may pause between two events. `http_client` replaces the connections. Raises
    ConfigError if there is no key.
    """

    def __init__(
        self, config: HostedDeploymentConfig, silence_s: float, http_client: httpx.AsyncClient | None = None
    ) -> None:
        config.read_key()
        self.config = config
        self.silence_s = silence_s
        base = (config.base_url or ANTHROPIC_URL).rstrip("/")
        self.url = f"{base if _VERSIONED.search(base) else f'{base}/v1'}/messages"
        self.client = http_client or hosted_api_client()

    async def generate(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return a chat.completion."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await send_whole(self.client, self._request(body))
            if response.status_code != 200:
                raise refused_by_api(response)
            return chat_completion(json.loads(response.content))
        except Exception as error:
            raise failure_of(error, timeout_s) from error

    async def embed(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Raise DeploymentError: Anthropic's API makes no embeddings."""
        raise DeploymentError("the tier's API makes no embeddings", 404)

    async def stream(self, body: dict[str, Any], timeout_s: float) -> AsyncGenerator[dict[str, Any], None]:
        """Yield chat.completion.chunk dicts: content within `timeout_s`, then each next event within `silence_s`.

        Once the message has a stop reason, neither silence nor a connection that breaks takes it back.
        """
        deadline, wait_s = time.monotonic() + timeout_s, timeout_s
        reader, message = EventReader(), ChunksOfMessage()
        try:
            async with asyncio.timeout(timeout_s):
                response = await self.client.send(self._request(body), stream=True)
            async with aclosing(response):
                if response.status_code != 200:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await read_whole(response)
                    raise refused_by_api(response)
                pieces = response.aiter_bytes()
                while not message.ended:
                    try:
                        async with asyncio.timeout(deadline - time.monotonic()):
                            piece = await anext(pieces, None)
                    except (TimeoutError, httpx.TransportError):
                        if not message.finished:
                            raise
                        break
                    for event in reader.end() if piece is None else reader.feed(piece):
                        if event.data.strip()[:6].upper() == "[DONE]":  # a gateway's, in place of message_stop
                            message.ended = True
                            break
                        for chunk in message.take(json.loads(event.data)):
                            yield chunk
                            if message.has_content:
                                wait_s = self.silence_s
                                last_s = min(wait_s, LAST_WORD_S) if message.finished else wait_s
                                deadline = time.monotonic() + last_s
                    if piece is None:
                        break
            for chunk in message.close(reader.text):
                yield chunk
        except Exception as error:
            raise failure_of(error, wait_s, message.usage) from error

    def _request(self, body: dict[str, Any]) -> httpx.Request:
        headers = httpx.Headers({"x-api-key": self.config.read_key(), "anthropic-version": API_VERSION})
        headers.update(self.config.headers)
        headers.update(trace_headers())
        try:
            content = json.dumps(anthropic_request(body, self.config), ensure_ascii=False).encode()
        except MALFORMED as error:
            message = f"the request has no counterpart in the tier's API ({type(error).__name__})"
            raise DeploymentError(message, 400) from error
        headers["content-type"] = "application/json"
        return self.client.build_request("POST", self.url, headers=headers, content=content)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
