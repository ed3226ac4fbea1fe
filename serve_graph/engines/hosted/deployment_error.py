"""What a deployment behind a tier answered instead of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router_models.types import Attempt

REQUEST_FAULTS = frozenset({400, 409, 413, 415, 422})
SETUP_FAULTS = frozenset({401, 402, 403, 404, 405})


class DeploymentError(Exception):
    """A deployment could not answer. `status` is HTTP's; 502 a reply that cannot be used, 503 no connection, 504 late.

    `retry_after_s`: how long the API asked to be left alone. `usage`: OpenAI's usage object where the failed call was
    billed. `attempts`: every call made for the request, where there was more than this one.
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
        """Whether every deployment would refuse this request."""
        return self.status in REQUEST_FAULTS

    @property
    def is_setups_fault(self) -> bool:
        """Whether this deployment would refuse every request (its key, its model's name): no use asking it again."""
        return self.status in SETUP_FAULTS

    def body(self) -> dict[str, Any]:
        """The error object that crosses to the ingress."""
        error = {"message": self.message, "code": self.status, "retry_after_s": self.retry_after_s}
        return {"error": error, "attempts": self.attempts}
