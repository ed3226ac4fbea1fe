"""Replies of APIs, whole and as streams, in OpenAI's shape; what is none is a DeploymentError."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.event_stream import BOM, ApiEvent, EventReader
from serve_graph.engines.hosted.failures import error_in_reply, unreadable
from serve_graph.engines.hosted.messages import BROKEN_OFF, finish_reason, plain_index, plain_message
from serve_graph.protocol.chunks import CompletionAccumulator, check_chunk, says_something
from serve_graph.protocol.responses import MALFORMED, UsageCounts, completion_of, usage_of

_USAGE_FIELDS = ("usage", "usageMetadata", "usage_metadata", "billed_units")


def whole_reply(content: bytes) -> dict[str, Any]:
    """Return a chat.completion from a body with status 200, also where the API sent a stream unasked."""
    try:
        data = read_json(content.removeprefix(BOM).decode("utf-8", "replace"))
    except ValueError:
        data = _from_events(content)
    if error := error_in_reply(data):
        raise error
    if not isinstance(data, dict):
        raise DeploymentError("the hosted API's reply is not a JSON object", 502)
    try:
        choices = [_whole_choice(choice) for choice in data["choices"]]
        reply = {**data, "choices": choices}
        if usage := reported_usage(data):
            reply["usage"] = usage
        completion_of(reply, 0.0)
    except MALFORMED as error:
        raise DeploymentError("the hosted API's reply contains no answer", 502, usage=reported_usage(data)) from error
    for choice in choices:
        _check_finish(choice.get("finish_reason"), reply.get("usage"))
    return reply


def read_json(text: str) -> Any:
    """Parse JSON of an API; what is no JSON though Python writes it becomes such, as no other client could read it.

    `-Infinity`, the logprob of what cannot be, is -9999 as at OpenAI; `NaN` and `Infinity` are null.
    """
    return json.loads(text, parse_constant={"-Infinity": -9999.0}.get)


def reported_usage(reply: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the usage object of a reply or chunk, wherever its API puts it; None where there is none.

    Groq's streams have it in `x_groq`, Moonshot's in the only choice, Gemini's proxies in `usageMetadata`, Cohere's in
    `meta` or the delta.
    """
    choices = reply.get("choices")
    only = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    places = [reply, reply.get("x_groq"), reply.get("meta"), only]
    places += [only.get(name) for name in ("delta", "message")] if isinstance(only, Mapping) else []
    found = [place.get(name) for place in places if isinstance(place, Mapping) for name in _USAGE_FIELDS]
    return next((usage for usage in found if isinstance(usage, Mapping) and usage), None)


def _whole_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    plain = dict(choice)
    if "index" in plain:
        plain["index"] = plain_index(plain["index"])
    message = plain.get("message")
    if message is None and isinstance(plain.get("text"), str):
        message = {"content": plain.pop("text")}
    given = plain.get("finish_reason")
    if not message and isinstance(given, str) and finish_reason(given) in ("length", "content_filter"):
        message = {"content": None}  # the request's limit was used up, or its answer withheld, before it began
    plain["message"] = plain_message(message, whole=True) if message else message
    if "finish_reason" not in plain or isinstance(plain["finish_reason"], str | None):
        ended_by = "tool_calls" if message and plain["message"].get("tool_calls") else "stop"
        plain["finish_reason"] = finish_reason(plain.get("finish_reason")) or ended_by
    return plain


def _from_events(content: bytes) -> dict[str, Any]:
    """Return the whole answer of a body that is an event stream, or raise what it is instead."""
    reader, stream, accumulator = EventReader(), ReplyStream(), CompletionAccumulator()
    head: dict[str, Any] = {}
    events = [*reader.feed(content), *reader.end()] or list(plain_events(reader.text))
    if not events:
        raise unreadable(content.decode("utf-8", "replace"))
    for chunk in (*(chunk for event in events for chunk in stream.chunks(event)), *stream.close()):
        head = head or {name: chunk[name] for name in ("id", "created", "model") if name in chunk}
        accumulator.add(chunk)
    return {**head, "object": "chat.completion", **accumulator.completion(0.0).payload}


def plain_events(text: str) -> Iterator[ApiEvent]:
    """Yield the JSON that came beside the events of a stream: a whole reply, chunks on a line each, or an error."""
    try:
        json.loads(text)
        yield ApiEvent(None, text)
    except ValueError:
        for line in text.split("\n"):
            if line.startswith("{"):
                yield ApiEvent(None, line)


