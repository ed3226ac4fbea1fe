"""The spans of one request, as the cascade sees them: opened around each call, told what came of it.

The classes here record nothing: they are what runs where tracing is off, and import nothing. `otel` has those that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from router_models.types import Attempt, Completion, Decision, DecisionRecord, Query, Verdict
from serve_graph.config.records import TracingConfig
from serve_graph.engines.telemetry.call_context import CallContext
from serve_graph.errors import ConfigError


class CallSpan:
    """The span of one call, as a context manager; an exception that leaves it is noted by its type."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def decided(self, decision: Decision) -> None:
        """Note the router's decision."""

    def judged(self, verdict: Verdict) -> None:
        """Note the verifier's verdict."""

    def tried(self, attempts: Sequence[Attempt]) -> None:
        """Note the calls that a tier took among its deployments."""

    def began(self) -> None:
        """Note that the first piece with content is here."""

    def answered(self, completion: Completion, *, is_whole: bool = True) -> None:
        """Note an answer: its model, tokens and finish reasons; of one that was cut short, what had come of it."""


class RequestTrace:
    """The span tree of one request. `trace_id`: the trace's name where it is recorded by somebody."""

    trace_id: str | None = None

    def router(self) -> CallSpan:
        """Open the span of a decision."""
        return NO_SPAN

    def tier(self, tier: str, action: str, query: Query, *, stream: bool = False) -> CallSpan:
        """Open the span of a call to a tier; `action` says what for: routed, escalated, forced, …"""
        return NO_SPAN

    def verifier(self, tier: str) -> CallSpan:
        """Open the span of a verdict on an answer of that tier."""
        return NO_SPAN

    def ended(self, record: DecisionRecord, completion: Completion | None) -> None:
        """End the request's own span with what its record says."""


class Tracer:
    """Where requests' traces begin; this one begins none."""

    is_on = False

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
        """Begin the trace of a request, and say what its calls are told.

        `traceparent` and `tracestate` are the caller's headers: its trace goes on where they are valid. `operation`:
        `chat` or `embeddings`.
        """
        return NO_TRACE, CallContext(decision)

    def close(self) -> None:
        """Send what has not been sent, as far as that takes a few seconds."""


def check_tracing(config: TracingConfig | None) -> None:
    """Raise ConfigError where requests are to be traced and what that needs is not installed."""
    if config is None:
        return
    try:
        import serve_graph.engines.telemetry.otel  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"tracing needs OpenTelemetry ({error}): pip install 'serve-graph[tracing]'") from error


NO_SPAN = CallSpan()
NO_TRACE = RequestTrace()
