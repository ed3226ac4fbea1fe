"""Replies of engines: validate and read chat.completion objects; convert usage and text to OpenAI's form."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping
from math import isnan
from typing import Any

from router_models.types import Completion, Usage

MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""The exceptions raised when reading an invalid reply or stream chunk."""
_TEXTS = ("role", "content", "refusal", "reasoning", "reasoning_content")


def completion_of(payload: Mapping[str, Any], latency_s: float) -> Completion:
    """Read an engine's chat.completion as a Completion that keeps the original payload.

    Raises one of MALFORMED if any of its choices is invalid.
    """
    choice, *_ = choices = payload["choices"]
    for each in choices:
        check_choice(each, each["message"], whole=True)
    tokens = (choice.get("logprobs") or {}).get("content") or []
    return Completion(
        text=choice["message"].get("content") or "",
        finish_reason=choice.get("finish_reason") or "stop",
        usage=usage_of(payload.get("usage") or {}),
        token_logprobs=tuple(float(token["logprob"]) for token in tokens),
        latency_s=latency_s,
        payload=payload,
    )


def check_choice(choice: Mapping[str, Any], message: Mapping[str, Any] | None, *, whole: bool) -> None:
    """Validate a choice of a reply (`message` is its message) or of a stream chunk (`message` is its delta).

    Later code may rely on the types of its index, finish reason, logprobs, texts and tool calls. Raises one of
    MALFORMED.
    """
    _check_index(choice)
    _check_texts(choice, ("finish_reason",))
    logprobs = choice.get("logprobs")
    tokens = None if logprobs is None else logprobs.get("content")
    if tokens is not None and (not isinstance(tokens, list) or any(isnan(float(t["logprob"])) for t in tokens)):
        raise TypeError("logprobs must be a list of tokens, each with a number")
    if not message and whole:
        raise TypeError("a message must not be empty")
    if message is not None:
        _check_texts(message, _TEXTS)
        for call in message.get("tool_calls") or ():
            _check_call(call, whole)


def _check_call(call: Mapping[str, Any], whole: bool) -> None:
    """Check a tool call: a function has a name and arguments (in parts if streamed), other tool types have neither."""
    _check_index(call)
    _check_texts(call, ("id", "type"))
    function = call.get("function")
    if function is None and not (whole and call.get("type") in (None, "function")):
        return
    _check_texts(function, ("name", "arguments"))
    if whole and (function is None or function["name"] is None):
        raise TypeError("a function call must name its function")


def _check_index(thing: Mapping[str, Any]) -> None:
    index = thing.get("index")
    if index is not None and (not isinstance(index, int) or isinstance(index, bool) or index < 0):
        raise TypeError("an index must be an integer of 0 or more")


def _check_texts(thing: Any, names: Iterable[str]) -> None:
    if not isinstance(thing, Mapping) or not all(isinstance(thing.get(name), str | None) for name in names):
        raise TypeError(f"expected an object whose {', '.join(names)} are strings or null")


def token_texts(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the text that each generated token of the first choice adds; () without logprobs.

    A character whose bytes are spread over several tokens is assigned to the last of them, so that every prefix is
    valid text. The end-of-sequence token has a text here that the answer itself does not contain.
    """
    tokens = (payload["choices"][0].get("logprobs") or {}).get("content") or []
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    return tuple(decoder.decode(_token_bytes(token)) for token in tokens)


def _token_bytes(token: Mapping[str, Any]) -> bytes:
    raw = token.get("bytes")
    if isinstance(raw, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in raw):
        return bytes(raw)
    return str(token.get("token", "")).encode("utf-8", "replace")


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Convert OpenAI's usage object to Usage. Cache-write tokens are read under each name that APIs use."""
    details = usage.get("prompt_tokens_details") or {}
    written = details.get("cache_write_tokens") or details.get("cache_creation_tokens")
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), details.get("cached_tokens"), written)
    return Usage(*(int(count or 0) for count in counts))


def usage_json(usage: Usage) -> dict[str, Any]:
    """Convert Usage to OpenAI's usage object."""
    written = {"cache_write_tokens": usage.cache_write_tokens} if usage.cache_write_tokens else {}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, **written},
    }


def text_pieces(text: str, size: int = 24) -> Iterator[str]:
    """Split an answer's text into stream-sized pieces; joined, they equal the text."""
    for start in range(0, len(text), size):
        yield text[start : start + size]
