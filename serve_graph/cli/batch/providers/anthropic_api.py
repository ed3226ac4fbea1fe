"""Anthropic's Message Batches over httpx, as the tier asks it: create, look, read, find again.

A batch there has neither a name nor metadata. What tells ours is the beginning of each `custom_id`, the token of its
submission; ids are shown with the results alone. So where nobody noted whether a batch was created, those of as many
requests are waited for until they have ended: that takes as long as the batch itself would.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx

from serve_graph.cli.batch.providers.batch_api import (
    ProviderBatch,
    ProviderError,
    ProviderReply,
    created_once,
    tried_again,
)
from serve_graph.cli.batch.providers.provider_ledger import ProviderLine, Submission
from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.engines.hosted.anthropic.engine import API_VERSION, AnthropicEngine
from serve_graph.engines.hosted.anthropic.failure import STATUSES
from serve_graph.engines.hosted.anthropic.reply import chat_completion
from serve_graph.engines.hosted.anthropic.request import anthropic_request
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.http_client import LongReplyError, read_whole, send_whole
from serve_graph.protocol.responses import MALFORMED

TOKEN_CHARS, KEY_CHARS = 16, 48
"""Of a `custom_id`, which has 64 at most."""
LISTED_AT_ONCE = 100
UNREADABLE = 200
"""The status of an error that is a reply which nobody reads whole: the call was answered, and none like it helps."""
OLDER_S = 3600.0
"""How far the provider's clock may be behind ours."""
NOT_ANSWERED = {"expired": "the batch expired before this request", "canceled": "the batch was cancelled"}


