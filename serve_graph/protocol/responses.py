"""The wire: an engine's chat.completion, checked and read; usage and text as OpenAI writes them."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping
from math import isnan
from typing import Any

from router_models.types import Completion, Usage

MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a reply, or a stream's chunk, raises that is none."""
_TEXTS = ("role", "content", "refusal", "reasoning", "reasoning_content")


def completion_of(payload: Mapping[str, Any], latency_s: float) -> Completion:
    """Read an engine's chat.completion into a Completion; the payload itself is kept.

    Raises one of MALFORMED where it is none, in whichever of its choices.
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


def check_choice(choice: Mapping[str, Any], said: Mapping[str, Any] | None, *, whole: bool) -> None:
    """Check a choice of a reply (`said` is its message) or of a stream's chunk (its delta): the one place for it.

    Whoever words, cuts, judges or shows it afterwards may trust its index, its end, its logprobs, every text and every
    tool call. Raises one of MALFORMED.
    """
    _check_index(choice)
    _check_texts(choice, ("finish_reason",))
    logprobs = choice.get("logprobs")
    tokens = None if logprobs is None else logprobs.get("content")
    if tokens is not None and (not isinstance(tokens, list) or any(isnan(float(t["logprob"])) for t in tokens)):
        raise TypeError("logprobs are a list of tokens with a number each")
    if not said and whole:
        raise TypeError("a message is not empty")
    if said is not None:
        _check_texts(said, _TEXTS)
        for call in said.get("tool_calls") or ():
            _check_call(call, whole)


def _check_call(call: Mapping[str, Any], whole: bool) -> None:
    """A function has a name and arguments, which come bit by bit in a stream; tools of other types have none."""
    _check_index(call)
    _check_texts(call, ("id", "type"))
    function = call.get("function")
    if function is None and not (whole and call.get("type") in (None, "function")):
        return
    _check_texts(function, ("name", "arguments"))
    if whole and (function is None or function["name"] is None):
        raise TypeError("a call names its function")


def _check_index(thing: Mapping[str, Any]) -> None:
    index = thing.get("index")
    if index is not None and (not isinstance(index, int) or isinstance(index, bool) or index < 0):
        raise TypeError("an index is a number from 0 up")


def _check_texts(thing: Any, names: Iterable[str]) -> None:
    if not isinstance(thing, Mapping) or not all(isinstance(thing.get(name), str | None) for name in names):
        raise TypeError(f"an object whose {', '.join(names)} are text or null")


def token_texts(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The text that each generated token of a chat.completion's first choice adds, () where it has no logprobs.

    A character whose bytes are spread over several tokens belongs to the last of them, so that every beginning reads
    as text. The token that ends an answer has a text here which the answer itself has not.
    """
    tokens = (payload["choices"][0].get("logprobs") or {}).get("content") or []
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    return tuple(decoder.decode(_token_bytes(token)) for token in tokens)


def _token_bytes(token: Mapping[str, Any]) -> bytes:
    known = token.get("bytes")
    if isinstance(known, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in known):
        return bytes(known)
    return str(token.get("token", "")).encode("utf-8", "replace")


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """OpenAI's usage object → Usage. Tokens written to a cache are read under the names that APIs give them."""
    details = usage.get("prompt_tokens_details") or {}
    written = details.get("cache_write_tokens") or details.get("cache_creation_tokens")
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), details.get("cached_tokens"), written)
    return Usage(*(int(count or 0) for count in counts))


def usage_json(usage: Usage) -> dict[str, Any]:
    """Usage → OpenAI's usage object."""
    written = {"cache_write_tokens": usage.cache_write_tokens} if usage.cache_write_tokens else {}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, **written},
    }


def text_pieces(text: str, size: int = 24) -> Iterator[str]:
    """Cut a finished answer into stream-sized pieces; joined, they are the text again."""
    for start in range(0, len(text), size):
        yield text[start : start + size]
