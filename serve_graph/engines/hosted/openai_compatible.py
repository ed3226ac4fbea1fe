"""An OpenAI-compatible API as an engine, over httpx and without retries: failover decides."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.event_stream import LAST_WORD_S, EventReader
from serve_graph.engines.hosted.failures import error_in_reply, failure_of, refused_by_api
from serve_graph.engines.hosted.replies import ReplyStream, plain_events, whole_reply
from serve_graph.engines.http_client import hosted_api_client, read_whole, send_whole
from serve_graph.engines.joined_chunks import joined_as_read
from serve_graph.engines.telemetry.call_context import trace_headers

OPENAI_URL = "https://api.openai.com/v1"


class OpenAICompatibleEngine:
    """Forward OpenAI bodies to one API. Every failure is a DeploymentError with a plain message, in time.

    `silence_s`: how long a stream may pause between two chunks. `http_client` replaces the connections. Raises
    ConfigError if there is no key.
    """

    def __init__(
        self, config: HostedDeploymentConfig, silence_s: float, http_client: httpx.AsyncClient | None = None
    ) -> None:
        config.read_key()
        self.config = config
        self.silence_s = silence_s
        self.url = (config.base_url or OPENAI_URL).rstrip("/")  # never from the environment
        self.client = http_client or hosted_api_client()

    async def generate(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return a chat.completion as the API sent it."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await send_whole(self.client, self._request("chat/completions", self._arguments(body)))
            if not response.is_success:
                raise refused_by_api(response)
            return whole_reply(response.content)
        except Exception as error:
            raise failure_of(error, timeout_s) from error

    async def embed(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return an embeddings reply as the API sent it: numbers, or base64 if requested."""
        model = self.config.embedding_model or self.config.model or ""
        asked = {**body, "model": model, "encoding_format": body.get("encoding_format") or "float"}
        try:
            async with asyncio.timeout(timeout_s):
                response = await send_whole(self.client, self._request("embeddings", asked))
            if not response.is_success:
                raise refused_by_api(response)
            data = json.loads(response.content)
            if refused := error_in_reply(data):
                raise refused
            if not isinstance(data, dict) or not isinstance(data.get("data"), list):
                raise DeploymentError("the hosted API's reply contains no embeddings", 502)
            return data
        except Exception as error:
            raise failure_of(error, timeout_s) from error

    async def stream(self, body: dict[str, Any], timeout_s: float) -> AsyncGenerator[dict[str, Any], None]:
        """Yield chat.completion.chunk dicts: content within `timeout_s`, then each next chunk within `silence_s`.

        Texts that came in one packet are one chunk. Once every choice has ended, neither silence nor a connection that
        breaks takes the answer back.
        """
        deadline, wait_s, choices = time.monotonic() + timeout_s, timeout_s, int(body.get("n") or 1)
        reader, stream = EventReader(), ReplyStream()
        try:
            async with asyncio.timeout(timeout_s):
                request = self._request("chat/completions", self._arguments(body))
                response = await self.client.send(request, stream=True)
            async with aclosing(response):
                if not response.is_success:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await read_whole(response)
                    raise refused_by_api(response)
                pieces = response.aiter_bytes()
                while not stream.done:
                    try:
                        async with asyncio.timeout(deadline - time.monotonic()):
                            piece = await anext(pieces, None)
                    except (TimeoutError, httpx.TransportError):
                        if not stream.is_whole(choices):
                            raise
                        break
                    events = reader.end() if piece is None else reader.feed(piece)
                    for chunk in joined_as_read(chunk for event in events for chunk in stream.chunks(event)):
                        yield chunk
                        if stream.has_content:
                            wait_s = self.silence_s
                            last_s = min(wait_s, LAST_WORD_S) if stream.is_whole(choices) else wait_s
                            deadline = time.monotonic() + last_s
                    if piece is None:
                        break
            for event in plain_events(reader.text):
                for chunk in stream.chunks(event):
                    yield chunk
            for chunk in stream.close(reader.text):
                yield chunk
        except Exception as error:
            raise failure_of(error, wait_s, stream.usage) from error

    def _request(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        """A POST of JSON with the key as it is now, the configured headers, and those of the call's trace."""
        headers = httpx.Headers({"authorization": f"Bearer {self.config.read_key()}", "accept": "application/json"})
        own = {"openai-organization": self.config.organization, "openai-project": self.config.project}
        headers.update({name: value for name, value in own.items() if value is not None})
        headers.update(self.config.headers)
        headers.update(trace_headers())
        headers["content-type"] = "application/json"
        content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        return self.client.build_request("POST", f"{self.url}/{path}", headers=headers, content=content)

    def _arguments(self, body: dict[str, Any]) -> dict[str, Any]:
        """Convert the body to what is sent: under this API's parameter names; unknown ones are passed on.

        What only Anthropic's API reads is left out: a request for caching and, unless this API takes them too, as its
        parameters then say, the `thinking_blocks` of messages.
        """
        messages = body["messages"]
        if not self.config.parameters.get("thinking_blocks"):
            messages = [{k: v for k, v in message.items() if k != "thinking_blocks"} for message in messages]
        own = {"model": self.config.model, "messages": messages, "stream": body.get("stream", False)}
        names = {name: self.config.parameters.get(name, name) for name in body if name not in own}
        names["anthropic_cache_control"] = None
        if not body.get("top_logprobs") or names.get("logprobs") is None:
            names["top_logprobs"] = None
        return own | {name: body[ours] for ours, name in names.items() if name is not None}

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
