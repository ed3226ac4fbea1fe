"""Failures of hosted APIs: every exception of a call, and every error in a reply, as a DeploymentError."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from openai import APIConnectionError, APIStatusError, APITimeoutError

from serve_graph.engines.hosted.deployment_error import SETUP_FAULTS, DeploymentError
from serve_graph.errors import ConfigError
from serve_graph.protocol.retry_after import retry_after_s

logger = logging.getLogger(__name__)
MESSAGE_CHARS = 500


def error_in_reply(data: Any, name: str | None = None, usage: Any = None) -> DeploymentError | None:
    """Return the error that a reply with status 200, or an event of a stream called `name`, holds; None if none."""
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, Mapping):
        return None
    error = data.get("error")
    if not error:
        return None
    code = error.get("code") if isinstance(error, Mapping) else None
    text = error.get("message") if isinstance(error, Mapping) else error
    status = int(code) if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) < 600 else 502
    billed = data["usage"] if isinstance(data.get("usage"), dict) else usage
    return DeploymentError(f"the hosted API returned an error: {_short(text)}", status, usage=billed)


def unreadable(text: str, usage: Any = None) -> DeploymentError:
    """Return the error of a reply that is no JSON: it is quoted."""
    return DeploymentError(f"the hosted API's reply could not be parsed: {_short(text)}", 502, usage=usage)


def failure_of(error: Exception, timeout_s: float) -> DeploymentError:
    """Convert any exception of a call to a DeploymentError."""
    if isinstance(error, DeploymentError):
        return error
    if isinstance(error, APIStatusError):
        return _refusal(error)
    if isinstance(error, TimeoutError | APITimeoutError):
        return DeploymentError(f"the hosted API did not answer within {timeout_s:.3g} s", 504)
    if isinstance(error, APIConnectionError) or _is_of_transport(error):
        return DeploymentError("the connection to the hosted API failed or was closed", 503)
    if isinstance(error, ConfigError):
        return DeploymentError(str(error), 401)
    if isinstance(error, OSError):
        return DeploymentError(f"the connection to the hosted API failed ({type(error).__name__})", 503)
    return DeploymentError(f"the hosted API's reply could not be parsed ({type(error).__name__})", 502)


def _is_of_transport(error: Exception) -> bool:
    """Whether the HTTP library that the client uses (httpx, or its successor) lost the connection."""
    return any(base.__name__ == "TransportError" for base in type(error).__mro__)


def _refusal(error: APIStatusError) -> DeploymentError:
    """Convert a status other than 200; details of the tier's own key or configuration are only logged."""
    status, message = error.status_code, _message(error)
    if status in SETUP_FAULTS:
        logger.warning("%s returned %d: %s", error.request.url, status, message)
        message = "the tier's key or configuration is wrong; see its log"
    wait_s = retry_after_s(error.response.headers, time.time())
    return DeploymentError(f"the hosted API returned {status}: {message}", status, wait_s)


def _message(error: APIStatusError) -> str:
    """Return the API's error message, if it has one; an HTML page has none."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        return _short(inner.get("message") if isinstance(inner, Mapping) else inner)
    return "no reason given"


def _short(text: Any) -> str:
    return " ".join(str(text or "no reason given").split())[:MESSAGE_CHARS]
