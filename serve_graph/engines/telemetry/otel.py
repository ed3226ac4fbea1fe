"""Spans by OpenTelemetry's SDK, with the attributes of its semantic conventions for generative AI, over OTLP.

Imported where `tracing` is configured alone. Nothing here is global: other libraries' tracing is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as SdkTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router_models.types import Attempt, Completion, Decision, DecisionRecord, Query, Verdict
from serve_graph import __version__
from serve_graph.config.records import TracingConfig
from serve_graph.engines.telemetry.call_context import CALL, CallContext
from serve_graph.engines.telemetry.tracing import NO_TRACE, CallSpan, RequestTrace, Tracer
from serve_graph.errors import ending_of

DELAY_MS, FLUSH_MS = 1_000, 3_000
REQUESTED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
"""Numbers of a request that its spans name; words (stop sequences, the user) are the caller's own."""
W3C = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class TierModel:
    """What spans say of a tier: who serves it (`openai`, `anthropic`, `vllm`, `echo`), and which model."""

    provider: str
    model: str


class OtelTracer(Tracer):
    """Sends each request's span tree to a collector, from a thread beside the event loop.

    Parameters
    ----------
    config : TracingConfig
        Where to, and how many.
    tiers : mapping of tier to TierModel
        What spans say of each tier; another is said by its name.
    place : mapping
        What is said of this process: deployment, replica.
    exporter : SpanExporter, optional
        In place of OTLP.
    """

    is_on = True

    def __init__(
        self,
        config: TracingConfig,
        tiers: Mapping[str, TierModel],
        place: Mapping[str, str],
        exporter: SpanExporter | None = None,
    ) -> None:
        self.config, self.tiers = config, tiers
        ratio = TraceIdRatioBased(config.sample)
        resource = Resource.create(
            {
                "service.name": config.service_name,
                "service.version": __version__,
                **({"service.instance.id": place["replica"]} if "replica" in place else {}),
            }
        )
        self.provider = TracerProvider(
            sampler=ParentBased(ratio) if config.follow_callers else ratio, resource=resource, shutdown_on_exit=False
        )
        exporter = exporter or OTLPSpanExporter(endpoint=config.traces_url, timeout=5)
        self.provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=DELAY_MS))
        self.tracer: SdkTracer = self.provider.get_tracer("serve_graph", __version__)

    def begin(
        self,
        decision: str,
        model: str,
        query: Query,
        *,
        stream: bool,
        traceparent: str | None,
        tracestate: str | None,
        operation: str = "chat",
    ) -> tuple[RequestTrace, CallContext]:
        """Begin the trace of a request, as `Tracer.begin` says."""
        given = {"traceparent": traceparent, "tracestate": tracestate if traceparent else None}
        parent = W3C.extract({name: value for name, value in given.items() if value})
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": stream,
            "serve_graph.decision": decision,
        }
        span = self.tracer.start_span(f"{operation} {model}", parent, SpanKind.SERVER, attributes | requested(query))
        context = context_within(span, CallContext(decision))
        if not span.is_recording():
            return NO_TRACE, context
        return OtelRequestTrace(self, span), context

    def close(self) -> None:
        """Send what has not been sent, as far as that takes a few seconds, and stop."""
        self.provider.force_flush(FLUSH_MS)
        self.provider.shutdown()


class OtelRequestTrace(RequestTrace):
    """A request that is recorded: its own span, and one for each call."""

    def __init__(self, owner: OtelTracer, span: Span) -> None:
        self.owner, self.span = owner, span
        self.trace_id = f"{span.get_span_context().trace_id:032x}"
        self.context = set_span_in_context(span)

    def router(self) -> CallSpan:
        """Open the span of a decision."""
        return OtelCallSpan(self.owner.tracer.start_span("route", self.context, SpanKind.INTERNAL))

    def tier(self, tier: str, action: str, query: Query, *, stream: bool = False) -> CallSpan:
        """Open the span of a call to a tier."""
        known = self.owner.tiers.get(tier, TierModel("serve_graph", tier))
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": known.provider,
            "gen_ai.request.model": known.model,
            "gen_ai.request.stream": stream,
            "serve_graph.tier": tier,
            "serve_graph.action": action,
        }
        shows = self.owner.config.capture_content
        if shows:
            attributes["gen_ai.input.messages"] = json.dumps(
                [{"role": m.role, "parts": [{"type": "text", "content": m.content}]} for m in query.messages]
            )
        attributes |= requested(query)
        span = self.owner.tracer.start_span(f"chat {known.model}", self.context, SpanKind.CLIENT, attributes)
        return OtelCallSpan(span, shows)

    def verifier(self, tier: str) -> CallSpan:
        """Open the span of a verdict."""
        attributes = {"serve_graph.tier": tier}
        return OtelCallSpan(self.owner.tracer.start_span("judge", self.context, SpanKind.INTERNAL, attributes))

    def ended(self, record: DecisionRecord, completion: Completion | None) -> None:
        """End the request's own span with what its record says."""
        span = self.span
        span.set_attributes(
            {
                "http.response.status_code": record.status,
                "gen_ai.response.model": record.tier,
                "gen_ai.usage.input_tokens": sum(call.usage.prompt_tokens for call in record.calls),
                "gen_ai.usage.output_tokens": sum(call.usage.completion_tokens for call in record.calls),
                "serve_graph.tier": record.tier,
                "serve_graph.outcome": record.outcome,
                "serve_graph.version": record.version,
                "serve_graph.cost_usd": float(record.cost_usd),
            }
        )
        if completion is not None:
            span.set_attribute("gen_ai.response.finish_reasons", finish_reasons(completion))
        if record.error is not None:
            span.set_attribute("error.type", record.error)
            if record.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
        span.end()


