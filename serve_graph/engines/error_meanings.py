"""What an engine's or an API's error means: whose fault it is, and OpenAI's code for it. Pure.

    request       the caller's: 400, and no other deployment is asked
    setup         the tier's account, key, model or address: 503; others are asked, this one needs its operator
    busy          a limit that passes by itself: 429 with Retry-After
    timeout       504
    unavailable   503

A known code decides, then the wording, then the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from serve_graph.engines import error_wordings as words


class ErrorFault(StrEnum):
    """Whose fault an error is, and so what becomes of the request."""

    REQUEST = "request"
    SETUP = "setup"
    BUSY = "busy"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"


def _rows(**statuses: str) -> Mapping[int, ErrorFault]:
    return {int(status): ErrorFault(name) for name, given in statuses.items() for status in given.split()}


STATUS_FAULTS: Mapping[int, ErrorFault] = MappingProxyType(
    _rows(
        request="400 412 413 414 415 416 417 418 422 428 431 494",
        setup="401 402 403 404 405 406 407 410 411 426 440 450 451 495 496 497 498 501 505 506 511",
        busy="420 429 509 529",
        timeout="408 504 522 524 598 599",
        unavailable="409 421 423 424 425 444 449 499 500 502 503 507 508 510 520 521 523 525 526 527 530",
    )
)
"""Every status of an error that is registered or in use, and what it means where nothing else is said."""


@dataclass(frozen=True, slots=True)
class ErrorMeaning:
    """Whose fault it is; `code` and `param` as OpenAI names them, where they are known."""

    fault: ErrorFault
    code: str | None = None
    param: str | None = None


def fault_of(status: int) -> ErrorFault:
    """Return what a status means by itself."""
    if status in STATUS_FAULTS:
        return STATUS_FAULTS[status]
    return ErrorFault.REQUEST if 400 <= status < 500 else ErrorFault.UNAVAILABLE


def meaning_of(
    status: int | None, message: str, code: str | None = None, kind: str | None = None, param: str | None = None
) -> ErrorMeaning:
    """Return what an error means. `status` None: it came with status 200; `kind` is the API's type of it."""
    text = message[: words.LONGEST]
    names = [name.lower() for name in (code, kind) if name]
    if code is not None and code.isdecimal() and len(code) < 4:  # an HTTP status
        code = None
    known = next((words.REQUEST_CODES[name] for name in names if name in words.REQUEST_CODES), None)
    if known is not None:
        return ErrorMeaning(ErrorFault.REQUEST, known, param or _param_of(known, text))
    if any(name in words.SETUP_CODES for name in names):
        return ErrorMeaning(ErrorFault.SETUP, code)
    fault = _plain_fault(status, names)
    if fault is ErrorFault.REQUEST and names and names[0] in words.OWN_CODES:
        return ErrorMeaning(fault, code, param)
    passes = words.RATE_WORDS.search(text) is not None
    if (
        fault in (ErrorFault.REQUEST, ErrorFault.SETUP, ErrorFault.BUSY)
        and not passes
        and words.ACCOUNT_WORDS.search(text)
    ):
        return ErrorMeaning(ErrorFault.SETUP, code)
    if status not in (401, 402, 407, 429) and fault is not ErrorFault.BUSY:
        if words.CONTENT_WORDS.search(text):
            return ErrorMeaning(ErrorFault.REQUEST, words.CONTENT_FILTER, param)
        if words.CONTEXT_WORDS.search(text) and not passes:
            return ErrorMeaning(ErrorFault.REQUEST, words.CONTEXT_LENGTH, param)
    if fault is ErrorFault.REQUEST or status == 404:
        if words.MODEL_WORDS.search(text):
            return ErrorMeaning(ErrorFault.SETUP, code)
        if words.UNSUPPORTED_WORDS.search(text):
            return ErrorMeaning(ErrorFault.REQUEST, words.UNSUPPORTED, param or _param_of(words.UNSUPPORTED, text))
    return ErrorMeaning(fault, code, param)


def _plain_fault(status: int | None, names: list[str]) -> ErrorFault:
    """Return what status and general codes say; of the two the status, where there is one."""
    if status is not None:
        return fault_of(status)
    tables = (
        (words.SETUP_CODES, ErrorFault.SETUP),
        (words.BUSY_CODES, ErrorFault.BUSY),
        (words.TIMEOUT_CODES, ErrorFault.TIMEOUT),
        (words.UNAVAILABLE_CODES, ErrorFault.UNAVAILABLE),
        (words.REQUEST_KINDS, ErrorFault.REQUEST),
    )
    return next((fault for name in names for table, fault in tables if name in table), ErrorFault.UNAVAILABLE)


def _param_of(code: str, text: str) -> str | None:
    """Return the parameter that a message of an unsupported one names."""
    if code in (words.CONTEXT_LENGTH, words.CONTENT_FILTER):
        return None
    for pattern in words.PARAM_PATTERNS:
        if found := pattern.search(text):
            return found[1]
    return None
