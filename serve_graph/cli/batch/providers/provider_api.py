"""A provider's own Files and Batch API, through the `openai` client: upload, create, look, read, find again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from openai import APIConnectionError, APIStatusError, NotFoundError

from serve_graph.config.tier_parts import HostedDeploymentConfig
from serve_graph.engines.hosted.openai_compatible import OpenAICompatibleEngine

if TYPE_CHECKING:
    from openai.types import Batch

ENDPOINT: Final = "/v1/chat/completions"
TOKEN = "serve_graph_batch"
"""The member of a batch's metadata that holds the token of its submission."""
PASSING = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
PROVIDER_TRIES, LONGEST_WAIT_S = 8, 60.0


class ProviderApi:
    """One deployment of a hosted tier. What creates something is never repeated before it was looked for.

    `pause_s`: the first pause after a failure that may pass; each next one is twice as long.
    """

    def __init__(
        self, config: HostedDeploymentConfig, timeout_s: float = 120.0, pause_s: float = 2.0, http_client: Any = None
    ) -> None:
        self.engine = OpenAICompatibleEngine(config, timeout_s, http_client)
        self.client = self.engine.client.with_options(timeout=timeout_s, max_retries=0)
        self.pause_s = pause_s

    def body(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A request's body as this API takes it in a line: its own model and names of parameters, no stream."""
        given = self.engine._arguments({k: v for k, v in asked.items() if k not in ("stream", "stream_options")})
        return {"model": given["model"], "messages": given["messages"], **given["extra_body"]}

    async def upload(self, token: str, lines: Iterable[tuple[str, str]]) -> str:
        """Upload (custom id, body) as a batch's file, unless it is there; returns its id."""
        rows = (
            f'{{"custom_id":{json.dumps(k)},"method":"POST","url":"{ENDPOINT}","body":{body}}}\n' for k, body in lines
        )
        content = "".join(rows).encode()

        async def send() -> str:
            named = (f"serve-graph-{token}.jsonl", content)
            return (await self.client.files.create(file=named, purpose="batch")).id

        return await self._once(send, lambda: self.find_file(token))

    async def create(self, token: str, file: str) -> str:
        """Create the batch of a file, unless it is there; returns its id."""

        async def send() -> str:
            made = await self.client.batches.create(
                input_file_id=file, endpoint=ENDPOINT, completion_window="24h", metadata={TOKEN: token}
            )
            return made.id

        return await self._once(send, lambda: self.find_batch(token))

    async def find_file(self, token: str) -> str | None:
        """The id of the file that was uploaded under a token."""
        name = f"serve-graph-{token}.jsonl"
        async for file in self.client.files.list(purpose="batch"):
            if file.filename == name:
                return file.id
        return None

    async def find_batch(self, token: str) -> str | None:
        """The id of the batch that was created under a token."""
        async for batch in self.client.batches.list(limit=100):
            if (batch.metadata or {}).get(TOKEN) == token:
                return batch.id
        return None

    async def look(self, batch: str) -> Batch:
        """A batch as it stands."""
        found: Batch = await self._again(lambda: self.client.batches.retrieve(batch))
        return found

    async def cancel(self, batch: str) -> None:
        """Cancel a batch; what has ended stays as it is."""
        await self.client.batches.cancel(batch)

    async def read(self, file: str) -> list[dict[str, Any]]:
        """The lines of an output or error file; what is no JSON object is left out."""
        content = await self._again(lambda: self.client.files.content(file))
        found = []
        for line in content.content.split(b"\n"):
            try:
                one = json.loads(line)
            except ValueError:
                continue
            if isinstance(one, dict):
                found.append(one)
        return found

    async def delete(self, file: str) -> None:
        """Delete a file; where that fails it stays until the provider's own retention ends."""
        try:
            await self.client.files.delete(file)
        except (APIStatusError, APIConnectionError):
            return

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def _once(self, send: Callable[[], Any], find: Callable[[], Any]) -> str:
        """Send what creates something; after a failure whose end is not known, look for it before it is sent again."""
        for attempt in range(PROVIDER_TRIES):
            if attempt and (there := await self._again(find)) is not None:
                return str(there)
            try:
                return str(await send())
            except (APIConnectionError, APIStatusError) as error:
                await self._pause(error, attempt)
        raise AssertionError("the last failure was raised")

    async def _again(self, read: Callable[[], Any]) -> Any:
        """Read something, again after failures that may pass."""
        for attempt in range(PROVIDER_TRIES):
            try:
                return await read()
            except (APIConnectionError, APIStatusError) as error:
                await self._pause(error, attempt)
        raise AssertionError("the last failure was raised")

    async def _pause(self, error: APIConnectionError | APIStatusError, attempt: int) -> None:
        may_pass = not isinstance(error, APIStatusError) or error.status_code in PASSING
        if not may_pass or isinstance(error, NotFoundError) or attempt + 1 == PROVIDER_TRIES:
            raise error
        await asyncio.sleep(min(LONGEST_WAIT_S, self.pause_s * 2**attempt))
