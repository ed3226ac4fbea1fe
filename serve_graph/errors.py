"""What can go wrong while serving, and the HTTP status each becomes.

    ServeGraphError                     500  server_error
    ├── ConfigError                     (never over HTTP: start-up refuses)
    ├── RequestError                    400  invalid_request_error
    │   ├── UnknownModelError           404
    │   └── PayloadTooLargeError        413
    ├── AuthenticationError             401  no key, or a wrong one
    ├── AccessError                     403  permission_error
    ├── RateLimitedError                429  a key's requests or tokens a minute; Retry-After says when
    │   └── BudgetSpentError            429  a key's money for the day or month is spent (type: insufficient_quota)
    ├── NotFoundError                   404  invalid_request_error
    ├── EngineError                     503  an engine could not answer; the cascade may go elsewhere
    │   ├── EngineTimeoutError          504
    │   └── SaturatedError              429  a tier, or the API behind it, takes no more now; Retry-After says when
    ├── EngineRequestError              400  an engine refused the request itself
    ├── DeadlineError                   504  the request's own time is spent, whoever spent it
    ├── PolicyUnavailableError          503  router or verifier down; the cascade goes to the safe tier
    │   └── CertificateVoidError        503  nothing is certified any more; the cascade goes to the last tier
    ├── StoreUnavailableError           503  the decision store cannot be read; records wait in the spool
    └── WeightsError                    (start-up) weights missing, damaged or half-written

`status_of` is the table; a test fails when an exception class is missing from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router_models.types import Attempt


class ServeGraphError(Exception):
    """Base of everything `serve_graph` raises on purpose."""


class ConfigError(ServeGraphError):
    """The configuration cannot be used; start-up refuses."""


class WeightsError(ServeGraphError):
    """A tier's weights are missing, damaged or half-written."""


class RequestError(ServeGraphError):
    """The caller's request is wrong; `param` names the field, `code` is OpenAI's machine-readable word."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnknownModelError(RequestError):
    """`model` is neither `auto` nor a tier."""


class PayloadTooLargeError(RequestError):
    """The body exceeds `http.max_body_bytes`."""


class NotFoundError(RequestError):
    """The path or the thing asked for does not exist."""


class AuthenticationError(RequestError):
    """The caller shows no access key, or one that is not known."""


class RateLimitedError(RequestError):
    """A key asked too much too fast; `kind` is what of (`requests`, `tokens`, `escalations`), as OpenAI says it."""

    def __init__(self, message: str, retry_after_s: float, kind: str) -> None:
        super().__init__(f"{message}; try again in {math.ceil(retry_after_s)} s", None, "rate_limit_exceeded")
        self.retry_after_s = retry_after_s
        self.kind = kind


class BudgetSpentError(RateLimitedError):
    """A key has spent its money for the day or the month."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s, "insufficient_quota")
        self.code = "insufficient_quota"


class AccessError(RequestError):
    """The caller may not do this."""


class EngineError(ServeGraphError):
    """An engine could not answer: dead, unreachable, failing. Another tier may still.

    `attempts` are the calls that were made at a tier's deployments, billed ones among them; `retry_after_s` is how
    long to stay away, where that is known. `recordable` is what a record may hold of it: the message, unless that is
    the engine's own words, which may quote the prompt.
    """

    def __init__(
        self,
        message: str,
        attempts: Sequence[Attempt] = (),
        retry_after_s: float | None = None,
        recordable: str | None = None,
    ) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)
        self.retry_after_s = retry_after_s
        self.recordable = message if recordable is None else recordable


class EngineTimeoutError(EngineError):
    """An engine did not answer in its time."""


class SaturatedError(EngineError):
    """A tier has no room now; nothing is wrong with the request."""

    code = "tier_saturated"


class EngineRequestError(EngineError):
    """An engine refused the request itself; `code` is OpenAI's word where the engine gives one."""

    def __init__(
        self,
        message: str,
        code: str | None = None,
        attempts: Sequence[Attempt] = (),
        recordable: str | None = None,
    ) -> None:
        super().__init__(message, attempts, recordable=recordable)
        self.code = code


class DeadlineError(ServeGraphError):
    """The time that a request had for everything together is spent: nobody else is asked."""

    code = "deadline_exceeded"


class PolicyUnavailableError(ServeGraphError):
    """Router or verifier did not answer; requests go to the safe tier."""


class CertificateVoidError(PolicyUnavailableError):
    """The served version's certificate has ended; requests go to the last tier."""


class StoreUnavailableError(ServeGraphError):
    """The decision store cannot be read now. Writing never raises this: records wait in the spool."""


STATUS: Mapping[type[ServeGraphError], tuple[int, str]] = MappingProxyType(
    {
        ServeGraphError: (500, "server_error"),
        ConfigError: (500, "server_error"),
        WeightsError: (500, "server_error"),
        RequestError: (400, "invalid_request_error"),
        UnknownModelError: (404, "invalid_request_error"),
        PayloadTooLargeError: (413, "invalid_request_error"),
        NotFoundError: (404, "invalid_request_error"),
        AuthenticationError: (401, "invalid_request_error"),
        AccessError: (403, "permission_error"),
        RateLimitedError: (429, "rate_limit_error"),
        BudgetSpentError: (429, "rate_limit_error"),
        EngineError: (503, "service_unavailable_error"),
        EngineTimeoutError: (504, "timeout_error"),
        SaturatedError: (429, "rate_limit_error"),
        EngineRequestError: (400, "invalid_request_error"),
        DeadlineError: (504, "timeout_error"),
        PolicyUnavailableError: (503, "service_unavailable_error"),
        CertificateVoidError: (503, "service_unavailable_error"),
        StoreUnavailableError: (503, "service_unavailable_error"),
    }
)


def status_of(error: ServeGraphError) -> tuple[int, str]:
    """HTTP status and OpenAI error type of an exception, by its exact class."""
    return STATUS[type(error)]


def ending_of(error: BaseException | None) -> tuple[int, str | None]:
    """HTTP status and error word of how a request ended; 499 where the caller went away."""
    if error is None:
        return 200, None
    if isinstance(error, ServeGraphError):
        return status_of(error)
    return (500, "server_error") if isinstance(error, Exception) else (499, "client_closed_request")


def retry_after(error: ServeGraphError) -> str | None:
    """The Retry-After header of an exception: whole seconds, at least 1; None where trying again is no use."""
    if status_of(error)[0] not in (429, 503, 504):
        return None
    seconds: float | None = getattr(error, "retry_after_s", None)
    return str(max(1, math.ceil(seconds or 0.0)))


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, object]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
