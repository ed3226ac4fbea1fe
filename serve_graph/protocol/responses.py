"""Replies of engines: validate and read chat.completion objects; convert usage and text to OpenAI's form."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping
from math import isnan
from typing import Any

from router_models.types import Completion, Usage
from router_models.types.chat_prompts import whole_characters
from serve_graph.protocol.usage_names import USAGE_NAMES

MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""The exceptions raised when reading an invalid reply or stream chunk."""
_TEXTS = ("role", "content", "refusal", "reasoning", "reasoning_content")
MOST_TOKENS = 10_000_000
"""No call has more tokens: the largest context windows are as large."""
_MOST_DETAILS = 32
_PLAIN = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_KNOWN = frozenset(name for names in USAGE_NAMES.values() for name in names)
_BILLED = _KNOWN - frozenset(USAGE_NAMES["reasoning"])
_NESTED = frozenset(name.partition(".")[0] for name in _KNOWN if "." in name)
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")


def completion_of(payload: Mapping[str, Any], latency_s: float) -> Completion:
    """Read an engine's chat.completion as a Completion that keeps the original payload.

    Its text, which verifiers, judges and tables read, has half characters (lone surrogates) replaced.
    Raises one of MALFORMED if any of its choices is invalid.
    """
    choice, *_ = choices = payload["choices"]
    for each in choices:
        check_choice(each, each["message"], whole=True)
    tokens = (choice.get("logprobs") or {}).get("content") or []
    text = choice["message"].get("content") or ""
    return Completion(
        text=text if text.isascii() else whole_characters(text),
        finish_reason=choice.get("finish_reason") or "stop",
        usage=usage_of(payload.get("usage")),
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
        if message.get("function_call") is not None:
            _check_texts(message["function_call"], ("name", "arguments"))


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


class UsageCounts:
    """The counts of one reply or stream, from every usage object that came with it, as its API bills them.

    Counts are cumulative: each is the largest that was given, so that a last object of zeros, or one with a part only,
    takes nothing back. Tokens of a total that are in neither part are output. What makes no sense (a negative or
    fractional count, more tokens from the cache than in the prompt) is no usage at all.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._senseless: set[str] = set()

    def add(self, usage: Any) -> None:
        """Take in one usage object, whatever it is."""
        if not isinstance(usage, Mapping):
            self._senseless |= {"prompt_tokens"} if usage is not None else set()
            return
        for name, value in usage.items():
            if name in _KNOWN:
                self._take(name, value)
            elif name in _NESTED and isinstance(value, Mapping):
                for inner, count in value.items():
                    self._take(f"{name}.{inner}", count)

    def usage(self) -> Usage:
        """Return the counts that are billed; an empty Usage where there are none, or they make no sense."""
        if self._senseless & _BILLED - self._counts.keys():
            return Usage()
        prompt, total = self._first("prompt"), self._first("total")
        output = self._first("output") + self._first("thoughts_beside")
        cached, written = self._most("cached"), self._most("written")
        prompt = prompt or (cached + self._first("missed") if self._first("missed") else 0)
        beside = self._first("cached_beside"), self._first("written_beside")
        if sum(beside):
            prompt += sum(beside) if self._is_beside(prompt, output, total, sum(beside)) else 0
            cached, written = max(cached, beside[0]), max(written, beside[1])
        prompt += self._first("tool_prompt")
        reasoning = self._most("reasoning")
        if total and not prompt and output:
            prompt = max(0, total - output)
        elif total and prompt:
            output = max(output, total - prompt)
        elif reasoning > output:
            output += reasoning
        makes_sense = cached + written <= prompt and reasoning <= output
        return Usage(prompt, output, cached, written) if makes_sense else Usage()

    def json(self) -> dict[str, Any]:
        """Return OpenAI's usage object with every detail that was given."""
        usage = self.usage()
        if usage == Usage():
            return usage_json(usage)
        shown = usage_json(usage)
        shown["prompt_tokens_details"] = self._details(_INPUT_DETAILS) | shown["prompt_tokens_details"]
        details = self._details(_OUTPUT_DETAILS)
        if reasoning := self._most("reasoning") or self._first("thoughts_beside"):
            details["reasoning_tokens"] = reasoning
        return shown | ({"completion_tokens_details": details} if details else {})

    def _take(self, name: str, value: Any) -> None:
        if value is None:
            return
        count = _count(value)
        if count is None:
            self._senseless.add(name)
        elif name in self._counts or name in _KNOWN or len(self._counts) < _MOST_DETAILS:
            self._counts[name] = max(self._counts.get(name, 0), count)

    def _first(self, what: str) -> int:
        return next((count for name in USAGE_NAMES[what] if (count := self._counts.get(name, 0))), 0)

    def _most(self, what: str) -> int:
        return max(self._counts.get(name, 0) for name in USAGE_NAMES[what])

    def _is_beside(self, prompt: int, output: int, total: int, beside: int) -> bool:
        """Whether Anthropic's cache counts are beside the prompt's: by the total, or else by the prompt's name."""
        if beside > prompt or total == prompt + output + beside:
            return True
        return total != prompt + output and not self._counts.get("prompt_tokens")

    def _details(self, places: tuple[str, ...]) -> dict[str, int]:
        names = [(name, *name.split(".", 1)) for name in self._counts if "." in name]
        return {inner: self._counts[name] for name, place, inner in names if place in places}


def _count(value: Any) -> int | None:
    """Return a count of tokens that an API gave as a number, or as its digits; None where it is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def usage_of(usage: Any) -> Usage:
    """Return what one usage object says, whatever names it has; an empty Usage where it says nothing sensible."""
    if (plain := _plain_usage(usage)) is not None:
        return plain
    counts = UsageCounts()
    counts.add(usage)
    return counts.usage()


def usage_shown(completion: Completion) -> dict[str, Any]:
    """Return OpenAI's usage object of a completion, with the details that its engine gave."""
    given = completion.payload.get("usage")
    if _plain_usage(given) == completion.usage:  # there are no details
        return usage_json(completion.usage)
    counts = UsageCounts()
    counts.add(given)
    return counts.json() if counts.usage() == completion.usage else usage_json(completion.usage)


def _plain_usage(usage: Any) -> Usage | None:
    """What `UsageCounts` makes of the three counts that most engines give, and no more, where they add up; else None.

    It is read several times a request, and most of `UsageCounts` is for what other APIs say.
    """
    if type(usage) is not dict or len(usage) != len(_PLAIN) or not _PLAIN.issuperset(usage):
        return None
    prompt, output, total = (usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if not type(prompt) is type(output) is type(total) is int:
        return None
    return Usage(prompt, output) if prompt > 0 and output >= 0 and prompt + output == total <= MOST_TOKENS else None


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
