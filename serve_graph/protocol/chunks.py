"""Convert between completions and stream chunks.

A piece is the `choices` of one chat.completion.chunk. Pure: nothing waits here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from router_models.data.prefixes import prefix_of
from router_models.types import Completion, Usage
from serve_graph.protocol.responses import UsageCounts, check_choice, completion_of, text_pieces, token_texts
from serve_graph.protocol.thinking_blocks import thought_deltas, with_thoughts
from serve_graph.protocol.tool_calls import ToolCallAssembler

Choices = list[dict[str, Any]]
_IN_PIECES = ("data", "transcript")
"""The fields of an answer in audio that are sent in pieces."""
_IN_ORDER = frozenset(
    {"role", "content", "refusal", "reasoning", "reasoning_content", "thinking_blocks", "tool_calls", "function_call"}
)
"""The fields of a message that have pieces of their own; any other one is a piece."""


def says_something(chunk: Mapping[str, Any]) -> bool:
    """Whether a chunk has content beyond the role: text, a tool call, a refusal or a finish reason."""
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        if choice.get("finish_reason") or any(value for key, value in delta.items() if key != "role"):
            return True
    return False


def finishes(chunk: Mapping[str, Any]) -> bool:
    """Whether every choice in a chunk has a finish reason."""
    return bool(chunk.get("choices")) and all(choice.get("finish_reason") for choice in chunk["choices"])


def check_chunk(chunk: Mapping[str, Any]) -> None:
    """Raise one of MALFORMED if any choice of a chunk is invalid."""
    for choice in chunk.get("choices") or ():
        check_choice(choice, choice.get("delta"), whole=False)


class CompletionAccumulator:
    """Accumulate the chunks of a stream into a completion.

    `completion` and `prefix` may be called at any time. `tool_names`: the functions that the request declared.
    """

    def __init__(self, tool_names: Collection[str] = ()) -> None:
        self.choices: dict[int, dict[str, Any]] = {}
        self.tool_names = tool_names
        self.tool_calls: dict[int, ToolCallAssembler] = {}
        self.counts: UsageCounts | None = None
        self.service_tier: str | None = None

    def add(self, chunk: Mapping[str, Any]) -> Choices:
        """Add one chunk: its `choices`, `usage` and `service_tier` (the rate that a hosted API applied).

        Returns its choices with all that OpenAI's have: the index, a delta, a finish reason or null, and tool calls as
        clients assemble them. Raises one of MALFORMED if the chunk is invalid; the state is then unchanged.
        """
        check_chunk(chunk)
        self.service_tier = chunk.get("service_tier") or self.service_tier
        if chunk.get("usage"):
            self.counts = self.counts or UsageCounts()
            self.counts.add(chunk["usage"])
        pieces: Choices = []
        for position, piece in enumerate(chunk.get("choices") or ()):
            given = piece.get("index")
            index = position if given is None else given
            choice = self.choices.get(index)
            if choice is None:
                choice = self.choices[index] = _empty_choice(index)
            delta = piece.get("delta") or {}
            if "tool_calls" in delta:
                delta = {**delta, "tool_calls": self._assembled(index, delta["tool_calls"] or ())}
            for name, value in delta.items():
                if name != "tool_calls":
                    _merge_delta(choice["message"], name, value)
            pieces.append({"finish_reason": None, **piece, "index": index, "delta": delta})
            if tokens := (piece.get("logprobs") or {}).get("content"):
                named = [{**token, "logprob": float(token["logprob"])} for token in tokens]
                choice["logprobs"] = choice["logprobs"] or {"content": []}
                choice["logprobs"]["content"] += named
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
            if isinstance(piece.get("stop_reason"), str):  # the stop sequence that was met
                choice["stop_reason"] = piece["stop_reason"]
        return pieces

    def _assembled(self, index: int, parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        assembler = self.tool_calls.setdefault(index, ToolCallAssembler(self.tool_names))
        deltas = assembler.take(parts)
        if assembler.calls:
            self.choices[index]["message"]["tool_calls"] = assembler.calls
        return deltas

    @property
    def usage(self) -> Usage:
        """The tokens that were reported so far."""
        return self.counts.usage() if self.counts else Usage()

    @property
    def finished(self) -> bool:
        """Whether every choice that started has a finish reason."""
        return bool(self.choices) and all(choice["finish_reason"] for choice in self.choices.values())

    @property
    def named(self) -> int:
        """The number of tokens that came with a logprob, over all choices."""
        return sum(len((choice["logprobs"] or {}).get("content", ())) for choice in self.choices.values())

    def completion(self, latency_s: float, finish_reason: str | None = None) -> Completion:
        """Return what has arrived as a Completion; `finish_reason` is used for choices that have none yet."""
        whole = [dict(choice) for _, choice in sorted(self.choices.items())] or [_empty_choice(0)]
        for choice in whole:
            choice["finish_reason"] = choice["finish_reason"] or finish_reason
        tariff = {"service_tier": self.service_tier} if self.service_tier else {}
        return completion_of(
            {"choices": whole, "usage": self.counts.json() if self.counts else {}, **tariff}, latency_s
        )

    def prefix(self, tokens: int) -> Completion | None:
        """Return the first `tokens` tokens of choice 0, cut as for certification; None while there are no more.

        The result does not depend on how many tokens an engine sends per chunk. Answers of an engine without logprobs
        have no prefix: they are verified whole.
        """
        choice = self.choices.get(0)
        logprobs = ((choice or {}).get("logprobs") or {}).get("content") or []
        if len(logprobs) <= tokens:
            return None
        first = {"choices": [{"logprobs": {"content": logprobs[:tokens]}}]}
        return prefix_of([*token_texts(first), ""], [float(t["logprob"]) for t in logprobs[: tokens + 1]], tokens)


def _empty_choice(index: int) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": None},
        "logprobs": None,
        "finish_reason": None,
    }


def _merge_delta(message: dict[str, Any], name: str, value: Any) -> None:
    """Merge one delta field into a message: append text and blocks, replace anything else."""
    if value is None:
        return
    if name == "function_call":
        former: dict[str, Any] = message.setdefault("function_call", {"name": "", "arguments": ""})
        for field in ("name", "arguments"):
            former[field] += value.get(field) or ""
    elif name == "thinking_blocks":
        message[name] = with_thoughts(message.get(name) or [], value)
    elif name == "role":
        message[name] = value
    elif isinstance(value, str):
        message[name] = (message.get(name) or "") + value
    elif isinstance(value, list):
        message[name] = _longer(message.get(name) or [], value, name)
    elif isinstance(value, Mapping) and isinstance(before := message.get(name), Mapping):
        message[name] = {
            **before,
            **value,
            **{part: before.get(part, "") + value[part] for part in _texts(before, value)},
        }
    else:
        message[name] = value


def _longer(before: Any, more: list[Any], name: str) -> list[Any]:
    """Return a field's items with those of one delta; what is sent again is not repeated, unless it is reasoning."""
    if not isinstance(before, list):
        return more
    return [*before, *(item for item in more if name == "reasoning_details" or item not in before)]


