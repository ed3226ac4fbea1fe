"""The failure of a call to a deployment behind a hosted tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router_models.types import Attempt
from serve_graph.engines.error_meanings import ErrorFault, ErrorMeaning, fault_of

REFUSED = "the tier's key, account, model or configuration is refused; see its log"
"""What is said of a fault of the tier's set-up; what the API said is in the log alone."""


class DeploymentError(Exception):
    """A deployment could not answer.

    `status` is HTTP's; 502: unusable reply, 503: no connection, 504: time-out. `retry_after_s`: the seconds after
    which the API permits a retry. `usage`: OpenAI's usage object if the failed call was billed; what is no object
    is none. `attempts`: all calls made for the request, if there were several. `meaning`: whose fault it is, by
    default what the status says. `kind`: the API's own type of the error.
    """

    def __init__(
        self,
        message: str,
        status: int,
        retry_after_s: float | None = None,
        usage: Any = None,
        attempts: Sequence[Attempt] = (),
        meaning: ErrorMeaning | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message, status, retry_after_s)
        self.message = message
        self.status = status
        self.usage: Mapping[str, Any] | None = usage if isinstance(usage, Mapping) else None
        self.attempts = tuple(attempts)
        self.meaning = meaning or ErrorMeaning(fault_of(status))
        self.retry_after_s = retry_after_s
        self.kind = kind

    @property
    def is_requests_fault(self) -> bool:
        """Whether every deployment would reject this request."""
        return self.meaning.fault is ErrorFault.REQUEST

    @property
    def is_setups_fault(self) -> bool:
        """Whether this deployment would reject every request (wrong key or model name, no quota): do not retry."""
        return self.meaning.fault is ErrorFault.SETUP

    def body(self) -> dict[str, Any]:
        """Return the error object that is sent to the ingress."""
        wait_s = None if self.is_setups_fault else self.retry_after_s  # waiting does not help the caller
        error = {"message": self.message, "code": self.status, "retry_after_s": wait_s}
        meaning = {"fault": str(self.meaning.fault), "reason": self.meaning.code, "param": self.meaning.param}
        return {"error": error | meaning | {"type": self.kind}, "attempts": self.attempts}
