"""The exceptions of `serve_graph` and the HTTP status of each.

    ServeGraphError                     500  server_error
    ├── ConfigError                     (never over HTTP: start-up fails)
    ├── RequestError                    400  invalid_request_error
    │   ├── UnknownModelError           404
    │   ├── PayloadTooLargeError        413
    │   ├── UnsupportedEncodingError    415
    │   └── SlowBodyError               408  the body did not arrive in time
    ├── AuthenticationError             401  no key, or an invalid one
    ├── AccessError                     403  permission_error
    ├── RateLimitedError                429  a key's limit per minute is reached; Retry-After says when
    │   └── BudgetSpentError            429  a key's daily or monthly budget is spent (type: insufficient_quota)
    ├── NotFoundError                   404  invalid_request_error
    ├── EngineError                     503  an engine could not answer; the cascade may use another tier
    │   ├── EngineTimeoutError          504
    │   ├── TierSetupError              503  the API behind a tier refuses its key, account or model: no Retry-After
    │   └── SaturatedError              429  a tier, or the API behind it, is full; Retry-After says when
    ├── EngineRequestError              400  an engine refused the request itself
    ├── DeadlineError                   504  the request's deadline has passed
    ├── PolicyUnavailableError          503  router or verifier down; the cascade uses the safe tier
    │   └── CertificateVoidError        503  no valid certificate; the cascade uses the last tier
    ├── StoreUnavailableError           503  the decision store cannot be read; records stay in the spool
    └── WeightsError                    (start-up) weights missing, damaged or incomplete

`status_of` is the table; a test fails when an exception class is missing from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router_models.types import Attempt


MAX_MESSAGE, MAX_PARAM = 2000, 256  # characters of an error that a caller is sent


class ServeGraphError(Exception):
    """Base class of the exceptions that `serve_graph` raises on purpose."""


class ConfigError(ServeGraphError):
    """The configuration is invalid: correct the key that the message names and start again."""


class WeightsError(ServeGraphError):
    """A tier's weights are missing, damaged or incomplete; the message names the file and the remedy."""


class RequestError(ServeGraphError):
    """The request is invalid: correct the field that `param` names; `code` is OpenAI's machine-readable code."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnknownModelError(RequestError):
    """`model` is neither `auto` nor a tier; `GET /v1/models` lists the valid names."""


class PayloadTooLargeError(RequestError):
    """The request body exceeds `http.max_body_bytes`."""


class UnsupportedEncodingError(RequestError):
    """The request body has a content-encoding that is not supported here; `Accept-Encoding` lists those that are."""


class SlowBodyError(RequestError):
    """The request body did not arrive within `http.body_timeout_s`: send it again, faster."""


class NotFoundError(RequestError):
    """The path or the requested object does not exist."""


class AuthenticationError(RequestError):
    """The request carries no access key, or an unknown one: send `Authorization: Bearer KEY`."""


class RateLimitedError(RequestError):
    """A key exceeded a rate limit: retry after `retry_after_s`.

    `kind` is the limited quantity and OpenAI's error type: `requests`, `tokens` or `escalations`.
    """

    def __init__(self, message: str, retry_after_s: float, kind: str) -> None:
        super().__init__(f"{message}; try again in {math.ceil(retry_after_s)} s", None, "rate_limit_exceeded")
        self.retry_after_s = retry_after_s
        self.kind = kind


class BudgetSpentError(RateLimitedError):
    """A key has spent its daily or monthly budget: retry when the next period begins."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s, "insufficient_quota")
        self.code = "insufficient_quota"


class AccessError(RequestError):
    """The caller is not allowed to do this: use a key with the scope that the message names."""


class EngineError(ServeGraphError):
    """An engine could not answer (stopped, unreachable or failing); another tier may.

    Parameters
    ----------
    message : str
        What happened.
    attempts : sequence of Attempt
        The calls made to the tier's deployments, billed ones included.
    retry_after_s : float, optional
        Seconds after which to retry, where the engine or its API says so.
    recordable : str, optional
        The text to store in the decision record, by default `message`. Different if `message` contains the engine's
        own text, which may quote the prompt.
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
    """An engine did not answer within its time limit."""


class TierSetupError(EngineError):
    """The API behind a tier refuses its key, account or model: its operator finds the reason in the tier's log."""

    code = "tier_misconfigured"