class OtelCallSpan(CallSpan):
    """The span of one call; while it is open, what is called is told of it."""

    def __init__(self, span: Span, shows_content: bool = False) -> None:
        self.span, self.shows_content = span, shows_content
        self.before: CallContext | None = None

    def __enter__(self) -> Self:
        self.before = CALL.get()
        CALL.set(context_within(self.span, self.before or CallContext()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        CALL.set(self.before)  # not by a token: a stream may be closed in another task than it was opened in
        if error is not None:
            is_cancelled = not isinstance(error, Exception)
            self.span.set_attribute("error.type", "cancelled" if is_cancelled else ending_of(error)[1] or "error")
            if not is_cancelled:
                self.span.set_status(Status(StatusCode.ERROR))
            self.tried(getattr(error, "attempts", ()))
        self.span.end()

    def decided(self, decision: Decision) -> None:
        """Note the router's decision."""
        self.span.set_attribute("serve_graph.tier", decision.tier)
        if decision.p_cheap_ok is not None:
            self.span.set_attribute("serve_graph.p_cheap_ok", decision.p_cheap_ok)
        if decision.distance is not None:
            self.span.set_attribute("serve_graph.distance", decision.distance)

    def judged(self, verdict: Verdict) -> None:
        """Note the verifier's verdict."""
        self.span.set_attribute("serve_graph.verdict", str(verdict.action))
        if verdict.p_ok is not None:
            self.span.set_attribute("serve_graph.p_answer_ok", verdict.p_ok)

    def tried(self, attempts: Sequence[Attempt]) -> None:
        """Note each call among a tier's deployments as an event."""
        for attempt in attempts:
            self.span.add_event(
                "serve_graph.attempt",
                {
                    "serve_graph.deployment": attempt.deployment,
                    "http.response.status_code": attempt.status,
                    "serve_graph.latency_s": attempt.latency_s,
                },
            )

    def began(self) -> None:
        """Note when the first piece with content came."""
        self.span.add_event("gen_ai.first_chunk")

    def answered(self, completion: Completion, *, is_whole: bool = True) -> None:
        """Note an answer: its model, tokens and finish reasons; one that was cut short has none of these."""
        usage, payload = completion.usage, completion.payload or {}
        self.span.set_attributes(
            {
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            }
        )
        if is_whole:
            self.span.set_attribute("gen_ai.response.finish_reasons", finish_reasons(completion))
        for name, key in (("gen_ai.response.id", "id"), ("gen_ai.response.model", "model")):
            if isinstance(value := payload.get(key), str):
                self.span.set_attribute(name, value)
        self.tried(completion.attempts)
        if self.shows_content:
            part = {"role": "assistant", "parts": [{"type": "text", "content": completion.text}]}
            self.span.set_attribute("gen_ai.output.messages", json.dumps([part]))


def context_within(span: Span, context: CallContext) -> CallContext:
    """What a call is told that belongs to this span."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier, set_span_in_context(span))
    return replace(context, traceparent=carrier.get("traceparent"), tracestate=carrier.get("tracestate"))


def requested(query: Query) -> dict[str, int | float]:
    """The numbers of a request that are named in its spans."""
    given = query.parameters
    values = {name: given.get(field) for field, name in REQUESTED.items()}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def finish_reasons(completion: Completion) -> list[str]:
    """Why each choice of an answer ended."""
    choices = (completion.payload or {}).get("choices") or ()
    return [str(choice.get("finish_reason")) for choice in choices] or [str(completion.finish_reason)]
