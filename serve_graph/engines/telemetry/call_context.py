"""Which request a piece of work belongs to, in every process that works on it: for its logs and its trace.

A caller of another deployment passes it on beside the arguments, and the replica that is called takes it over. It is
only there where logs are JSON or requests are traced; nothing that is answered depends on it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallContext:
    """The decision that a call is made for, and the span that it belongs to, as W3C's Trace Context writes it."""

    decision: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers by which another service joins the trace; none where there is no trace."""
        named = {"traceparent": self.traceparent, "tracestate": self.tracestate if self.traceparent else None}
        return {name: value for name, value in named.items() if value}


CALL: ContextVar[CallContext | None] = ContextVar("call", default=None)


def carried() -> dict[str, CallContext]:
    """The keyword argument by which a call to another deployment says what it is made for; none where nobody asks."""
    context = CALL.get()
    return {} if context is None else {"carried": context}


def take_over(context: CallContext | None) -> None:
    """Work for that request from now on, in this task; nothing where the caller said none."""
    if context is not None:
        CALL.set(context)


UNTRACED = {"traceparent": f"00-{1:032x}-{1:016x}-00"}
"""The headers of a call that no trace is to be begun for."""


def trace_headers() -> dict[str, str]:
    """The headers of a request to another service, made on behalf of the current one."""
    context = CALL.get()
    return {} if context is None else context.headers()
