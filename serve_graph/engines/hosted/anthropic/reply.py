"""Convert replies and stream events of Anthropic's Messages API to chat completions and their chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from router_models.types import Usage
from serve_graph.engines.hosted.anthropic.failure import error_in_body
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.protocol.chunks import check_chunk, says_something, to_chunks
from serve_graph.protocol.responses import UsageCounts, completion_of

CHAT_ENDINGS = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "pause_turn": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "refusal": "content_filter",
    }
)
TARIFF_NAMES = MappingProxyType({"priority": "priority", "batch": "batch"})  # `standard` is what has no name


def chat_completion(message: Any) -> dict[str, Any]:
    """Return the chat completion of a message; raises DeploymentError where it is none."""
    if not isinstance(message, Mapping):
        raise DeploymentError("the hosted API's reply is not a JSON object", 502)
    if message.get("type") == "error" or message.get("error"):
        raise error_in_body(message)
    content = message.get("content")
    if not isinstance(content, list) or not all(isinstance(block, Mapping) for block in content):
        raise DeploymentError("the hosted API's reply contains no answer", 502, usage=_usage_of(message.get("usage")))
    texts = [str(block.get("text") or "") for block in content if block.get("type") == "text"]
    thoughts = [dict(block) for block in content if block.get("type") in ("thinking", "redacted_thinking")]
    calls = [_call(block) for block in content if block.get("type") == "tool_use"]
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thoughts:
        said["reasoning_content"] = "".join(str(block.get("thinking") or "") for block in thoughts)
        said["thinking_blocks"] = thoughts
    if calls:
        said["tool_calls"] = calls
    choice = {"index": 0, "message": said, "logprobs": None, **ending(message)}
    return _head(message, "chat.completion") | {
        "choices": [choice],
        "usage": _usage_of(message.get("usage")),
        **_tariff(message.get("usage")),
    }


def ending(ended: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice's finish reason; `stop_reason` beside it is the stop sequence that was met, as vLLM says it."""
    reason = ended.get("stop_reason")
    met = ended.get("stop_sequence") if reason == "stop_sequence" else None
    found = {"finish_reason": CHAT_ENDINGS.get(str(reason), "stop")}
    return found | ({"stop_reason": met} if met else {})


@dataclass
class ChunksOfMessage:
    """The chunks of one streamed message: `take` returns those of one event.

    Reasoning comes as `reasoning_content`, and once more whole and signed as `thinking_blocks` when its block ends.
    """

    counts: UsageCounts = field(default_factory=UsageCounts)
    has_content: bool = False
    finished: bool = False
    ended: bool = False
    head: dict[str, Any] = field(default_factory=dict)
    tariff: dict[str, Any] = field(default_factory=dict)
    blocks: dict[Any, dict[str, Any]] = field(default_factory=dict)
    calls: int = 0

    def take(self, event: Any) -> Iterator[dict[str, Any]]:
        """Return the chunks that one event becomes; raises DeploymentError for an `error` event."""
        for chunk in self._chunks(event) if isinstance(event, Mapping) else ():
            check_chunk(chunk)
            self.has_content = self.has_content or says_something(chunk)
            yield chunk

    def close(self, text: str = "") -> Iterator[dict[str, Any]]:
        """Raise DeploymentError unless the message has ended; `text`, what came beside events, may be all of it."""
        if not self.head and text:
            reply = chat_completion(json.loads(text))
            for choices in to_chunks(completion_of(reply, 0.0)):
                yield {**reply, "object": "chat.completion.chunk", "choices": choices}
        elif not self.finished:
            raise DeploymentError("the hosted API interrupted its stream", 502, usage=self.usage)

    def _chunks(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        match event.get("type"):
            case "message_start":
                message = event["message"]
                self.head = _head(message, "chat.completion.chunk")
                counted = message.get("usage")  # its output is a placeholder: what was written so far
                self._count({**counted, "output_tokens": None} if isinstance(counted, Mapping) else counted)
                yield self._chunk({"role": "assistant", "content": ""}) | {"usage": self.usage}
            case "content_block_start":
                yield from self._begin(event.get("index"), dict(event["content_block"]))
            case "content_block_delta":
                yield from self._grow(event.get("index"), event["delta"])
            case "content_block_stop":
                yield from self._end(event.get("index"))
            case "message_delta":
                self._count(event.get("usage"))
                if event["delta"].get("stop_reason"):
                    self.finished = True
                    yield self._chunk({}, **ending(event["delta"])) | {"usage": self.usage, **self.tariff}
            case "message_stop":
                self.ended = True
                yield self.head | {"choices": [], "usage": self.counts.json(), **self.tariff}
            case "error":
                raise error_in_body(event, self.usage)

    @property
    def usage(self) -> dict[str, Any] | None:
        """The counts so far as OpenAI's usage object; None before the first."""
        return self.counts.json() if self.counts.usage() != Usage() else None

    def _begin(self, index: Any, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self.blocks[index] = block
        if block.get("type") == "tool_use":
            block["position"], block["json"] = self.calls, ""
            self.calls += 1
            function = {"name": block["name"], "arguments": ""}
            call = {"index": block["position"], "id": block["id"], "type": "function", "function": function}
            yield self._chunk({"tool_calls": [call]})
        elif block.get("type") == "text" and block.get("text"):
            yield self._chunk({"content": block["text"]})
        elif block.get("type") == "thinking" and block.get("thinking"):
            yield self._chunk({"reasoning_content": block["thinking"]})

    def _grow(self, index: Any, delta: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        block = self.blocks.get(index, {})
        match delta.get("type"):
            case "text_delta":
                yield self._chunk({"content": delta["text"]})
            case "thinking_delta":
                block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
                yield self._chunk({"reasoning_content": delta["thinking"]})
            case "signature_delta":
                block["signature"] = (block.get("signature") or "") + delta["signature"]
            case "input_json_delta" if "json" in block:
                block["json"] += delta["partial_json"]
                yield self._arguments(block, delta["partial_json"])

    def _end(self, index: Any) -> Iterator[dict[str, Any]]:
        block = self.blocks.get(index, {})
        if block.get("type") in ("thinking", "redacted_thinking"):
            yield self._chunk({"thinking_blocks": [block]})
        elif block.get("type") == "tool_use" and not block["json"]:  # no arguments, or all of them at the start
            yield self._arguments(block, json.dumps(block.get("input") or {}, ensure_ascii=False))

    def _arguments(self, block: Mapping[str, Any], text: str) -> dict[str, Any]:
        return self._chunk({"tool_calls": [{"index": block["position"], "function": {"arguments": text}}]})

    def _count(self, usage: Any) -> None:
        self.counts.add(usage)
        self.tariff |= _tariff(usage)

    def _chunk(self, delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
        return self.head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
    function = {"name": block.get("name") or "", "arguments": arguments}
    return {"id": block.get("id"), "type": "function", "function": function}


def _head(message: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {"id": str(message.get("id") or ""), "object": kind, "created": 0, "model": str(message.get("model") or "")}


def _usage_of(usage: Any) -> dict[str, Any]:
    counts = UsageCounts()
    counts.add(usage)
    return counts.json()


def _tariff(usage: Any) -> dict[str, Any]:
    named = TARIFF_NAMES.get(str(usage.get("service_tier"))) if isinstance(usage, Mapping) else None
    return {"service_tier": named} if named else {}
