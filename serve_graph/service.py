"""One request from validated wire form to reply: identity, cascade, record. Between `http` and `cascade`.

Whatever happens to a request, exactly one DecisionRecord is written before its last byte leaves.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from router_models.types import Action, Completion, DecisionRecord, Query
from serve_graph import cascade, streaming
from serve_graph.access.caller import CALLER, NOBODY, Caller
from serve_graph.billing import purposes, total
from serve_graph.cascade import Graph, Trail
from serve_graph.errors import ServeGraphError, UnknownModelError, status_of
from serve_graph.explaining import evidence
from serve_graph.metrics import Tally
from serve_graph.openai_api import RequestOptions, usage_json
from serve_graph.seams import RecordSink
from serve_graph.view import Bearings, view_for
from serve_graph.wishes import Wishes, read_wishes

AUTO = "auto"
ABSTENTION = "I am not confident enough in an answer to give one."


@dataclass(slots=True)
class Request:
    """One request under way: who asked for what, and its trail."""

    query: Query
    model: str
    forced: str | None
    stream: bool
    id: str = field(default_factory=lambda: f"dec-{uuid.uuid4().hex}")
    created: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    trail: Trail = field(default_factory=Trail)
    recorded: bool = False
    caller: Caller = NOBODY
    wishes: Wishes = field(default_factory=Wishes)
    view: Graph | None = None
    include_usage: bool = False

    @property
    def cost_usd(self) -> Decimal:
        return total(line.cost_usd for line in (*self.trail.calls, *self.trail.overhead))


class Service:
    """Answer requests with a graph and keep their records."""

    def __init__(
        self,
        graph: Graph,
        sink: RecordSink,
        bearings: Bearings | None = None,
        keep_prompt: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.graph = graph
        self.sink = sink
        self.bearings = bearings or Bearings()
        self.keep_prompt = keep_prompt
        self.tally = Tally()

    def open(self, query: Query, model: str, stream: bool, options: RequestOptions | None = None) -> Request:
        """Accept a request; raises UnknownModelError where `model` is neither `auto` nor a tier, AccessError where the
        caller may not choose it.
        """
        caller = CALLER.get()
        named = None if model == AUTO else model
        wishes = read_wishes(options, query.metadata, caller, named, self.graph.policy.top)
        forced = wishes.forced
        if forced is not None and forced not in self.graph.engines:
            known = ", ".join([AUTO, *self.graph.engines])
            raise UnknownModelError(f"the model {forced!r} does not exist; known: {known}", "model", "model_not_found")
        query = replace(query, metadata=wishes.labels(query.metadata))
        request = Request(query, model, forced, stream, caller=caller, wishes=wishes)
        request.view = view_for(self.graph, wishes, self.bearings, request.trail)
        return request

    async def answer(self, request: Request) -> dict[str, Any]:
        """The whole reply in OpenAI's chat.completion shape, with `serve_graph` beside it."""
        try:
            completion = await cascade.answer(request.view or self.graph, request.query, request.forced, request.trail)
            reply = self._reply(request, completion)
        except BaseException as error:
            self.record(request, error)
            raise
        self.record(request)
        return reply

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Settle, wait for the first chunk, then hand out the events. Errors before that chunk are raised.

        Close the events (`aclose`) however the sending ends: that ends the engine's call and writes the record.
        """
        events = self._events(request)
        await anext(events)
        return events

    async def _events(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Nothing (b"") once the first chunk is there, then the events."""
        trail = request.trail
        ended: BaseException | None = None
        try:
            chunks, head = await self._chunks(request)
            async with aclosing(chunks):
                first = await anext(chunks)
                yield b""  # started: from here on, closing this generator runs what is below
                closing = partial(self.facts, request)
                events = streaming.sse(first, chunks, trail, head, request.include_usage, closing)
                async for item in events:
                    if item is streaming.DONE:  # whoever hangs up on [DONE] has had the whole answer
                        self.record(request)
                    yield item
        except BaseException as error:  # the caller went away, or the tier did: the record says which
            ended = error
            raise
        finally:
            self.record(request, trail.broken or ended)

    async def _chunks(self, request: Request) -> tuple[streaming.Chunks, dict[str, Any]]:
        """Who answers, as chunks that begin when asked for. A cheap answer was buffered for its verdict; the last tier
        streams through, so it cannot abstain.
        """
        trail, graph = request.trail, request.view or self.graph
        await cascade.settle(graph, request.query, request.forced, trail)
        head = self._head(request, "chat.completion.chunk")
        if trail.completion is None:
            return streaming.live_chunks(graph, request.query, trail, head), head
        return streaming.buffered_chunks(self._spoken(request, trail.completion), request.query, head), head

    def facts(self, request: Request) -> dict[str, Any]:
        """The `serve_graph` object: what the headers say, in the body. Scores and thresholds stay inside."""
        return {
            "decision": request.id,
            "tier": request.trail.tier,
            "outcome": str(request.trail.action),
            "version": self.graph.version,
            "cost_usd": f"{request.cost_usd:.9f}",
        }

    def headers(self, request: Request, *, with_cost: bool) -> dict[str, str]:
        """`x-serve-graph-*`; the cost only once it is known (not while a tier still streams)."""
        facts = self.facts(request)
        names = ("decision", "tier", "outcome", "version", *(("cost_usd",) if with_cost else ()))
        return {f"x-serve-graph-{name.replace('_', '-')}": str(facts[name]) for name in names}

    def record(self, request: Request, error: BaseException | None = None) -> None:
        """Write the request's record, once; later calls do nothing."""
        if request.recorded:
            return
        request.recorded = True
        record = self._record(request, error)
        self.sink.write(record)
        self.tally.add(record)
        self.bearings.note(record, request.query)

    def _record(self, request: Request, error: BaseException | None) -> DecisionRecord:
        trail = request.trail
        decision, verdict = trail.decision, trail.verdict
        reason = decision.reason if decision else "forced by name" if request.forced else "no decision"
        status, kind = _ending(error)
        return DecisionRecord(
            id=request.id,
            created_at=datetime.fromtimestamp(request.created, UTC).isoformat(timespec="milliseconds"),
            requested_model=request.model,
            tier=trail.tier or "none",
            outcome=str(trail.action),
            version=self.graph.version,
            status=status,
            stream=request.stream,
            prompt_sha256=hashlib.sha256(request.query.text.encode("utf-8", "replace")).hexdigest(),
            prompt_chars=len(request.query.text),
            route_reason="; ".join([reason, *trail.notes]),
            p_cheap_ok=decision.p_cheap_ok if decision else None,
            distance=decision.distance if decision else None,
            verdict_reason=verdict.reason if verdict else None,
            p_answer_ok=verdict.p_ok if verdict else None,
            calls=purposes(trail.calls, trail.tier, trail.action),
            cost_usd=request.cost_usd,
            latency_s=time.perf_counter() - request.started,
            arm=self.graph.version,
            error=kind,
            metadata=request.query.metadata,
            overhead=tuple(trail.overhead),
            key=request.caller.name,
            session=request.wishes.session,
            evidence=evidence(request.view or self.graph, trail, request.wishes.spoken(), self.bearings.promised),
            prompt=self.keep_prompt(request.query.text),
        )

    def _head(self, request: Request, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{request.id[4:]}",
            "object": kind,
            "created": int(request.created),
            "model": request.trail.tier,
        }

    def _spoken(self, request: Request, completion: Completion) -> Completion:
        """The completion as the caller may see it: an abstention says so instead of answering."""
        if request.trail.action is not Action.ABSTAINED:
            return completion
        return Completion(ABSTENTION, "stop", completion.usage, (), completion.latency_s)

    def _reply(self, request: Request, completion: Completion) -> dict[str, Any]:
        spoken = self._spoken(request, completion)
        message: Mapping[str, Any] = {"role": "assistant", "content": spoken.text}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": spoken.finish_reason}
        if spoken.payload:
            original = spoken.payload["choices"][0]
            choice = {k: v for k, v in original.items() if k in ("index", "message", "finish_reason", "logprobs")}
            choice["message"] = {"content": None, **choice["message"]}
            if not request.query.parameters.get("logprobs"):
                choice["logprobs"] = None
        elif request.trail.action is Action.ABSTAINED:
            choice["message"] = {**message, "refusal": spoken.text}
        return self._head(request, "chat.completion") | {
            "choices": [choice],
            "usage": usage_json(spoken.usage),
            "serve_graph": self.facts(request),
        }


def _ending(error: BaseException | None) -> tuple[int, str | None]:
    """HTTP status and error word of how a request ended; 499 where the caller went away."""
    if error is None:
        return 200, None
    if isinstance(error, ServeGraphError):
        return status_of(error)
    if isinstance(error, Exception):
        return 500, "server_error"
    return 499, "client_closed_request"
