"""Failures of calls to Anthropic's API as DeploymentErrors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx

from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.error_bodies import read_error, read_error_body
from serve_graph.engines.hosted.failures import api_failure
from serve_graph.errors import ConfigError
from serve_graph.protocol.retry_after import retry_after_s

STATUSES: Mapping[str, int] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    }
)
"""The status that each of Anthropic's error types has where it is not an event in a stream."""


def error_in_body(body: Mapping[str, Any], usage: Mapping[str, Any] | None = None) -> DeploymentError:
    """Return the error of a body with status 200, or of an event in a stream."""
    said = read_error(dict(body))
    return api_failure(said, STATUSES.get(said.kind or ""), "the hosted API returned an error", usage=usage)


def refused_by_api(response: httpx.Response) -> DeploymentError:
    """Return the error of a status other than 200; details of the tier's own key or set-up are only logged."""
    status, said = response.status_code, read_error_body(response.text)
    wait_s = retry_after_s(response.headers, time.time())
    return api_failure(said, status, f"the hosted API returned {status}", wait_s, url=str(response.request.url))


def failed_call(error: Exception, timeout_s: float, usage: Mapping[str, Any] | None = None) -> DeploymentError:
    """Return any exception of a call as a DeploymentError."""
    if isinstance(error, DeploymentError):
        return error
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return DeploymentError(f"the hosted API did not answer within {timeout_s:.3g} s", 504, None, usage)
    if isinstance(error, ConfigError):
        return DeploymentError(str(error), 401)
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL | OSError):
        return DeploymentError("the connection to the hosted API failed or was closed", 503, None, usage)
    return DeploymentError(f"the hosted API's reply could not be parsed ({type(error).__name__})", 502, None, usage)