class AnthropicBatchApi:
    """One deployment of a hosted tier that speaks Anthropic's API.

    `pause_s`: the first pause after a failure that may pass; `look_s`: between looks for a batch that nobody noted.
    """

    def __init__(
        self,
        config: HostedDeploymentConfig,
        timeout_s: float = 120.0,
        pause_s: float = 2.0,
        look_s: float = 30.0,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self.engine = AnthropicEngine(config, timeout_s, http_client)
        self.config, self.timeout_s, self.pause_s, self.look_s = config, timeout_s, pause_s, look_s
        self.url = f"{self.engine.url}/batches"

    def body(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A request as this API takes it, not streamed; raises DeploymentError for what it has no counterpart for."""
        try:
            made = anthropic_request({k: v for k, v in asked.items() if k != "stream_options"}, self.config)
        except MALFORMED as error:
            message = f"the request has no counterpart in the tier's API ({type(error).__name__})"
            raise DeploymentError(message, 400) from error
        made.pop("stream", None)
        return made

    async def file_of(self, begun: Submission, lines: Sequence[ProviderLine], is_new: bool) -> str:
        """Nothing is uploaded: requests are part of the call that creates the batch."""
        return ""

    async def create(self, begun: Submission, file: str, lines: Sequence[ProviderLine]) -> str:
        """Create the batch of these lines, unless it is there; returns its id."""
        rows = (f'{{"custom_id":{json.dumps(_custom_id(begun, line))},"params":{line.body}}}' for line in lines)
        content = f'{{"requests":[{",".join(rows)}]}}'.encode()

        async def send() -> str:
            return str((await self._json("POST", self.url, content))["id"])

        return await created_once(send, lambda: self.find_batch(begun, lines), self.pause_s)

    async def find_batch(self, begun: Submission, lines: Sequence[ProviderLine]) -> str | None:
        """The id of the batch whose requests carry a submission's token; waits for those that may be it."""
        others: set[str] = set()
        while True:
            is_open = False
            async for one in self._listed(begun.began - OLDER_S):
                name = str(one.get("id"))
                if name in others or sum((one.get("request_counts") or {}).values()) != len(lines):
                    continue
                if one.get("processing_status") != "ended":
                    is_open = True
                elif await self._first_custom_id(one, begun):
                    return name
                else:
                    others.add(name)
            if not is_open:
                return None
            await asyncio.sleep(self.look_s)

    async def look(self, batch: str) -> ProviderBatch:
        """A batch as it stands."""
        found = await tried_again(lambda: self._json("GET", f"{self.url}/{batch}"), self.pause_s)
        counts = {str(name): int(value) for name, value in (found.get("request_counts") or {}).items()}
        total = sum(counts.values())
        status = "completed" if found.get("processing_status") == "ended" else str(found.get("processing_status"))
        answers = (self._results_url(found),) if status == "completed" else ()
        return ProviderBatch(batch, status, total - counts.get("processing", 0), total, (), answers, (batch,))

    async def replies(self, found: ProviderBatch, lines: Sequence[ProviderLine]) -> dict[str, ProviderReply]:
        """What came of the lines, by their keys."""
        keys = {line.key[:KEY_CHARS]: line.key for line in lines}

        async def read() -> dict[str, ProviderReply]:
            told = {}
            async for one in self._lines(found.answers[0]):
                if (key := keys.get(str(one.get("custom_id"))[TOKEN_CHARS:])) is not None:
                    told[key] = read_result(one.get("result"))
            return told

        return await tried_again(read, self.pause_s)

    async def remains(self, found: ProviderBatch, lines: Sequence[ProviderLine]) -> dict[str, ProviderReply]:
        """What the results say, where these are still there; raises where no batches are at this address at all."""
        await tried_again(lambda: self._json("GET", f"{self.url}?limit=1"), self.pause_s)
        try:
            return await self.replies(replace(found, answers=(f"{self.url}/{found.id}/results",)), lines)
        except ProviderError as error:
            if not error.is_gone:
                raise
            return {}

    async def tidy(self, found: ProviderBatch) -> None:
        """Delete a batch with its results; where that fails it stays until the provider's own retention ends."""
        try:
            await self._json("DELETE", f"{self.url}/{found.id}")
        except ProviderError:
            return

    async def close(self) -> None:
        """Close the connections."""
        await self.engine.close()

    async def _listed(self, since: float) -> AsyncIterator[dict[str, Any]]:
        """Batches, the newest first, down to a moment."""
        after: str | None = None
        while True:
            query = f"?limit={LISTED_AT_ONCE}" + ("" if after is None else f"&after_id={after}")
            page = await tried_again(lambda query=query: self._json("GET", self.url + query), self.pause_s)  # type: ignore[misc]
            rows = [one for one in page.get("data") or () if isinstance(one, dict)]
            for one in rows:
                if _moment(one.get("created_at")) < since:
                    return
                yield one
            if not page.get("has_more") or not rows:
                return
            after = str(rows[-1].get("id"))

    async def _first_custom_id(self, batch: dict[str, Any], begun: Submission) -> bool:
        """Whether a batch's first result is of a submission's requests."""
        try:
            async for one in self._lines(self._results_url(batch)):
                return str(one.get("custom_id")).startswith(begun.token[:TOKEN_CHARS])
        except ProviderError as error:
            if error.may_pass:
                raise
        return False

    def _results_url(self, batch: dict[str, Any]) -> str:
        """Where the results are, as the provider says; a key is sent to the tier's own host alone."""
        given, own = str(batch.get("results_url") or ""), f"{self.url}/{batch.get('id')}/results"
        return given if given and httpx.URL(given).netloc == httpx.URL(self.url).netloc else own

    async def _lines(self, url: str) -> AsyncIterator[dict[str, Any]]:
        try:
            async with self.engine.client.stream("GET", url, headers=self._headers(), timeout=self.timeout_s) as reply:
                if reply.status_code != 200:
                    try:
                        await read_whole(reply)
                    except LongReplyError as error:
                        raise ProviderError(f"{reply.status_code}: the reply is {error}", reply.status_code) from error
                    raise ProviderError(_said(reply), reply.status_code)
                async for line in reply.aiter_lines():
                    try:
                        one = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(one, dict):
                        yield one
        except httpx.HTTPError as error:
            raise ProviderError(type(error).__name__) from error

    async def _json(self, method: str, url: str, content: bytes | None = None) -> dict[str, Any]:
        headers = self._headers() | ({} if content is None else {"content-type": "application/json"})
        try:
            asked = self.engine.client.build_request(
                method, url, headers=headers, content=content, timeout=self.timeout_s
            )
            reply = await send_whole(self.engine.client, asked)
        except LongReplyError as error:  # the connection is well, and the next reply would be no shorter
            raise ProviderError(f"the reply is {error}", UNREADABLE) from error
        except httpx.HTTPError as error:
            raise ProviderError(type(error).__name__) from error
        try:
            found = reply.json()
        except ValueError:
            found = None
        if reply.status_code != 200 or not isinstance(found, dict):
            raise ProviderError(_said(reply), reply.status_code if reply.status_code != 200 else 502)
        return found

    def _headers(self) -> dict[str, str]:
        return {"x-api-key": self.config.read_key(), "anthropic-version": API_VERSION, **self.config.headers}


def read_result(result: Any) -> ProviderReply:
    """The result of one request as the tier's reply."""
    told: dict[str, Any] = result if isinstance(result, dict) else {}
    kind = str(told.get("type"))
    if kind == "succeeded":
        try:
            return {**chat_completion(told.get("message")), "service_tier": "batch"}
        except DeploymentError as failed:
            return {"error": failed.body()["error"], "usage": failed.usage}
    if kind == "errored":
        outer = told.get("error")
        inner = outer.get("error", outer) if isinstance(outer, dict) else {}
        name = str(inner.get("type")) if isinstance(inner, dict) else ""
        message = str(inner.get("message") if isinstance(inner, dict) else inner)[:2000]
        return {"error": {"message": message, "code": STATUSES.get(name, 500), "type": name}}
    return {"error": {"message": NOT_ANSWERED.get(kind, "no answer"), "code": 503, "type": kind}}


def _custom_id(begun: Submission, line: ProviderLine) -> str:
    return f"{begun.token[:TOKEN_CHARS]}{line.key[:KEY_CHARS]}"


def _moment(text: Any) -> float:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return time.time()


def _said(reply: httpx.Response) -> str:
    return f"{reply.status_code}: {reply.text[:300]}"
