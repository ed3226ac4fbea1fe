"""The failure of a call to a deployment behind a hosted tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router_models.types import Attempt

REQUEST_FAULTS = frozenset({400, 409, 413, 415, 422})
SETUP_FAULTS = frozenset({401, 402, 403, 404, 405})


class DeploymentError(Exception):
    """A deployment could not answer.

    `status` is HTTP's; 502: unusable reply, 503: no connection, 504: time-out. `retry_after_s`: the seconds after
    which the API permits a retry. `usage`: OpenAI's usage object if the failed call was billed. `attempts`: all calls
    made for the request, if there were several.
    """

    def __init__(
        self,
        message: str,
        status: int,
        retry_after_s: float | None = None,
        usage: Mapping[str, Any] | None = None,
        attempts: Sequence[Attempt] = (),
    ) -> None:
        super().__init__(message, status, retry_after_s)
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.attempts = tuple(attempts)

    @property
    def is_requests_fault(self) -> bool:
        """Whether every deployment would reject this request."""
        return self.status in REQUEST_FAULTS

    @property
    def is_setups_fault(self) -> bool:
        """Whether this deployment would reject every request (wrong key or model name): do not retry."""
        return self.status in SETUP_FAULTS

    def body(self) -> dict[str, Any]:
        """Return the error object that is sent to the ingress."""
        error = {"message": self.message, "code": self.status, "retry_after_s": self.retry_after_s}
        return {"error": error, "attempts": self.attempts}
