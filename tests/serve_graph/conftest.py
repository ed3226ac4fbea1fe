from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from router_models.types import Call, DecisionRecord, Usage
from serve_graph.cascade import Graph
from serve_graph.http import Backend, build_http
from serve_graph.metrics import render_metrics
from serve_graph.service import Service
from serve_graph.testing import ListSink, fake_graph

CALLER = ("127.0.0.1", 50_000)


@dataclass
class Endpoint:
    """The HTTP application over a graph of fakes, without a server."""

    graph: Graph
    sink: ListSink = field(default_factory=ListSink)
    max_body_bytes: int = 4096
    ready: bool = True

    def __post_init__(self) -> None:
        self.service = Service(self.graph, self.sink)
        self.app: FastAPI = build_http(
            Backend(self.service, self._find, self._readiness, self._metrics, self._background, self.max_body_bytes)
        )

    @property
    def record(self) -> DecisionRecord:
        """The only record there is."""
        [record] = self.sink.records
        return record

    def client(self, caller: tuple[str, int] = CALLER) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=caller)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    async def chat(self, model: str = "auto", content: Any = "hello", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
        async with self.client() as client:
            return await client.post("/v1/chat/completions", json=body)

    async def _find(self, decision_id: str) -> DecisionRecord | None:
        return next((record for record in self.sink.records if record.id == decision_id), None)

    async def _readiness(self) -> dict[str, Any]:
        return {"ready": self.ready}

    async def _metrics(self) -> str:
        return render_metrics(self.service.tally, 0, {})

    async def _background(self) -> None:
        return None


@pytest.fixture
def endpoint() -> Callable[..., Endpoint]:
    """Make an Endpoint; keywords are `fake_graph`'s."""
    return lambda **fakes: Endpoint(fake_graph(**fakes))


@pytest.fixture
def a_record() -> Callable[..., DecisionRecord]:
    """Make a DecisionRecord; keywords replace its fields."""

    def make(id: str = "dec-1", **fields: Any) -> DecisionRecord:
        calls = (
            Call("cheap", Usage(10, 5, 2), 0.25, Decimal("0.000002")),
            Call("frontier", Usage(12, 7), 1.5, Decimal("0.00026")),
        )
        values: dict[str, Any] = {
            "id": id,
            "created_at": "2026-01-02T03:04:05.678+00:00",
            "requested_model": "auto",
            "tier": "frontier",
            "outcome": "escalated",
            "version": "serve-graph-router/1",
            "status": 200,
            "stream": False,
            "prompt_sha256": "ab" * 32,
            "prompt_chars": 5,
            "route_reason": "estimated 0.900 ≥ 0.500: try cheap",
            "p_cheap_ok": 0.9,
            "distance": None,
            "verdict_reason": "estimated 0.100 < 0.500: escalate",
            "p_answer_ok": 0.1,
            "calls": calls,
            "cost_usd": Decimal("0.000262"),
            "latency_s": 1.76,
            "metadata": {"task": "naïve ☃"},
        }
        return DecisionRecord(**values | fields)

    return make
