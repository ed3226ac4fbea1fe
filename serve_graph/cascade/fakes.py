"""Fakes of every interface, for tests of anything built on the cascade: no Ray, no model, no clock, no chance.

They keep what they were asked (`queries`, `records`), so that a test asserts on what happened, not on mocks.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from router_models.pricing.prices import Price
from router_models.types import (
    PREFIX_FINISH,
    Action,
    Completion,
    Decision,
    DecisionRecord,
    OperatingPoint,
    PrefixPoint,
    Query,
    Usage,
    Verdict,
)
from router_models.versions.policy import Policy
from serve_graph.cascade.context import CascadeContext
from serve_graph.errors import EngineTimeoutError
from serve_graph.protocol.responses import text_pieces, usage_json

PRICES: Mapping[str, Price] = {
    "cheap": Price(Decimal(1), Decimal(2)),
    "frontier": Price(Decimal(10), Decimal(20)),
}

FAKE_USAGE = Usage(prompt_tokens=10, completion_tokens=5)


@dataclass
class FakeEngine:
    """An Engine and StreamingEngine that says `text`, or raises `error` before its first word.

    A stream sends `break_after` chunks and then raises `breaks_with`, or `hang_after` chunks and then waits for ever;
    text comes `piece_chars` characters a chunk. `tool_calls` (OpenAI's) are made instead of ending with `stop`.
    It takes `slow_s` seconds to begin; where a call has less, it fails as late. `left_s` are the times it was given.
    `closed` counts the calls and streams that were closed before their end.
    """

    text: str = "the answer"
    usage: Usage = FAKE_USAGE
    token_logprobs: tuple[float, ...] = (-0.1, -0.2)
    error: Exception | None = None
    break_after: int | None = None
    breaks_with: Exception = field(default_factory=lambda: RuntimeError("the engine died"))
    hang_after: int | None = None
    finishes: bool = True
    piece_chars: int = 4
    slow_s: float = 0.0
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    left_s: list[float] = field(default_factory=list)
    closed: int = 0

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        self.queries.append(query)
        self.left_s.append(left_s)
        try:
            await self._think(left_s)
        except asyncio.CancelledError:
            self.closed += 1
            raise
        if self.error is not None:
            raise self.error
        choices = int(query.parameters.get("n") or 1)
        if choices == 1 and not self.tool_calls:
            return Completion(self.text, "stop", self.usage, self.token_logprobs)
        message = {"role": "assistant", "content": self.text or None}
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls  # type: ignore[assignment]
        payload = [{"index": i, "message": message, "finish_reason": self._reason} for i in range(choices)]
        return Completion(self.text, self._reason, self.usage, self.token_logprobs, payload={"choices": payload})

    async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
        self.queries.append(query)
        self.left_s.append(left_s)
        ended = False
        try:
            await self._think(left_s)
            if self.error is not None:
                ended = True
                raise self.error
            for i, piece in enumerate(self._chunks()):
                if i == self.break_after:
                    raise self.breaks_with
                if i == self.hang_after:
                    await asyncio.Event().wait()
                yield piece
            ended = True
        finally:
            self.closed += not ended

    async def _think(self, left_s: float) -> None:
        await asyncio.sleep(min(self.slow_s, left_s))
        if left_s < self.slow_s:
            raise EngineTimeoutError(f"the fake took over {left_s:g} s")

    @property
    def _reason(self) -> str:
        return "tool_calls" if self.tool_calls else "stop"

    def _chunks(self) -> Iterator[dict[str, Any]]:
        head = {"id": "engine", "object": "chat.completion.chunk", "created": 0, "model": "engine"}
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        yield head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for text in text_pieces(self.text, self.piece_chars):
            tokens = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": []}]}
            yield head | {
                "choices": [{"index": 0, "delta": {"content": text}, "logprobs": tokens, "finish_reason": None}]
            }
        for i, call in enumerate(self.tool_calls):
            function = call["function"]
            opening = {"index": i, **call, "function": {"name": function["name"], "arguments": ""}}
            yield head | {"choices": [{"index": 0, "delta": {"tool_calls": [opening]}, "finish_reason": None}]}
            for arguments in text_pieces(function["arguments"], self.piece_chars):
                part = {"index": i, "function": {"arguments": arguments}}
                yield head | {"choices": [{"index": 0, "delta": {"tool_calls": [part]}, "finish_reason": None}]}
        if self.finishes:
            yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": self._reason}]}
            yield head | {"choices": [], "usage": usage_json(self.usage)}


@dataclass
class FakeDecider:
    """A Decider that always chooses `tier`, or raises `error`."""

    tier: str = "cheap"
    p_cheap_ok: float = 0.9
    error: Exception | None = None
    queries: list[Query] = field(default_factory=list)

    async def decide(self, query: Query) -> Decision:
        self.queries.append(query)
        if self.error is not None:
            raise self.error
        return Decision(self.tier, f"the fake chose {self.tier}", self.p_cheap_ok)


@dataclass
class FakeJudge:
    """A Judge that always gives `action`, or raises `error`; `completions` are what it was shown.

    `prefix_action` is what it gives for the beginning of an answer.
    """

    action: Action = Action.ACCEPTED
    prefix_action: Action = Action.ACCEPTED
    p_ok: float = 0.8
    error: Exception | None = None
    completions: list[Completion] = field(default_factory=list)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        self.completions.append(completion)
        if self.error is not None:
            raise self.error
        action = self.prefix_action if completion.finish_reason == PREFIX_FINISH else self.action
        return Verdict(action, f"the fake {action}", self.p_ok)


@dataclass
class FakeEmbedder:
    """An Embedder that gives every input the same two numbers, or raises `error`."""

    error: Exception | None = None
    bodies: list[Mapping[str, Any]] = field(default_factory=list)

    async def embed(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.bodies.append(body)
        if self.error is not None:
            raise self.error
        inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = [{"object": "embedding", "index": i, "embedding": [0.25, 0.5]} for i in range(len(inputs))]
        return {"object": "list", "data": data, "model": "x", "usage": {"prompt_tokens": 4, "total_tokens": 4}}


class FakeResponse:
    """What a Ray handle's method returns: awaitable or iterable, and cancellable."""

    def __init__(self, reply: Any, delay_s: float) -> None:
        self.reply = reply
        self.delay_s = delay_s
        self.cancelled = False
        self.pieces = iter(reply if isinstance(reply, list) else [])

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        await asyncio.sleep(self.delay_s)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        for piece in self.pieces:
            if piece == "silence":
                await asyncio.sleep(3600)
            if isinstance(piece, Exception):
                raise piece
            return piece
        raise StopAsyncIteration

    def cancel(self) -> None:
        self.cancelled = True


class FakeHandle:
    """A Ray Serve handle without Ray: every method answers with `reply` after `delay_s` seconds.

    An exception is raised; of a list each piece comes in turn, exceptions among them raised, "silence" for ever.
    """

    def __init__(self, reply: Any, delay_s: float = 0.0) -> None:
        self.reply = reply
        self.delay_s = delay_s
        self.asked: list[tuple[Any, ...]] = []
        self.responses: list[FakeResponse] = []

    def options(self, **_: Any) -> FakeHandle:
        return self

    def __getattr__(self, name: str) -> FakeHandle:
        return self

    def remote(self, *args: Any, **carried: Any) -> FakeResponse:
        self.asked.append(args)
        self.carried = carried
        self.responses.append(FakeResponse(self.reply, self.delay_s))
        return self.responses[-1]


@dataclass
class ListSink:
    """A RecordSink that keeps records in a list."""

    records: list[DecisionRecord] = field(default_factory=list)

    def write(self, record: DecisionRecord) -> None:
        self.records.append(record)


def fake_context(
    cheap: FakeEngine | None = None,
    frontier: FakeEngine | None = None,
    decider: FakeDecider | None = None,
    judge: FakeJudge | None = None,
    *,
    safe_tier: str = "frontier",
    abstain_at_top: float | None = None,
    prefix_tokens: int | None = None,
    embedder: FakeEmbedder | None = None,
) -> CascadeContext:
    """A two-tier context of fakes; what is not given answers, accepts and never fails."""
    engines = {"cheap": cheap or FakeEngine("cheap says"), "frontier": frontier or FakeEngine("frontier says")}
    points = {"cheap": OperatingPoint(0.5, 0.5)}
    if abstain_at_top is not None:
        points["frontier"] = OperatingPoint(0.0, 0.0, abstain_at_top)
    prefixes = {} if prefix_tokens is None else {"cheap": PrefixPoint(prefix_tokens, 0.5)}
    return CascadeContext(
        engines=engines,
        streams=engines,
        decider=decider or FakeDecider(),
        judge=judge or FakeJudge(),
        policy=Policy(("cheap", "frontier"), points, prefixes),
        prices=PRICES,
        safe_tier=safe_tier,
        version="fake/1",
        embedders={"cheap": embedder} if embedder else {},
    )
