"""A judge of live answers over fakes."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from router_models.types import Completion, Query
from serve_graph.access.caller import CALLER
from serve_graph.cascade.fakes import FakeEngine
from serve_graph.learning.judging.judge_metrics import JudgeMetrics
from serve_graph.learning.judging.live_judge import FinishedAnswer, LiveJudge
from serve_graph.records.feedback import Feedback

Endpoints = Callable[..., Any]
SOURCE = "judge:critic/echo"
NONCE = re.compile(r"VERDICT (\w+):")


@dataclass
class Critic(FakeEngine):
    """A judge that gives the words of `says` in turn, each as the verdict of the prompt that it was sent."""

    says: tuple[str, ...] = ("right",)
    form: str = "Seems so.\nVERDICT {nonce}: {word}"
    callers: list[Any] = field(default_factory=list)

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        self.callers.append(CALLER.get())
        done = await super().generate(query, left_s)
        asked = query.messages[0].content
        nonce = NONCE.findall(asked)[-1]
        word = self.says[(len(self.queries) - 1) % len(self.says)]
        return Completion(self.form.format(nonce=nonce, word=word), "stop", done.usage)


@dataclass
class Judged:
    """A LiveJudge over fakes, and what it wrote."""

    judge: LiveJudge
    critic: FakeEngine
    frontier: FakeEngine
    labels: list[Feedback]

    @property
    def metrics(self) -> JudgeMetrics:
        return self.judge.metrics

    async def one(self, **fields: Any) -> Feedback | None:
        """Have one answer judged: its label, or None."""
        before = len(self.labels)
        await self.judge.judge(an_answer(**fields))
        return self.labels[-1] if len(self.labels) > before else None


def an_answer(**fields: Any) -> FinishedAnswer:
    given: dict[str, Any] = {
        "decision": "dec-1",
        "route": "accepted",
        "tier": "cheap",
        "last_tier": "frontier",
        "query": Query.from_prompt("2 + 2?"),
        "shown": Completion("4"),
    }
    return FinishedAnswer(**given | fields)


@asynccontextmanager
async def running(judge: LiveJudge) -> AsyncIterator[None]:
    task = asyncio.ensure_future(judge.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(ready: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not ready():
            await asyncio.sleep(0.005)
