"""The authenticated caller of the current HTTP request."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from serve_graph.config.access import KeyConfig, Scope
from serve_graph.errors import AccessError


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller's key (None: keys are disabled, everything is allowed) and the options given in request headers.

    `tier` is the value of `x-serve-graph-tier`, `session` that of `x-serve-graph-session`.
    """

    key: KeyConfig | None = None
    tier: str | None = None
    session: str | None = None

    @property
    def name(self) -> str | None:
        return None if self.key is None else self.key.name

    def may(self, scope: Scope) -> bool:
        return self.key is None or scope in self.key.scopes

    def require(self, scope: Scope, what: str) -> None:
        """Raise AccessError unless the key has the scope; `what` names the operation in the message."""
        if not self.may(scope):
            raise AccessError(f"{what} needs a key with the scope {scope!r}", code="insufficient_permissions")


NOBODY = Caller()
CALLER: ContextVar[Caller] = ContextVar("caller", default=NOBODY)
