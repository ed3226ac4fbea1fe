"""Errors in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

OVERLOADED = 529  # Anthropic's status for what is full; OpenAI's is 429, which is also a key's own limit
TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        405: "invalid_request_error",
        413: "request_too_large",
        429: "rate_limit_error",
        499: "api_error",
        504: "timeout_error",
        OVERLOADED: "overloaded_error",
    }
)
IN_STREAM: Mapping[str, str] = MappingProxyType(
    {
        "rate_limit_error": "overloaded_error",  # of a tier: a key's limits are checked before a stream begins
        "timeout_error": "timeout_error",
        "invalid_request_error": "invalid_request_error",
    }
)


def anthropic_error(kind: str, message: str, request_id: str | None = None) -> dict[str, Any]:
    """Return Anthropic's error object."""
    named = {} if request_id is None else {"request_id": request_id}
    return {"type": "error", "error": {"type": kind, "message": message}, **named}


def translated_error(status: int, error: Mapping[str, Any], request_id: str) -> tuple[int, dict[str, Any]]:
    """Return the status and Anthropic's error object for those of OpenAI. `error` is the inner object."""
    if status == 429 and error.get("code") == "tier_saturated":
        status = OVERLOADED
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return status, anthropic_error(kind, str(error.get("message") or "no reason given"), request_id)


def kind_in_stream(kind: str) -> str:
    """Return Anthropic's error type for OpenAI's, in a stream that has begun."""
    return IN_STREAM.get(kind, "api_error")