def _texts(before: Mapping[str, Any], value: Mapping[str, Any]) -> list[str]:
    """Return the fields of an object, such as an answer in audio, that come in pieces."""
    return [part for part in _IN_PIECES if isinstance(value.get(part), str) and isinstance(before.get(part, ""), str)]


def tool_names(tools: Any) -> frozenset[str]:
    """Return the names of the functions that a request declares; a request that is invalid there declares none."""
    if not isinstance(tools, list):
        return frozenset()
    inner = [tool.get("function") or tool.get("custom") for tool in tools if isinstance(tool, Mapping)]
    names = [function.get("name") for function in inner if isinstance(function, Mapping)]
    return frozenset(name for name in names if isinstance(name, str))


def to_chunks(completion: Completion) -> Iterator[Choices]:
    """Split a completion into pieces, per choice: role (with logprobs), text, refusal, tool calls, finish reason.

    All else that a message holds (audio, images, annotations, encrypted reasoning) is a piece before the tool calls.
    """
    plain = {"message": {"content": completion.text}, "finish_reason": completion.finish_reason}
    for position, choice in enumerate(completion.payload.get("choices") or [plain]):
        index = choice.get("index") or position
        message = choice.get("message") or {}
        opening = _piece(index, {"role": "assistant", "content": ""})
        if choice.get("logprobs"):
            opening["logprobs"] = choice["logprobs"]
        yield [opening]
        signed = list(thought_deltas(message)) if message.get("thinking_blocks") else []
        for delta in signed or ({name: message.get(name)} for name in ("reasoning", "reasoning_content")):
            if any(delta.values()):
                yield [_piece(index, delta)]
        for name in ("content", "refusal"):
            for text in text_pieces(message.get(name) or ""):
                yield [_piece(index, {name: text})]
        for name, value in message.items():
            if name not in _IN_ORDER and value:
                yield [_piece(index, {name: value})]
        if calls := message.get("tool_calls"):
            yield [_piece(index, {"tool_calls": [{**call, "index": i} for i, call in enumerate(calls)]})]
        if former := message.get("function_call"):
            yield [_piece(index, {"function_call": former})]
        yield [_piece(index, {}, choice.get("finish_reason") or completion.finish_reason) | _stop_met(choice)]


def _piece(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


def _stop_met(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return vLLM's `stop_reason` where it is the stop sequence that ended an answer, not a token's number."""
    return {"stop_reason": choice["stop_reason"]} if isinstance(choice.get("stop_reason"), str) else {}


def whole_choice(index: int, original: Mapping[str, Any]) -> dict[str, Any]:
    """Return an engine's choice as callers receive it: OpenAI's fields, all of them present, and the stop sequence."""
    present = {k: original[k] for k in ("index", "finish_reason", "logprobs") if original.get(k) is not None}
    message = {"content": None, **original["message"]}
    return {"index": index, "finish_reason": "stop", **present, **_stop_met(original), "message": message}


def each_choice(completion: Completion) -> tuple[Completion, ...]:
    """Split a completion of n choices into n completions of one, to verify each; the first one keeps the usage."""
    choices = completion.payload.get("choices") or []
    if len(choices) < 2:
        return (completion,)
    usage = completion.payload.get("usage") or {}
    return tuple(
        completion_of({"choices": [choice], "usage": usage if i == 0 else {}}, completion.latency_s)
        for i, choice in enumerate(choices)
    )
