"""An OpenAI-compatible API as an engine, through the `openai` client without its retries: failover decides."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

import httpx
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, AsyncOpenAI

from serve_graph.config.tier_parts import HostedDeploymentConfig
from serve_graph.engines.hosted.deployment_error import SETUP_FAULTS, DeploymentError
from serve_graph.errors import ConfigError
from serve_graph.protocol.chunks import check_chunk, says_something
from serve_graph.protocol.responses import MALFORMED, UsageCounts, completion_of
from serve_graph.protocol.retry_after import retry_after_s

logger = logging.getLogger(__name__)
MESSAGE_CHARS = 500


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
        self.client = AsyncOpenAI(
            api_key=self._key,
            base_url=config.base_url or "https://api.openai.com/v1",  # never from the environment
            organization=config.organization,
            project=config.project,
            default_headers=config.headers,
            timeout=None,  # the time limits here cover whole calls
            max_retries=0,
            http_client=http_client,
        )

    async def generate(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return a chat.completion as the API sent it."""
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self.client.chat.completions.with_raw_response.create(**self._arguments(body))
                data = json.loads(raw.content)
        except Exception as error:
            raise failure_of(error, timeout_s) from error
        return _checked(data)

    async def embed(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return an embeddings reply as the API sent it: numbers, or base64 if requested."""
        model = self.config.embedding_model or self.config.model or ""
        encoding: Literal["float", "base64"] = body.get("encoding_format") or "float"
        rest = {name: value for name, value in body.items() if name not in ("model", "input", "encoding_format")}
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self.client.embeddings.with_raw_response.create(
                    model=model, input=body["input"], encoding_format=encoding, extra_body=rest
                )
                data = json.loads(raw.content)
        except Exception as error:
            raise failure_of(error, timeout_s) from error
        if not isinstance(data, dict) or data.get("error") or not isinstance(data.get("data"), list):
            raise DeploymentError("the hosted API's reply contains no embeddings", 502)
        return data

    async def stream(self, body: dict[str, Any], timeout_s: float) -> AsyncGenerator[dict[str, Any], None]:
        """Yield chat.completion.chunk dicts: content within `timeout_s`, then each next chunk within `silence_s`."""
        deadline, wait_s = time.monotonic() + timeout_s, timeout_s
        has_content = finished = False
        counts = UsageCounts()
        try:
            async with asyncio.timeout(timeout_s):
                pieces = await self.client.chat.completions.create(**self._arguments(body))
            async with pieces:
                while True:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        chunk = await anext(pieces, None)
                    if chunk is None:
                        break
                    data = chunk.model_dump(mode="json", exclude_none=True, warnings=False)
                    check_chunk(data)
                    counts.add(data.get("usage"))
                    has_content = has_content or says_something(data)
                    finished = finished or any(choice.get("finish_reason") for choice in data.get("choices") or ())
                    yield data
                    if has_content:
                        deadline, wait_s = time.monotonic() + self.silence_s, self.silence_s
            if not finished:
                raise DeploymentError("the hosted API interrupted its stream", 502, usage=counts.json())
        except Exception as error:
            raise failure_of(error, wait_s) from error

    def _arguments(self, body: dict[str, Any]) -> dict[str, Any]:
        """Convert the body to the client's arguments under this API's parameter names; unknown ones are passed on."""
        own = {"model": self.config.model, "messages": body["messages"], "stream": body.get("stream", False)}
        names = {name: self.config.parameters.get(name, name) for name in body if name not in own}
        if not body.get("top_logprobs") or names.get("logprobs") is None:
            names["top_logprobs"] = None
        return own | {"extra_body": {name: body[ours] for ours, name in names.items() if name is not None}}

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def _key(self) -> str:
        return self.config.read_key()


def _checked(data: Any) -> dict[str, Any]:
    """Return a reply with status 200 if it contains an answer; raises DeploymentError otherwise."""
    if not isinstance(data, dict):
        raise DeploymentError("the hosted API's reply is not a JSON object", 502)
    if data.get("error"):
        raise _error_with_status_200(data["error"], data.get("usage"))
    try:
        completion_of(data, 0.0)
    except MALFORMED as error:
        raise DeploymentError("the hosted API's reply contains no answer", 502, usage=_usage(data)) from error
    return data


def _usage(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    usage = data.get("usage")
    return usage if isinstance(usage, dict) else None


def _error_with_status_200(error: Any, usage: Any = None) -> DeploymentError:
    code = error.get("code") if isinstance(error, Mapping) else None
    text = error.get("message") if isinstance(error, Mapping) else error
    status = int(code) if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) < 600 else 502
    billed = usage if isinstance(usage, dict) else None
    return DeploymentError(f"the hosted API returned an error: {_short(text)}", status, usage=billed)


def failure_of(error: Exception, timeout_s: float) -> DeploymentError:
    """Convert any exception of a call to a DeploymentError."""
    if isinstance(error, DeploymentError):
        return error
    if isinstance(error, APIStatusError):
        return _refusal(error)
    if isinstance(error, TimeoutError | APITimeoutError):
        return DeploymentError(f"the hosted API did not answer within {timeout_s:.3g} s", 504)
    if isinstance(error, APIConnectionError):
        return DeploymentError("the connection to the hosted API failed or was closed", 503)
    if isinstance(error, APIError):  # an error inside a stream
        return _error_with_status_200(error.body if isinstance(error.body, Mapping) else error.message)
    if isinstance(error, ConfigError):
        return DeploymentError(str(error), 401)
    if isinstance(error, OSError):
        return DeploymentError(f"the connection to the hosted API failed ({type(error).__name__})", 503)
    return DeploymentError(f"the hosted API's reply could not be parsed ({type(error).__name__})", 502)


def _refusal(error: APIStatusError) -> DeploymentError:
    """Convert a status other than 200; details of the tier's own key or configuration are only logged."""
    status, message = error.status_code, _message(error)
    if status in SETUP_FAULTS:
        logger.warning("%s returned %d: %s", error.request.url, status, message)
        message = "the tier's key or configuration is wrong; see its log"
    wait_s = retry_after_s(error.response.headers, time.time())
    return DeploymentError(f"the hosted API returned {status}: {message}", status, wait_s)


def _message(error: APIStatusError) -> str:
    """Return the API's error message, if it has one; an HTML page has none."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        return _short(inner.get("message") if isinstance(inner, Mapping) else inner)
    return "no reason given"


def _short(text: Any) -> str:
    return " ".join(str(text or "no reason given").split())[:MESSAGE_CHARS]