class ReplyStream:
    """The chunks of one stream. Whole is a stream with every finish reason, or one that says [DONE] after content."""

    def __init__(self) -> None:
        self.done = False
        self.has_content = False
        self.counts = UsageCounts()
        self._finished: dict[int, bool] = {}
        self._calling: set[int] = set()

    def chunks(self, event: ApiEvent) -> Iterator[dict[str, Any]]:
        """Yield the chunks of one event; raises DeploymentError where it is an error, or no chunk."""
        text = event.data.strip()
        if self.done or not text:
            return
        if text[:6].upper() == "[DONE]":
            self.done = True
            return
        try:
            data = read_json(text)
        except ValueError:
            raise unreadable(text, self.usage) from None
        if error := error_in_reply(data, event.name, self.usage):
            raise error
        if data is None:
            return
        try:
            yield self._chunk(data)
        except MALFORMED as error:
            name = type(error).__name__
            raise DeploymentError(
                f"the hosted API's reply could not be parsed ({name})", 502, usage=self.usage
            ) from error

    def is_whole(self, choices: int) -> bool:
        """Whether all of so many choices have ended, so that nothing more is to come but usage."""
        return self.has_content and len(self._finished) >= choices and all(self._finished.values())

    def close(self, text: str = "") -> Iterator[dict[str, Any]]:
        """Yield the finish reasons that are missing; raises DeploymentError where the stream is not whole.

        `text` is what the API sent in place of events.
        """
        missing = [index for index, finished in self._finished.items() if not finished]
        if text and not self._finished:
            raise unreadable(text, self.usage)
        if not self.has_content:
            raise DeploymentError("the hosted API ended its stream without an answer", 502, usage=self.usage)
        if missing and not self.done:
            raise DeploymentError("the hosted API interrupted its stream", 502, usage=self.usage)
        for index in missing:
            reason = "tool_calls" if index in self._calling else "stop"
            yield {"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}

    @property
    def usage(self) -> dict[str, Any] | None:
        """What the API has counted so far."""
        usage = self.counts.json()
        return usage if usage["prompt_tokens"] or usage["completion_tokens"] else None

    def _chunk(self, data: Mapping[str, Any]) -> dict[str, Any]:
        chunk = dict(data)
        choices = chunk.get("choices")
        if choices and len(self._finished) > 1:  # a choice's own usage is not that of all choices
            usage = reported_usage({**chunk, "choices": None})
        else:
            usage = reported_usage(chunk)
        if usage:
            chunk["usage"] = usage
        self.counts.add(chunk.get("usage"))
        if choices is None:
            chunk.pop("choices", None)
            return chunk
        chunk["choices"] = [self._choice(position, choice) for position, choice in enumerate(choices)]
        check_chunk(chunk)
        self.has_content = self.has_content or says_something(chunk)
        for choice in chunk["choices"]:
            index = choice["index"]
            self._finished[index] = bool(choice["finish_reason"]) or self._finished.get(index, False)
            if choice["delta"].get("tool_calls"):
                self._calling.add(index)
        return chunk

    def _choice(self, position: int, choice: Mapping[str, Any]) -> dict[str, Any]:
        plain = dict(choice)
        message, text = plain.pop("message", None), plain.pop("text", None)
        given_index = plain_index(plain.get("index"))
        index = plain["index"] = position if given_index is None else given_index
        if plain.get("delta") is None:  # a whole message at the end repeats what has been said
            said = message if message is not None else {"content": text} if isinstance(text, str) else {}
            plain["delta"] = {} if self.has_content and message is not None else said
        plain["delta"] = plain_message(plain["delta"], whole=False)
        given = plain.get("finish_reason")
        if given is None or isinstance(given, str):
            reason = finish_reason(given)
            _check_finish(reason, self.usage)
            plain["finish_reason"] = None if self._finished.get(index) else reason
        return plain


def _check_finish(reason: str | None, usage: Any) -> None:
    if reason is not None and reason.lower() in BROKEN_OFF:
        billed = usage if usage_of(usage).prompt_tokens else None
        raise DeploymentError(f"the hosted API broke off its answer ({reason[:40]})", 502, usage=billed)
