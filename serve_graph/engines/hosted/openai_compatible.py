"""An OpenAI-compatible API as an engine, through the `openai` client without its retries: failover decides."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, Literal

from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from serve_graph.config.tier_parts import HostedDeploymentConfig
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.event_stream import EventReader
from serve_graph.engines.hosted.failures import error_in_reply, failure_of
from serve_graph.engines.hosted.replies import ReplyStream, plain_events, whole_reply
from serve_graph.engines.telemetry.call_context import trace_headers


class OpenAICompatibleEngine:
    """Forward OpenAI bodies to one API. Every failure is a DeploymentError with a plain message, in time.

    `silence_s`: how long a stream may pause between two chunks. `http_client` replaces the connections. Raises
    ConfigError if there is no key.
    """

    def __init__(self, config: HostedDeploymentConfig, silence_s: float, http_client: Any = None) -> None:
        config.read_key()
        self.config = config
        self.silence_s = silence_s
        self.client = AsyncOpenAI(
            api_key=self._key,
            base_url=config.base_url or "https://api.openai.com/v1",  # never from the environment
            organization=config.organization,
            project=config.project,
            default_headers=config.headers,
            timeout=None,  # the time limits here cover whole calls
            max_retries=0,
            # Prompts and headers go to the configured address alone, wherever a reply says they should go.
            http_client=http_client or DefaultAsyncHttpxClient(follow_redirects=False),
        )

    async def generate(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return a chat.completion as the API sent it."""
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self.client.chat.completions.with_raw_response.create(**self._arguments(body))
                content = raw.content
            return whole_reply(content)
        except Exception as error:
            raise failure_of(error, timeout_s) from error

    async def embed(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return an embeddings reply as the API sent it: numbers, or base64 if requested."""
        model = self.config.embedding_model or self.config.model or ""
        encoding: Literal["float", "base64"] = body.get("encoding_format") or "float"
        rest = {name: value for name, value in body.items() if name not in ("model", "input", "encoding_format")}
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self.client.embeddings.with_raw_response.create(
                    model=model,
                    input=body["input"],
                    encoding_format=encoding,
                    extra_body=rest,
                    extra_headers=trace_headers() or None,
                )
                data = json.loads(raw.content)
        except Exception as error:
            raise failure_of(error, timeout_s) from error
        if refused := error_in_reply(data):
            raise refused
        if not isinstance(data, dict) or not isinstance(data.get("data"), list):
            raise DeploymentError("the hosted API's reply contains no embeddings", 502)
        return data

    async def stream(self, body: dict[str, Any], timeout_s: float) -> AsyncGenerator[dict[str, Any], None]:
        """Yield chat.completion.chunk dicts: content within `timeout_s`, then each next chunk within `silence_s`."""
        deadline, wait_s = time.monotonic() + timeout_s, timeout_s
        reader, stream = EventReader(), ReplyStream()
        create = self.client.chat.completions.with_streaming_response.create
        try:
            async with AsyncExitStack() as opened:
                async with asyncio.timeout(timeout_s):
                    response = await opened.enter_async_context(create(**self._arguments(body)))
                pieces = aiter(response.iter_bytes())
                while not stream.done:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        piece = await anext(pieces, None)
                    for event in reader.end() if piece is None else reader.feed(piece):
                        for chunk in stream.chunks(event):
                            yield chunk
                            if stream.has_content:
                                deadline, wait_s = time.monotonic() + self.silence_s, self.silence_s
                    if piece is None:
                        break
            for event in plain_events(reader.text):
                for chunk in stream.chunks(event):
                    yield chunk
            for chunk in stream.close(reader.text):
                yield chunk
        except Exception as error:
            raise failure_of(error, wait_s) from error

    def _arguments(self, body: dict[str, Any]) -> dict[str, Any]:
        """Convert the body to the client's arguments under this API's parameter names; unknown ones are passed on.

        What only Anthropic's API reads is left out: a wish for caching and, unless this API takes them too, as its
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
        if headers := trace_headers():
            own["extra_headers"] = headers
        return own | {"extra_body": {name: body[ours] for ours, name in names.items() if name is not None}}

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def _key(self) -> str:
        return self.config.read_key()
