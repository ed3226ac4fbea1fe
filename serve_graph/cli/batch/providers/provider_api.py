"""OpenAI's Files and Batch API, through the `openai` client: upload, create, look, read, find again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient

from serve_graph.cli.batch.providers.batch_api import (
    ProviderBatch,
    ProviderError,
    ProviderReply,
    created_once,
    tried_again,
)
from serve_graph.cli.batch.providers.provider_ledger import ProviderLine, Submission
from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.openai_compatible import OpenAICompatibleEngine
from serve_graph.engines.hosted.replies import whole_reply

if TYPE_CHECKING:
    from openai.types import Batch

ENDPOINT: Final = "/v1/chat/completions"
TOKEN = "serve_graph_batch"
"""The member of a batch's metadata that holds the token of its submission."""


class ProviderApi:
    """One deployment of a hosted tier. What creates something is never repeated before it was looked for.

    `pause_s`: the first pause after a failure that may pass; each next one is twice as long.
    """

    def __init__(
        self, config: HostedDeploymentConfig, timeout_s: float = 120.0, pause_s: float = 2.0, http_client: Any = None
    ) -> None:
        self.engine = OpenAICompatibleEngine(config, timeout_s)

        async def key() -> str:
            return config.read_key()

        self.client = AsyncOpenAI(
            api_key=key,
            base_url=self.engine.url,
            organization=config.organization,
            project=config.project,
            default_headers=config.headers,
            timeout=timeout_s,
            max_retries=0,
            http_client=http_client or DefaultAsyncHttpxClient(follow_redirects=False),
        )
        self.pause_s = pause_s

    def body(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A request's body as this API takes it in a line: its own model and names of parameters, no stream."""
        given = self.engine._arguments({k: v for k, v in asked.items() if k not in ("stream", "stream_options")})
        return {name: value for name, value in given.items() if name != "stream"}

    async def file_of(self, begun: Submission, lines: Sequence[ProviderLine], is_new: bool) -> str:
        """Upload the lines as a batch's file, unless it is there; returns its id."""
        found = None if is_new else await tried_again(lambda: self._find_file(begun.token), self.pause_s)
        return found or await self._upload(begun.token, ((line.key, line.body) for line in lines))

    async def create(self, begun: Submission, file: str, lines: Sequence[ProviderLine]) -> str:
        """Create the batch of a file, unless it is there; returns its id."""

        async def send() -> str:
            async with _translated():
                made = await self.client.batches.create(
                    input_file_id=file, endpoint=ENDPOINT, completion_window="24h", metadata={TOKEN: begun.token}
                )
                return str(made.id)

        return await created_once(send, lambda: self.find_batch(begun, lines), self.pause_s)

    async def find_batch(self, begun: Submission, lines: Sequence[ProviderLine]) -> str | None:
        """The id of the batch that was created under a submission's token."""
        async with _translated():
            async for batch in self.client.batches.list(limit=100):
                if (batch.metadata or {}).get(TOKEN) == begun.token:
                    return str(batch.id)
        return None

    async def look(self, batch: str) -> ProviderBatch:
        """A batch as it stands."""

        async def retrieve() -> ProviderBatch:
            async with _translated():
                return _as_it_stands(await self.client.batches.retrieve(batch))

        return await tried_again(retrieve, self.pause_s)

    async def replies(self, found: ProviderBatch, lines: Sequence[ProviderLine]) -> dict[str, ProviderReply]:
        """What output and error file say, by the lines' keys; what is no JSON object is left out."""
        told: dict[str, ProviderReply] = {}
        for file in found.answers:
            for one in await self._read(file):
                told[str(one.get("custom_id"))] = read_line(one)
        return told

    async def remains(self, found: ProviderBatch, lines: Sequence[ProviderLine]) -> dict[str, ProviderReply]:
        """What result files say that are still there; the provider names them after their batch."""

        async def listed() -> list[str]:
            async with _translated():
                files = [file async for file in self.client.files.list(purpose="batch_output")]
            return [str(file.id) for file in files if file.filename.startswith(f"{found.id}_")]

        told: dict[str, ProviderReply] = {}
        for file in {*found.answers, *await tried_again(listed, self.pause_s)}:
            try:
                rows = await self._read(file)
            except ProviderError as error:
                if not error.is_gone:
                    raise
                continue
            told |= {str(one.get("custom_id")): read_line(one) for one in rows}
        return told

    async def tidy(self, found: ProviderBatch) -> None:
        """Delete a batch's files; where that fails they stay until the provider's own retention ends."""
        for file in found.files:
            try:
                await self.client.files.delete(file)
            except (APIStatusError, APIConnectionError):
                continue

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()
        await self.engine.close()

    async def _upload(self, token: str, lines: Iterable[tuple[str, str]]) -> str:
        rows = (
            f'{{"custom_id":{json.dumps(k)},"method":"POST","url":"{ENDPOINT}","body":{body}}}\n' for k, body in lines
        )
        content = "".join(rows).encode()

        async def send() -> str:
            named = (f"serve-graph-{token}.jsonl", content)
            async with _translated():
                return str((await self.client.files.create(file=named, purpose="batch")).id)

        return await created_once(send, lambda: self._find_file(token), self.pause_s)

    async def _find_file(self, token: str) -> str | None:
        name = f"serve-graph-{token}.jsonl"
        async with _translated():
            async for file in self.client.files.list(purpose="batch"):
                if file.filename == name:
                    return str(file.id)
        return None

    async def _read(self, file: str) -> list[dict[str, Any]]:
        async def content() -> bytes:
            async with _translated():
                return bytes((await self.client.files.content(file)).content)

        found = []
        for line in (await tried_again(content, self.pause_s)).split(b"\n"):
            try:
                one = json.loads(line)
            except ValueError:
                continue
            if isinstance(one, dict):
                found.append(one)
        return found


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """The client's errors as ProviderErrors."""
    try:
        yield
    except APIStatusError as error:
        raise ProviderError(str(error)[:300], error.status_code) from error
    except APIConnectionError as error:
        raise ProviderError(type(error).__name__) from error


def _as_it_stands(found: Batch) -> ProviderBatch:
    counts = found.request_counts
    done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
    data = found.errors.data if found.errors is not None else None
    said = tuple(str(one.message) for one in (data or [])[:3])
    answers = tuple(file for file in (found.output_file_id, found.error_file_id) if file is not None)
    return ProviderBatch(found.id, found.status, done, total, said, answers, (found.input_file_id, *answers))


def read_line(one: dict[str, Any]) -> ProviderReply:
    """A line of an output or error file as the tier's reply."""
    response, error = one.get("response"), one.get("error")
    if not isinstance(response, dict):
        why: dict[str, Any] = error if isinstance(error, dict) else {}
        return {"error": {"message": str(why.get("message") or "no answer"), "code": 503, "type": why.get("code")}}
    body, status = response.get("body"), response.get("status_code")
    if status != 200:
        inner = body.get("error") if isinstance(body, dict) else None
        told: dict[str, Any] = inner if isinstance(inner, dict) else {}
        return {
            "error": {"message": str(told.get("message") or body)[:2000], "code": status, "type": told.get("type")}
        }
    try:
        return {**whole_reply(json.dumps(body).encode()), "service_tier": "batch"}
    except DeploymentError as failed:
        return {"error": failed.body()["error"], "usage": failed.usage}
