"""One request from validated wire form to reply: identity, cascade, record. Between `http` and `cascade`.

Whatever happens to an accepted request, exactly one DecisionRecord is written before its last byte leaves. A request
that is refused at the door (malformed, no such model, a stranger) is no decision: it is counted by `http`.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from router_models.types import Action, Completion, Query
from serve_graph.access.accounts import Accounts
from serve_graph.access.caller import CALLER
from serve_graph.cascade import cascade
from serve_graph.cascade.asked import with_signals
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.deadline import Deadline
from serve_graph.cascade.interfaces import RecordSink
from serve_graph.cascade.steps import StreamTerms
from serve_graph.cascade.streaming import abstention, stream_answer
from serve_graph.engines.telemetry.call_context import CALL, CallContext
from serve_graph.engines.telemetry.tracing import Tracer
from serve_graph.errors import BudgetSpentError, EngineError, RequestError, UnknownModelError
from serve_graph.gateway.arms import RolloutArms
from serve_graph.gateway.capabilities.ensemble_sample import EnsembleSample, meant_for_both
from serve_graph.gateway.compared import offer_comparison
from serve_graph.gateway.constraints import RoutingContext, request_context
from serve_graph.gateway.options import ResolvedOptions, check_models, resolve_options
from serve_graph.gateway.request import Request, embedded_request, offer_answer, record_of
from serve_graph.gateway.tool_affinity import ToolAffinity, bound
from serve_graph.gateway.worst_case import permitted, worst_request
from serve_graph.learning.comparing.comparer import Comparer
from serve_graph.learning.judging.live_judge import LiveJudge
from serve_graph.learning.traffic.embedding_sums import EmbeddedRequest
from serve_graph.protocol.chunks import Choices, whole_choice
from serve_graph.protocol.requests import RequestOptions
from serve_graph.protocol.responses import usage_shown
from serve_graph.records.metrics import RequestMetrics

logger = logging.getLogger(__name__)
AUTO = "auto"
Wording = Callable[[dict[str, Any]], dict[str, Any]]


class Service:
    """Answer requests with a graph and keep their records.

    `tool_affinity` notes in tool-call ids which tier made them; with `pin_tool_loops` the conversation stays on it. A
    request has `deadline_s` for everything; `clock` is what it is measured by. `accounts` hold what a request may cost
    its key while it is in progress; `sink` charges them. `judge` is handed a sample of the answers, `comparer` one
    of those that are given while a rollout is under way. `names_calls`: router, verifier and tiers are told which
    decision a call is made for, for their logs. `tracer` begins the spans of each request. `sample`: the requests that
    two tiers answer.
    """

    def __init__(
        self,
        context: CascadeContext,
        sink: RecordSink,
        terms: StreamTerms | None = None,
        tool_affinity: ToolAffinity | None = None,
        *,
        pin_tool_loops: bool = True,
        routing: RoutingContext | None = None,
        keep_prompt: Callable[[str], str | None] | None = None,
        keep_answer: Callable[[str], str | None] | None = None,
        deadline_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        aliases: Mapping[str, str] = MappingProxyType({}),
        accounts: Accounts | None = None,
        keep_metadata: Callable[[Mapping[str, str]], Mapping[str, str]] = dict,
        judge: LiveJudge | None = None,
        comparer: Comparer | None = None,
        names_calls: bool = False,
        tracer: Tracer | None = None,
        sample: EnsembleSample | None = None,
    ) -> None:
        self.sample = sample
        self.names_calls = names_calls
        self.tracer = tracer
        self.keep_metadata = keep_metadata
        self.judge = judge
        self.comparer = comparer
        self.accounts = accounts
        self.context = context
        self.aliases = aliases
        self._names = dict(aliases) | {name: name for name in (AUTO, *context.engines, *context.embedders)}
        self.top = context.policy.top
        self.sink = sink
        self.terms = terms or StreamTerms()
        self.tool_affinity = tool_affinity or ToolAffinity(secrets.token_bytes(16))
        self.pin_tool_loops = pin_tool_loops
        self.routing = routing or RoutingContext()
        self.keep_prompt = keep_prompt
        self.keep_answer = keep_answer
        self.deadline_s = deadline_s
        self.clock = clock
        self.metrics = RequestMetrics()
        self.arms: RolloutArms | None = None
        self.embedded: deque[EmbeddedRequest] | None = None  # where prompts' embeddings are handed over to

    def try_beside(self, arms: RolloutArms | None) -> None:
        """Have a candidate answer its share of the requests that come from now on; None: none does."""
        self.arms = None if arms is None else arms.beside(self.routing)

    def serve(self, context: CascadeContext, routing: RoutingContext) -> None:
        """Answer requests that come from now on under another version; what is known of traffic stays known."""
        known = self.routing
        self.routing = replace(routing, sessions=known.sessions, latencies=known.latencies, asleep=known.asleep)
        self.context, self.top = context, context.policy.top
        self.metrics.recent.clear()

    def open(
        self, query: Query, model: str, stream: bool, options: RequestOptions | None = None, *, reserves: bool = True
    ) -> Request:
        """Accept a request; what it may cost its key is held until `record`, unless it is never answered (`reserves`).

        Raises UnknownModelError where `model` is neither `auto` nor a tier, AccessError where the caller may not
        choose it, RequestError, RateLimitedError and BudgetSpentError where its key permits less.
        """
        caller = CALLER.get()
        meant = self._names.get(model) or self.model_meant(model)
        resolved = resolve_options(options, query.metadata, caller, None if meant == AUTO else meant, self.top)
        forced = resolved.forced
        if forced is not None and forced not in self.context.engines:
            known = ", ".join([AUTO, *self.context.engines, *self.aliases])
            raise UnknownModelError(f"the model {forced!r} does not exist; known: {known}", "model", "model_not_found")
        if resolved.signals and (forced is None or stream):
            message = "signals are asked for of a whole answer of a tier that is named as the model"
            raise RequestError(message, "serve_graph", "invalid_value")
        check_models(resolved.signals, self.context.asked.settings.verifiers)
        deadline = self.deadline(resolved)
        query = replace(query, metadata=resolved.labels(query.metadata))
        key, began = None, None
        if caller.key is not None:
            query, key = permitted(query, caller.key, resolved, self.routing.rooms), caller.key.name
        if any("tool_calls" in m or "tool_call_id" in m for m in query.parameters.get("messages") or ()):
            query, began = self.tool_affinity.untag(query, key)
        if not self.pin_tool_loops or began not in self.context.engines or resolved.quality_floor is not None:
            began = None
        terms = self.terms if stream else None
        if terms is not None and options is not None and options.stream is not None:
            terms = terms.with_mode(options.stream)
        share = self.routing.share_of(resolved)
        drawn = (self.sample is not None or resolved.ensemble is not None) and meant_for_both(
            self.sample, query, resolved, caller
        )
        if drawn and reserves and self.sample is not None:
            drawn = self.sample.fits(query, resolved, self.routing, terms, began)
        while True:  # once more for a drawn request that its key's budget leaves to one tier
            answering, routing, assigned = self.context, self.routing, None
            if self.arms is not None and forced is None and share is None and not drawn:
                assigned = self.arms.assign(resolved.session, key, query.text)
                if assigned.arm == "candidate":
                    answering, routing = self.arms.context, self.arms.routing
            context = request_context(
                answering, resolved, routing, self.top, deadline, query=query, stream=terms, began=began
            )
            request = Request(query, model, forced, stream, context, terms or self.terms, key=key, resolved=resolved)
            request.request_id, request.shares, request.assigned = caller.request_id, routing.shares, assigned
            request.share = share
            request.checked = routing.coverage is not None and forced is None and share is None
            request.slicer = None if routing.labels is None else routing.labels.slicer
            if not (drawn and reserves) or self.sample is None or self._put_to_both(request):
                break
            drawn = False
        if reserves:
            if request.drawn is None:
                self.reserve(request, context.policy.tiers if forced is None else (forced,))
            self.begin(request)
        return request

    def _put_to_both(self, request: Request) -> bool:
        """Have two tiers answer a drawn request; False where its key has no room for both, so that one answers it."""
        assert self.sample is not None, "requests are drawn where there is a sample"
        self.sample.put(request)
        try:
            self.reserve(request, request.context.policy.tiers)
        except BudgetSpentError:
            if request.resolved.ensemble:
                raise
            self.sample.note_left_out("key's budget")
            return False
        return True

    def begin(self, request: Request) -> None:
        """Say from now on, in this task, which decision its work is for, and begin its trace."""
        if self.tracer is not None:
            caller = CALLER.get()
            request.state.trace, context = self.tracer.begin(
                request.id, request.model, request.query, stream=request.stream,
                traceparent=caller.traceparent, tracestate=caller.tracestate,
                operation="embeddings" if request.embeds else "chat",
            )  # fmt: skip
            CALL.set(context)
        elif self.names_calls:
            CALL.set(CallContext(request.id))

    def reserve(self, request: Request, tiers: Sequence[str], *, answers: bool = True) -> None:
        """Hold the most that a request may cost its key; raises RateLimitedError and BudgetSpentError."""
        key = CALLER.get().key
        if key is None or self.accounts is None:
            return
        worst = {}
        if key.has_budget:
            both = {} if request.drawn is None or self.sample is None else self.sample.most_usd(request.query)
            prices, rooms = self.context.prices, self.routing.rooms
            worst = worst_request(request, tiers, prices, rooms, answers=answers, also=both)
        self.accounts.reserve(key, request.id, worst)

    async def renewed(self) -> bool:
        """Whether a request that its key's budget had no room for may be opened again: replicas share budgets."""
        return self.accounts is not None and await self.accounts.renewed()

    def model_meant(self, model: str) -> str:
        """Return the name behind an alias, or behind a name as gateways write it: `openai/…`, `serve-graph/…`."""
        prefix, _, plain = model.partition("/")
        name = plain if prefix in ("openai", "serve-graph") and model not in self._names else model
        return self._names.get(name, model)

    def refuse(self, status: int) -> None:
        """Count a request that was turned away before it became a decision: it has no record."""
        self.metrics.refused[status] += 1

    async def answer(self, request: Request, word: Wording = dict) -> dict[str, Any]:
        """The whole reply in OpenAI's chat.completion shape, with `serve_graph` beside it, put by `word` in another's.

        The record is written once that is done: it says 200 of nothing that could not be worded.
        """
        context = request.context
        try:
            answering = self._answered(request)
            completion = await (
                answering if math.isinf(context.deadline.seconds) else context.deadline.kept(answering)
            )
            reply = word(self.reply(request, completion))
        except BaseException as error:
            self.record(request, error)
            raise
        self.record(request)
        return reply

    async def _answered(self, request: Request) -> Completion:
        """The cascade's answer, with the signals that the caller asks for."""
        context, state = request.context, request.state
        completion = await cascade.answer(context, request.query, request.forced, state)
        if wanted := request.resolved.signals:
            started = time.perf_counter()
            await with_signals(context, request.query, completion, state.tier, wanted, state)
            request.signals_s = time.perf_counter() - started
        return completion

    async def stream(self, request: Request) -> AsyncGenerator[dict[str, Any], None]:
        """The reply as chat.completion.chunk dicts; the last has no choices but `serve_graph` and `usage`.

        Raises what ends it early, at whatever point; the record is written before that, and before the finish reason
        leaves: whoever hangs up on that has had the whole answer, and the engine's own count of it is on the bill.
        Close it (`aclose`) however the sending ends: that ends every engine call.
        """
        state = request.state
        last: dict[str, Any] | None = None
        try:
            context = request.context
            async with aclosing(stream_answer(context, request.query, request.forced, request.terms, state)) as pieces:
                has_deadline = math.isfinite(context.deadline.seconds)
                async for choices in context.deadline.pieces(pieces) if has_deadline else pieces:
                    if last is not None:
                        yield last
                        last = None
                    chunk = self._head(request, "chat.completion.chunk") | {"choices": self._shown(request, choices)}
                    if all(choice.get("finish_reason") for choice in choices):
                        last = chunk
                    else:
                        yield chunk
            closing = {"choices": [], "serve_graph": request.facts()}
            if state.completion is not None:
                closing |= {"usage": usage_shown(state.completion), **_tariff(state.completion)}
            self.record(request)
            if last is not None:
                yield last
                last = None
            yield self._head(request, "chat.completion.chunk") | closing
        except BaseException as error:  # the caller went away, or the tier did: the record says which
            self.record(request, error)
            if last is not None and isinstance(error, Exception):
                yield last
            raise

    def record(self, request: Request, error: BaseException | None = None) -> None:
        """Write the request's record, once; later calls do nothing."""
        if request.recorded:
            return
        request.recorded = True
        record = record_of(request, self.keep_prompt, error, self.keep_metadata, self.keep_answer)
        self.metrics.add(record, checked=request.checked)
        if record.status >= 500:
            logger.warning("%s ended with %d (%s), tier %s", request.id, record.status, record.error, record.tier)
        try:
            self.sink.write(record)
        except OSError as failure:  # the answer is made and paid for: it must leave
            self.metrics.unrecorded += 1
            logger.error("the record of %s could not be written: %s", request.id, failure)
        try:
            request.state.trace.ended(record, request.state.completion)
        except Exception as failure:  # noqa: BLE001 (the answer is made: what is told of it costs nobody a reply)
            logger.error("the trace of %s could not be ended: %s", request.id, type(failure).__name__)
        if not request.embeds:  # nothing is learned from them of how long answers take
            self.routing.note(record, request.query)
        decision = request.state.decision
        if self.embedded is not None and error is None and decision is not None and decision.embedding is not None:
            self.embedded.append(embedded_request(record, decision.embedding))
        if self.judge is not None and error is None:
            offer_answer(self.judge, request)
        if self.arms is not None and self.comparer is not None:
            offer_comparison(self.comparer, request, self.arms, self.context, self.routing, record.status)

    def deadline(self, resolved: ResolvedOptions) -> Deadline:
        """From now on: the configured one, or the request's own where that is sooner."""
        return Deadline(min(self.deadline_s or math.inf, resolved.deadline_s or math.inf), self.clock(), self.clock)

    def _head(self, request: Request, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{request.id[4:]}",
            "object": kind,
            "created": int(request.created),
            "model": request.state.tier,
        }

    def _shown(self, request: Request, choices: Choices) -> Choices:
        """A piece as this caller may see it: logprobs only if asked for, tool calls marked with their tier."""
        shown = []
        for choice in choices:
            seen = dict(choice)
            if not request.query.parameters.get("logprobs"):
                seen.pop("logprobs", None)
            for where in ("delta", "message"):
                said = seen.get(where)
                if said and said.get("tool_calls"):
                    holds = bound(request.query.parameters.get("messages") or (), request.key)
                    calls = self.tool_affinity.tag_calls(request.state.tier, said["tool_calls"], holds)
                    seen[where] = {**said, "tool_calls": calls}
            shown.append(seen)
        return shown

    def reply(self, request: Request, completion: Completion) -> dict[str, Any]:
        """The reply to a request that ended with a completion, in OpenAI's shape; EngineError without a choice."""
        said = abstention(completion) if request.state.action is Action.ABSTAINED else completion
        message: dict[str, Any] = {"role": "assistant", "content": said.text}
        choices: Choices = [{"index": 0, "message": message, "finish_reason": said.finish_reason, "logprobs": None}]
        if said.payload:
            choices = [whole_choice(i, original) for i, original in enumerate(said.payload["choices"])]
        if not choices:
            raise EngineError(f"tier {request.state.tier!r} gave a reply without a choice")
        choices = [{"logprobs": None, **choice} for choice in self._shown(request, choices)]
        return (
            self._head(request, "chat.completion")
            | _tariff(completion)
            | {
                "choices": choices,
                "usage": usage_shown(completion),
                "serve_graph": request.facts(),
            }
        )


def _tariff(completion: Completion) -> dict[str, str]:
    """The `service_tier` that a hosted API says it applied, where it says so."""
    applied = completion.payload.get("service_tier")
    return {"service_tier": applied} if applied and isinstance(applied, str) else {}
