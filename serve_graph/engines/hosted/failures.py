"""Failures of hosted APIs: every exception of a call, and every error in a reply, as a DeploymentError."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from serve_graph.engines.error_meanings import ErrorFault, meaning_of
from serve_graph.engines.hosted.deployment_error import REFUSED, DeploymentError
from serve_graph.engines.hosted.error_bodies import ApiError, read_error, read_error_body
from serve_graph.engines.hosted.error_sentences import open_word, sentence_of, unreadable_sentence
from serve_graph.engines.http_client import BrokenReplyError, LongReplyError
from serve_graph.errors import ConfigError
from serve_graph.protocol.retry_after import retry_after_s

logger = logging.getLogger(__name__)
_STATUS = {
    ErrorFault.REQUEST: 400,
    ErrorFault.SETUP: 403,
    ErrorFault.BUSY: 429,
    ErrorFault.TIMEOUT: 504,
    ErrorFault.UNAVAILABLE: 502,
}
_ANSWERS = ("choices", "object", "usage", "model", "data", "output", "id")


def error_in_reply(data: Any, name: str | None = None, usage: Any = None) -> DeploymentError | None:
    """Return the error that a reply with status 200, or an event of a stream called `name`, holds; None if none.

    It is an error by its `error`, by the event's name, or because it says something and nothing else is in it.
    """
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, Mapping):
        return None
    speaks = any(isinstance(data.get(field), str | list) for field in ("detail", "message", "msg", "errors"))
    failed = isinstance(base := data.get("base_resp"), Mapping) and base.get("status_code") not in (None, 0)
    bare = speaks and not any(field in data for field in _ANSWERS)
    if not (data.get("error") or name == "error" or bare or failed or data.get("object") == "error"):
        return None
    said = read_error(dict(data))
    given = int(said.code) if said.code is not None and said.code.isdecimal() else 0
    status = given if 400 <= given < 600 else None
    billed = data["usage"] if isinstance(data.get("usage"), dict) else usage
    return api_failure(said, status, "the hosted API returned an error", usage=billed)


def unreadable(text: str, usage: Any = None) -> DeploymentError:
    """Return the error of a reply that is no JSON."""
    return DeploymentError(unreadable_sentence(text), 502, usage=usage)


def failure_of(error: Exception, timeout_s: float, usage: Mapping[str, Any] | None = None) -> DeploymentError:
    """Convert any exception of a call to a DeploymentError, with what the API had counted until then."""
    failure = _failure_of(error, timeout_s)
    failure.usage = failure.usage or usage
    return failure


def _failure_of(error: Exception, timeout_s: float) -> DeploymentError:
    if isinstance(error, DeploymentError):
        return error
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return DeploymentError(f"the hosted API did not answer within {timeout_s:.3g} s", 504)
    if isinstance(error, LongReplyError):
        return DeploymentError(f"the hosted API's reply is {error}", 502)
    if isinstance(error, BrokenReplyError):
        return DeploymentError(f"the hosted API's reply is no valid HTTP: {error}", 502)
    if isinstance(error, httpx.TransportError):
        return DeploymentError("the connection to the hosted API failed or was closed", 503)
    if isinstance(error, ConfigError):
        logger.warning("%s", error)
        return DeploymentError(REFUSED, 401)
    if isinstance(error, OSError):
        return DeploymentError(f"the connection to the hosted API failed ({type(error).__name__})", 503)
    return DeploymentError(f"the hosted API's reply could not be parsed ({type(error).__name__})", 502)


def refused_by_api(response: httpx.Response) -> DeploymentError:
    """Return the error of a status that is no success; the body has been read."""
    status, said = response.status_code, read_error_body(response.text)
    wait_s = retry_after_s(response.headers, time.time())
    where = f"the hosted API returned {status}"
    return api_failure(said, status, where, said.wait_s if wait_s is None else wait_s, url=str(response.request.url))


def api_failure(
    said: ApiError,
    status: int | None,
    where: str,
    wait_s: float | None = None,
    *,
    usage: Any = None,
    url: str = "the hosted API",
) -> DeploymentError:
    """Return an API's error with its meaning; what it says of the tier's own is only logged (`error_sentences`)."""
    meaning = meaning_of(status, said.message, said.code, said.kind, said.param)
    message = sentence_of(said, meaning.fault, status, url)
    meaning = replace(meaning, code=open_word(meaning.code), param=open_word(meaning.param))
    status = status or _STATUS[meaning.fault]
    return DeploymentError(f"{where}: {message}", status, wait_s, usage, meaning=meaning, kind=open_word(said.kind))
