"""Who sends the current HTTP request, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

from serve_graph.config.access import KeyConfig, Scope
from serve_graph.errors import AccessError

SCOPE_NAMES: Mapping[Scope, str] = MappingProxyType(
    {"use": "asking", "admin": "reading decisions, metrics and the audit log"}
)


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller's key (None: keys are disabled, everything is allowed) and the options given in request headers.

    `tier` is the value of `x-serve-graph-tier`, `session` that of `x-serve-graph-session`, `request_id` a valid
    `x-request-id`, or one made here. A `stranger` has shown no key where keys are required, or came by a public host
    name where none are: only health is told, in one word. `traceparent`, `tracestate`: the
    caller's trace, unchecked. `takes_a_place`: it counts against its key's `concurrency`. `in_background`: nobody
    waits for the answer, and it takes what others leave.
    """

    key: KeyConfig | None = None
    tier: str | None = None
    session: str | None = None
    request_id: str | None = None
    stranger: bool = False
    takes_a_place: bool = False
    traceparent: str | None = None
    tracestate: str | None = None
    in_background: bool = False

    @property
    def name(self) -> str | None:
        return None if self.key is None else self.key.name

    def may(self, scope: Scope) -> bool:
        return self.key is None or scope in self.key.scopes

    def require(self, scope: Scope, what: str) -> None:
        """Raise AccessError unless the key has the scope; `what` names the operation in the message."""
        if not self.may(scope):
            raise missing_scope(scope, what)


def missing_scope(scope: Scope, what: str) -> AccessError:
    """The error of a key that lacks a scope; `what` names the operation in the message."""
    return AccessError(f"{what} needs a key with the scope {scope!r}", code="insufficient_permissions")


NOBODY = Caller()
CALLER: ContextVar[Caller] = ContextVar("caller", default=NOBODY)
