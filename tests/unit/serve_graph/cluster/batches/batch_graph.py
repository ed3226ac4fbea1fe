"""A graph of fakes with files and batches: the HTTP application, a store on the disk, and workers that a test runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from serve_graph.access.accounts import AccountingSink, Accounts
from serve_graph.access.keys import Keyring, key_hash
from serve_graph.api.batches.files import BatchParts
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.fakes import ListSink, fake_context
from serve_graph.cluster.batches.batch_metrics import BatchMetrics
from serve_graph.cluster.batches.line_run import LineRunner
from serve_graph.cluster.batches.pace import Pace
from serve_graph.cluster.batches.worker import BatchWorker
from serve_graph.config.access import KeyConfig
from serve_graph.config.records import BatchesConfig
from serve_graph.errors import StoreUnavailableError
from serve_graph.gateway.handler import Service
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.batches.batches_table import BatchesTable
from serve_graph.records.batches.file_storage import FileStorage
from serve_graph.records.batches.files_table import FilesTable
from serve_graph.records.store import DecisionStore

CHAT = "/v1/chat/completions"
ELSEWHERE = ("203.0.113.7", 50_000)
Body = dict[str, Any]


def line(number: int, url: str = CHAT, **body: Any) -> Body:
    """A line of an input file."""
    n = number
    asked = body or {"model": "auto", "messages": [{"role": "user", "content": f"question {n}"}]}
    return {"custom_id": f"row-{n}", "method": "POST", "url": url, "body": asked}


def jsonl(*lines: Body) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


@dataclass
class BatchGraph:
    """The graph; `keys` as KeyConfig takes them, whose secrets are their names. `offset_ms`: how late it is."""

    folder: Path
    store_url: str
    keys: Sequence[Body] = ()
    batches: Body = field(default_factory=dict)
    fakes: Body = field(default_factory=dict)
    max_line_bytes: int = 4096
    lease_s: float = 15.0

    def __post_init__(self) -> None:
        self.offset_ms = 0
        self.sink = ListSink()
        self.config = BatchesConfig.model_validate(self.batches)
        self.keyring = Keyring([KeyConfig.model_validate({"sha256": key_hash(k["name"]), **k}) for k in self.keys])
        self.accounts = Accounts()
        sink = AccountingSink(self.sink, self.accounts, self.keyring.named)
        self.service = Service(fake_context(**self.fakes), sink, accounts=self.accounts)
        self.store = DecisionStore(self.store_url)
        self.storage = FileStorage(self.config.files or str(self.folder / "files"))
        self.parts = self.parts_over(self.store)
        self.app = build_http(
            Backend(
                self.service, self._nothing, self._nothing, self._nothing, self._nothing, 1 << 20,
                keyring=self.keyring, accounts=self.accounts, batches=self.parts,
                audit=AuditLog(self.store),
            )
        )  # fmt: skip

    def parts_over(self, store: DecisionStore) -> BatchParts:
        return BatchParts(
            FilesTable(store), BatchesTable(store), self.storage, self.config, now_ms=lambda: self.now_ms
        )

    @property
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    def worker(self, parts: BatchParts | None = None, service: Service | None = None) -> BatchWorker:
        """A worker as an ingress replica has one, with a quick look."""
        metrics = BatchMetrics()
        pace = Pace(self.accounts.traffic, self.config.concurrency, self.config.beside)
        runner = LineRunner(service or self.service, self.accounts, self.keyring, pace, metrics, self.config.attempts)
        return BatchWorker(
            parts or self.parts, runner, metrics, self.max_line_bytes, lease_s=self.lease_s, look_every_s=0.05
        )

    @asynccontextmanager
    async def working(self, worker: BatchWorker | None = None) -> AsyncIterator[BatchWorker]:
        worker = worker or self.worker()
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        at = ("127.0.0.1", 50_000) if key is None else ELSEWHERE
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=at)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)

    async def upload(self, content: bytes, key: str | None = None, **fields: str) -> httpx.Response:
        async with self.client(key) as client:
            data = {"purpose": "batch", **fields}
            return await client.post("/v1/files", files={"file": ("in.jsonl", content)}, data=data)

    async def create(self, content: bytes, key: str | None = None, endpoint: str = CHAT, **fields: Any) -> Body:
        """Upload and create a batch; returns the batch."""
        uploaded = await self.upload(content, key)
        assert uploaded.status_code == 200, uploaded.text
        body = {"input_file_id": uploaded.json()["id"], "endpoint": endpoint, "completion_window": "24h", **fields}
        async with self.client(key) as client:
            created = await client.post("/v1/batches", json=body)
        assert created.status_code == 200, created.text
        batch: Body = created.json()
        return batch

    async def get(self, path: str, key: str | None = None) -> httpx.Response:
        async with self.client(key) as client:
            return await client.get(path)

    async def ended(self, batch: Body, key: str | None = None, seconds: float = 30.0) -> Body:
        """The batch, once it has ended."""
        return await self.until(batch, lambda one: one["status"] not in OPEN_STATUSES, key, seconds)

    async def until(
        self, batch: Body, ready: Callable[[Body], Any], key: str | None = None, seconds: float = 30.0
    ) -> Body:
        async with asyncio.timeout(seconds):
            while True:
                found: Body = (await self.get(f"/v1/batches/{batch['id']}", key)).json()
                if ready(found):
                    return found
                await asyncio.sleep(0.03)

    async def run(self, content: bytes, key: str | None = None, endpoint: str = CHAT, **fields: Any) -> Body:
        """Upload, create, and work until it has ended."""
        batch = await self.create(content, key, endpoint, **fields)
        async with self.working():
            return await self.ended(batch, key)

    async def lines(self, file_id: str | None, key: str | None = None) -> list[Body]:
        """The lines of a result file; none where there is no file."""
        if file_id is None:
            return []
        reply = await self.get(f"/v1/files/{file_id}/content", key)
        assert reply.status_code == 200, reply.text
        return [json.loads(one) for one in reply.text.splitlines()]

    async def close(self) -> None:
        await self.store.close()

    async def _nothing(self, *_: Any) -> Any:
        return {"ready": True}


OPEN_STATUSES = ("validating", "in_progress", "finalizing", "cancelling")


def failing_notes(parts: BatchParts) -> BatchParts:
    """The same, whose store is away whenever results are to be written: as for a process that was cut off."""

    class Away(BatchesTable):
        async def note(self, row: Any, results: Any, until_ms: int, *, again: bool = False) -> Any:
            raise StoreUnavailableError("away")

    return replace(parts, batches=Away(parts.batches.store))
