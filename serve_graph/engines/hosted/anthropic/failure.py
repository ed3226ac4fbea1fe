"""Failures of calls to Anthropic's API as DeploymentErrors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.error_bodies import read_error
from serve_graph.engines.hosted.failures import api_failure

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
