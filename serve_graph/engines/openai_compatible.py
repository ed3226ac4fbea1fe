"""Any OpenAI-compatible API as an engine, through the `openai` client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

from serve_graph.config import HostedTierConfig
from serve_graph.errors import ConfigError


class OpenAICompatibleEngine:
    """Forward OpenAI bodies to a hosted API; failures come back as `{"error": {message, code}}`.

    The key is read from the configured environment variable when the engine is built, and never logged.
    """

    def __init__(self, config: HostedTierConfig) -> None:
        key = os.environ.get(config.api_key_env)
        if not key:
            raise ConfigError(f"tier {config.name!r} needs its API key in ${config.api_key_env}")
        self.config = config
        self.client = AsyncOpenAI(api_key=key, base_url=config.base_url, timeout=config.timeout_s, max_retries=2)

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """One chat.completion as a dict."""
        try:
            reply = await self.client.chat.completions.create(**self._hosted(body))
            data: dict[str, Any] = reply.model_dump(mode="json", exclude_none=True)
        except Exception as error:  # noqa: BLE001 (sorted by `_error_of`)
            return _error_of(error)
        return data

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """chat.completion.chunk dicts."""
        try:
            async for piece in await self.client.chat.completions.create(**self._hosted(body)):
                yield piece.model_dump(mode="json", exclude_none=True)
        except Exception as error:  # noqa: BLE001 (sorted by `_error_of`)
            yield _error_of(error)

    async def embed(self, body: dict[str, Any]) -> dict[str, Any]:
        """One embeddings reply as a dict, numbers or base64 as asked for."""
        wanted = {"encoding_format": "float", **body, "model": self.config.embedding_model or self.config.model}
        try:
            reply = await self.client.embeddings.create(**wanted)
            data: dict[str, Any] = reply.model_dump(mode="json", exclude_none=True)
        except Exception as error:  # noqa: BLE001 (sorted by `_error_of`)
            return _error_of(error)
        return data

    def _hosted(self, body: dict[str, Any]) -> dict[str, Any]:
        known = {k: v for k, v in body.items() if k != "top_logprobs" or v}
        return known | {"model": self.config.model}


def _error_of(error: Exception) -> dict[str, Any]:
    """A client exception as an error object; codes are HTTP's."""
    if isinstance(error, APIStatusError):
        return {"error": {"message": error.message, "code": error.status_code}}
    if isinstance(error, APITimeoutError):
        return {"error": {"message": "the hosted API timed out", "code": 504}}
    if isinstance(error, APIConnectionError):
        return {"error": {"message": "the hosted API cannot be reached", "code": 503}}
    return {"error": {"message": f"the hosted API's reply was not understood ({type(error).__name__})", "code": 502}}
