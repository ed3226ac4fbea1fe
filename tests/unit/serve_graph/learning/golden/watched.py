"""A fake API whose model may change, and a graph that asks it golden tasks by a clock of its own."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_graph.cluster.service import golden_watch
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.learning.golden.golden_watch import GoldenWatch
from serve_graph.learning.golden.run_table import GoldenTable, RecordedRun
from serve_graph.learning.golden.task_set import fixed_set
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.records.store import DecisionStore
from tests.fixtures.upstream import DirectHandle

DAY = timedelta(days=1)
VERSION = "router/1"
VERDICT = re.compile(r"^(VERDICT \w+: right)$", re.MULTILINE)


class FakeApi:
    """An OpenAI-compatible server: `answer` makes its replies, `faults` are statuses that it gives instead."""

    def __init__(self) -> None:
        self.answer: Callable[[str], str] = lambda prompt: f"answer to {prompt}"
        self.model, self.fingerprint = "big-model-2026-01", "fp_1"
        self.faults: Iterator[int] = iter(())
        self.refuses: str | None = None
        self.asked: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.reply, methods=["POST"])])

    async def reply(self, request: Request) -> JSONResponse:
        body = json.loads(await request.body())
        self.asked.append(body)
        if status := next(self.faults, 0):
            return JSONResponse({"error": {"message": "out of order", "type": "server_error"}}, status)
        if self.refuses in body:
            said = f"Unsupported parameter: '{self.refuses}' is not supported with this model."
            error = {"message": said, "type": "invalid_request_error", "param": self.refuses}
            return JSONResponse({"error": {**error, "code": "unsupported_parameter"}}, 400)
        prompt = body["messages"][-1]["content"]
        text = self.answer(prompt)
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        message = {"role": "assistant", "content": text}
        return JSONResponse(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": self.model,
                "system_fingerprint": self.fingerprint,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {**usage, "total_tokens": sum(usage.values())},
            }
        )


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


class Golden:
    """A graph's hosted tier over the fake API, and what asks it; `day` lets a day go by and looks."""

    def __init__(self, folder: Path, store: DecisionStore, **golden: Any) -> None:
        price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
        hosted = {"name": "frontier", "engine": "openai", "price": price, "model": "big", "base_url": "http://api/v1"}
        hosted["failover"] = {"max_attempts": 1, "trip_after": 1000}
        tiers = [{"name": "cheap", "engine": "echo", "price": price}, hosted]
        settings = {"reference_runs": 3, "reference_every_s": 86_400, "size": 20, **golden}
        judge = settings.pop("judge", None)
        records = {"keep_prompts": settings["tasks"] == "kept"} if "tasks" in settings else {}
        self.config = GraphConfig.model_validate(
            {"tiers": tiers, "golden": settings, "judge": judge, "state_folder": folder, "records": records}
        )
        self.store, self.api, self.clock = store, FakeApi(), Clock()
        self.told: list[tuple[str, list[str]]] = []
        self.served: Any = ServedPolicy.of(None, VERSION, "", self.config)
        self.watch = self.replica()
        self.tickets, self.alarms = AlarmTable(store, tickets=True), AlarmTable(store)

    def replica(self) -> GoldenWatch:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.api.app))
        tier: Any = self.config.tier("frontier")
        engine = HandleEngine(DirectHandle(HostedEngine(tier, client)), tier)  # type: ignore[arg-type]
        cheap: Any = HandleEngine(DirectHandle(None), self.config.tier("cheap"))  # type: ignore[arg-type]
        watch = golden_watch(self.config, {"cheap": cheap, "frontier": engine}, self.store, lambda: self.served)
        assert watch is not None
        watch.now, watch.announce, watch.asker.pause_s = self.clock, self.announce, 0.0
        watch.certified = lambda: True
        return watch

    async def announce(self, event: str, alarms: Sequence[Alarm]) -> None:
        self.told.append((event, [alarm.scope for alarm in alarms]))

    async def days(self, n: int) -> None:
        for _ in range(n):
            self.clock.at += DAY
            await self.watch.look()

    async def open(self) -> set[str]:
        return {ticket.scope for ticket in await self.tickets.all() if ticket.lifted_at is None}

    async def runs(self) -> list[RecordedRun]:
        return await GoldenTable(self.store).latest("frontier", 100)


def solved(config: GraphConfig, wrong: Callable[[int], bool] = lambda i: False) -> Callable[[str], str]:
    """A model that answers the golden tasks right, but for those that are to be wrong."""
    assert config.golden is not None
    tasks = {task.prompt: task for task in fixed_set(config.golden).tasks.values()}
    places = {prompt: i for i, prompt in enumerate(tasks)}
    return lambda prompt: "I do not know." if wrong(places[prompt]) else tasks[prompt].solution
