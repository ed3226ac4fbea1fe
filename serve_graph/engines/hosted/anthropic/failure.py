"""Failures of calls to Anthropic's API as DeploymentErrors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx

from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.error_bodies import read_error, read_error_body
from serve_graph.engines.hosted.failures import api_failure, failure_of
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
    """Return the error of a status other than 200."""
    status, said = response.status_code, read_error_body(response.text)
    wait_s = retry_after_s(response.headers, time.time())
    where = f"the hosted API returned {status}"
    return api_failure(said, status, where, said.wait_s if wait_s is None else wait_s, url=str(response.request.url))


def failed_call(error: Exception, timeout_s: float, usage: Mapping[str, Any] | None = None) -> DeploymentError:
    """Return any exception of a call as a DeploymentError, with what had been counted until then."""
    failure = failure_of(error, timeout_s)
    failure.usage = failure.usage or usage
    return failure