class SaturatedError(EngineError):
    """A tier is at capacity: retry the same request after `retry_after_s`."""

    code = "tier_saturated"


class EngineRequestError(EngineError):
    """An engine rejected the request as invalid.

    `code` and `param` are OpenAI's, `kind` is the error's type, where the engine gives them.
    """

    def __init__(
        self,
        message: str,
        code: str | None = None,
        attempts: Sequence[Attempt] = (),
        recordable: str | None = None,
        *,
        param: str | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message, attempts, recordable=recordable)
        self.code = code
        self.param = param
        self.kind = kind


class DeadlineError(ServeGraphError):
    """The request's deadline has passed: no further tier is called."""

    code = "deadline_exceeded"


class PolicyUnavailableError(ServeGraphError):
    """Router or verifier did not answer; requests are served by the safe tier."""


class CertificateVoidError(PolicyUnavailableError):
    """The served version's certificate is no longer valid; requests are served by the last tier."""


class StoreUnavailableError(ServeGraphError):
    """The decision store cannot be read. Writing never raises this: records stay in the spool until it can."""


STATUS: Mapping[type[ServeGraphError], tuple[int, str]] = MappingProxyType(
    {
        ServeGraphError: (500, "server_error"),
        ConfigError: (500, "server_error"),
        WeightsError: (500, "server_error"),
        RequestError: (400, "invalid_request_error"),
        UnknownModelError: (404, "invalid_request_error"),
        PayloadTooLargeError: (413, "invalid_request_error"),
        UnsupportedEncodingError: (415, "invalid_request_error"),
        SlowBodyError: (408, "timeout_error"),
        NotFoundError: (404, "invalid_request_error"),
        AuthenticationError: (401, "invalid_request_error"),
        AccessError: (403, "permission_error"),
        RateLimitedError: (429, "rate_limit_error"),
        BudgetSpentError: (429, "rate_limit_error"),
        EngineError: (503, "service_unavailable_error"),
        EngineTimeoutError: (504, "timeout_error"),
        TierSetupError: (503, "service_unavailable_error"),
        SaturatedError: (429, "rate_limit_error"),
        EngineRequestError: (400, "invalid_request_error"),
        DeadlineError: (504, "timeout_error"),
        PolicyUnavailableError: (503, "service_unavailable_error"),
        CertificateVoidError: (503, "service_unavailable_error"),
        StoreUnavailableError: (503, "service_unavailable_error"),
    }
)


def status_of(error: ServeGraphError) -> tuple[int, str]:
    """Return the HTTP status and OpenAI error type of an exception, by its exact class."""
    return STATUS[type(error)]


def ending_of(error: BaseException | None) -> tuple[int, str | None]:
    """Return the HTTP status and error type with which a request ended; 499 if the client disconnected."""
    if error is None:
        return 200, None
    if isinstance(error, ServeGraphError):
        return status_of(error)
    return (500, "server_error") if isinstance(error, Exception) else (499, "client_closed_request")


def retry_after(error: ServeGraphError) -> str | None:
    """Return the Retry-After header for an exception: whole seconds, at least 1; None if a retry cannot help."""
    if status_of(error)[0] not in (429, 503, 504) or isinstance(error, TierSetupError):
        return None
    seconds: float | None = getattr(error, "retry_after_s", None)
    return str(max(1, math.ceil(seconds or 0.0)))


def error_kind(error: ServeGraphError) -> str:
    """Return the error type that the caller is told: an engine's own where it rejected the request."""
    own = error.kind if isinstance(error, EngineRequestError) else None
    return own or status_of(error)[1]


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, object]:
    """Return OpenAI's error object. What it quotes of a request is cut: a megabyte must not come back as two."""
    shown = param if param is None else shortened(param, MAX_PARAM)
    return {"error": {"message": shortened(message, MAX_MESSAGE), "type": kind, "param": shown, "code": code}}


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters, its end left out where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
