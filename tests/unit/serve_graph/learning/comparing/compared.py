"""A comparer of two versions over fakes, and requests that one of them has answered."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from router_models.types import Action, Completion, Query
from serve_graph.cascade import cascade
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, fake_context
from serve_graph.cascade.steps import RequestState, StreamTerms
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.comparing.comparer import Comparer
from serve_graph.learning.comparing.comparison_metrics import ComparisonMetrics
from serve_graph.records.comparisons import Comparison

SHOWN = re.compile(r"BEGIN (?:FIRST|SECOND) ANSWER (\w+)\n(.*?)\nEND", re.DOTALL)
CHEAP_USD, FRONTIER_USD, PAIR_USD = Decimal("0.00002"), Decimal("0.0002"), Decimal("0.00004")
"""What a fake tier's answer costs, and a pair's grading in both orders."""


@dataclass
class Critic(FakeEngine):
    """A judge for which these texts are right; `says` is its verdict instead, whatever stands first."""

    right: frozenset[str] = frozenset({"frontier says"})
    says: str | None = None

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        done = await super().generate(query, left_s)
        [(nonce, first), (_, second)] = SHOWN.findall(query.messages[0].content)
        found = (first in self.right, second in self.right)
        words = {(True, True): "both", (True, False): "first", (False, True): "second", (False, False): "neither"}
        return Completion(f"VERDICT {nonce}: {self.says or words[found]}", "stop", done.usage)


class TiesLast(Critic):
    """Of a pair with the last tier's answer it prefers whichever stands first."""

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        done = await super().generate(query, left_s)
        if "frontier says" not in query.messages[0].content:
            return done
        return replace(done, text=f"{done.text.rpartition(' ')[0]} first")


class TakenInByTheFirst(Critic):
    """Whatever stands first is right for it."""

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        done = await super().generate(query, left_s)
        second = SHOWN.findall(query.messages[0].content)[1][1]
        return replace(done, text=f"{done.text.rpartition(' ')[0]} {'both' if second in self.right else 'first'}")


def version(tier: str = "cheap", verdict: Action = Action.ACCEPTED) -> CascadeContext:
    """A version that sends everything to a tier, and gives every cheap answer this verdict."""
    return fake_context(decider=FakeDecider(tier), judge=FakeJudge(verdict))


ACCEPTS, ESCALATES, SENDS_UP = version(), version(verdict=Action.ESCALATED), version("frontier")


async def served(
    stable: CascadeContext,
    candidate: CascadeContext,
    *,
    arm: Any = "stable",
    stream: StreamTerms | None = None,
    query: Query | None = None,
    **fields: Any,
) -> ComparedRequest:
    """A request that one of two versions has answered."""
    both, state = {"stable": stable, "candidate": candidate}, RequestState()
    query = query or Query.from_prompt("2 + 2?")
    await cascade.answer(both[arm], query, None, state, stream)
    usd = sum((line.cost_usd for line in (*state.calls, *state.overhead)), Decimal(0))
    given: dict[str, Any] = {"decision": "dec-1", "slices": lambda: ("en",), "stream": stream}
    return ComparedRequest(
        rollout="rol-1", arm=arm, weight=0.05, unit="ab", probability=0.25, last_tier="frontier",
        query=query, state=state, usd=usd, context_of=lambda name: both[name], **given | fields,
    )  # fmt: skip


@dataclass
class Rig:
    """A Comparer over fakes, what it wrote, and whom it called."""

    comparer: Comparer
    critic: FakeEngine
    engines: dict[str, FakeEngine]
    rows: list[Comparison] = field(default_factory=list)

    @property
    def metrics(self) -> ComparisonMetrics:
        return self.comparer.metrics

    def asked(self) -> dict[str, int]:
        """How many calls each tier had from the comparer."""
        return {name: len(engine.queries) for name, engine in self.engines.items() if engine.queries}

    async def compared(self, stable: CascadeContext, candidate: CascadeContext, **given: Any) -> Comparison:
        """Compare one request; the row."""
        await self.comparer.compare(await served(stable, candidate, **given))
        return self.rows[-1]

    @asynccontextmanager
    async def running(self, until: Callable[[], Any]) -> AsyncIterator[None]:
        """Its workers run, in the end until something is so."""
        task = asyncio.ensure_future(self.comparer.run())
        try:
            yield
            async with asyncio.timeout(5):
                while not until():
                    await asyncio.sleep(0.005)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
