"""Bodies of errors, whatever their shape: what is said, and the code, type and parameter that go with it.

Read are OpenAI's `{"error": {…}}` and its like, `error`, `detail`, `message` as text, lists (FastAPI's, Gemini's),
errors in errors (Azure, OpenRouter, gateways that quote JSON), plain text and HTML pages.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

NO_REASON = "no reason given"
MESSAGE_CHARS = 500
_DEPTH = 6
_IDENTIFIER = re.compile(r"[\w.:/\[\]-]{1,128}")
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^<>]{0,2000}>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_SECRET = re.compile(r"\b(sk|pk|rk|key|gsk|xai|hf|AIza)[-_][\w*.-]{8,}|\bBearer\s+\S+")
_MESSAGES = ("message", "msg", "detail", "Message", "error_message", "error_msg", "error_description", "errorMessage",
             "status_msg", "faultstring", "reason", "title")  # fmt: skip
_INNER = ("error", "errors", "detail", "message", "fault", "base_resp")


@dataclass(frozen=True, slots=True)
class ApiError:
    """What one error says. `kind` is its type, `wait_s` the pause it asks for."""

    message: str = ""
    code: str | None = None
    kind: str | None = None
    param: str | None = None
    wait_s: float | None = None


def read_error_body(content: str) -> ApiError:
    """Return what a body says, cleaned and bounded."""
    try:
        found = read_error(json.loads(content))
    except (ValueError, RecursionError):
        found = _of_text(content, 0)
    return found if found.message else replace(found, message=NO_REASON)


def read_error(value: Any, depth: int = 0) -> ApiError:
    """Return what a parsed body says."""
    if depth > _DEPTH or value is None:
        return ApiError()
    if isinstance(value, str):
        return _of_text(value, depth)
    if isinstance(value, list):
        found = [read_error(item, depth + 1) for item in value[:8]]
        first = found[0] if found else ApiError()
        return replace(first, message=clean("; ".join(dict.fromkeys(item.message for item in found if item.message))))
    if isinstance(value, Mapping):
        return _of_mapping(value, depth)
    return ApiError()


def clean(text: Any) -> str:
    """Return a text on one line, without markup, control characters and keys, of at most MESSAGE_CHARS."""
    raw = str(text)[:10_000]
    if re.search(r"<(!doctype|html|head|body)\b", raw[:2_000], re.IGNORECASE):
        title = _TITLE.search(raw)
        body = _TAGS.sub(" ", raw if title is None else raw[: title.start()] + raw[title.end() :])
        raw = html.unescape(f"{title[1]}: {body}" if title else body)
    plain = "".join(char if char.isprintable() or char == " " else " " for char in raw)
    return _SECRET.sub("***", " ".join(plain.split())).strip(" :")[:MESSAGE_CHARS]


def _of_text(text: str, depth: int) -> ApiError:
    start = text.find("{")
    if start >= 0:
        try:
            inner = read_error(json.loads(text[start:].removesuffix("'").strip()), depth + 1)
        except (ValueError, RecursionError):
            inner = ApiError()
        if inner.message:
            return replace(inner, message=clean(f"{text[:start].rstrip(' -:b')}: {inner.message}"))
    return ApiError(clean(text))


def _of_mapping(body: Mapping[str, Any], depth: int) -> ApiError:
    own = ApiError(
        next((clean(body[name]) for name in _MESSAGES if isinstance(body.get(name), str) and body[name].strip()), ""),
        _code(body),
        _identifier(body.get("type") or body.get("__type")),
        _param(body),
        _wait_s(body),
    )
    inner = ApiError()
    for name in _INNER:
        nested = body.get(name)
        if isinstance(nested, Mapping | list) and nested:
            inner = read_error(nested, depth + 1)
        elif name in ("error", "message") and isinstance(nested, str) and ("{" in nested or name == "error"):
            inner = _of_text(nested, depth + 1)
        if inner.message:
            break
    if "loc" in body and own.param and own.message:
        own = replace(own, message=clean(f"{own.param}: {own.message}"))
    inner = _merged(_from_metadata(body, depth), inner)
    if own.message and isinstance(body.get("error"), str) and "{" not in body["error"]:
        label = _identifier(body["error"])  # a label beside the message ("Bad Request", "invalid_key")
        return replace(own, code=own.code or label)
    return _merged(inner, own)


def _from_metadata(body: Mapping[str, Any], depth: int) -> ApiError:
    """What lies deeper: OpenRouter's `metadata.raw`, Azure's `innererror`, Google's `details`."""
    metadata = body.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    found = read_error(raw, depth + 1) if raw else ApiError()
    details = body.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping):
            found = replace(
                found, code=found.code or _identifier(detail.get("reason")), wait_s=found.wait_s or _wait_s(detail)
            )
    return found


def _merged(first: ApiError, second: ApiError) -> ApiError:
    return ApiError(
        first.message or second.message,
        first.code or second.code,
        first.kind or second.kind,
        first.param or second.param,
        first.wait_s or second.wait_s,
    )


def _code(body: Mapping[str, Any]) -> str | None:
    inner = body.get("innererror")
    names = ("code", "error_code", "errorCode", "__type", "status", "status_code")
    found = [_identifier(body.get(name)) for name in names]
    if isinstance(inner, Mapping):
        found.append(_identifier(inner.get("code")))
    said = [code for code in found if code is not None]
    words = [code for code in said if not code.isdecimal()]
    return next(iter(words or said), None)


def _param(body: Mapping[str, Any]) -> str | None:
    place = body.get("loc")
    if isinstance(place, list):
        parts = [str(part) for part in place if part not in ("body", "query")]
        return _identifier(".".join(parts))
    return _identifier(body.get("param") or body.get("parameter"))


def _wait_s(body: Mapping[str, Any]) -> float | None:
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)s", str(body.get("retryDelay")))
    return float(found[1]) if found else None


def _identifier(value: Any) -> str | None:
    """Return a short word that may go into a reply; None for anything else."""
    text = str(value).rpartition("#")[2] if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if _IDENTIFIER.fullmatch(text) else None
