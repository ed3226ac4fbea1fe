"""A response's output items as they grow: one message, then function calls, each opened, filled and closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

Event = dict[str, Any]
TEXT_FIELDS: Mapping[str, str] = MappingProxyType({"output_text": "text", "refusal": "refusal"})
"""Where a part of each kind holds its words."""


class Items:
    """The output of one response. Events come out of `take` and `close`; `done` is the output so far."""

    def __init__(self, reply_id: str) -> None:
        self.name = reply_id.removeprefix("chatcmpl-")
        self.output: list[dict[str, Any]] = []
        self.open: dict[str, Any] | None = None
        self.calls: dict[int, dict[str, Any]] = {}

    def take(self, said: Mapping[str, Any]) -> list[Event]:
        """One message or delta; the events that tell of it."""
        events: list[Event] = []
        if text := said.get("content") or "":
            events += self._say("output_text", text)
        if refusal := said.get("refusal") or "":  # an abstention has both
            events += self._say("refusal", refusal)
        for position, call in enumerate(said.get("tool_calls") or []):
            at = position if call.get("index") is None else call["index"]
            if at not in self.calls:
                events += self.close()
                events += self._begin_call(at, call)
            events += self._grow_call(self.calls[at], (call.get("function") or {}).get("arguments") or "")
        return events

    def close(self) -> list[Event]:
        """End the open item, if there is one."""
        if self.open is None:
            return []
        item, self.open = self.open, None
        item["status"] = "completed"
        return [*self._last_words(item), {"type": "response.output_item.done", **self._at(item), "item": _copy(item)}]

    def done(self) -> list[dict[str, Any]]:
        """The items so far; one that was not closed is still in progress."""
        return [_copy(item) for item in self.output]

    def _say(self, kind: str, text: str) -> Iterator[Event]:
        """Words of a message's last part; words of another kind begin another part."""
        if self.open is None or self.open["type"] != "message":
            yield from self.close()
            item = {"type": "message", "role": "assistant", "id": f"msg_{self.name}_{len(self.output)}"}
            yield self._added(item | {"status": "in_progress", "content": []})
        assert self.open is not None
        parts = self.open["content"]
        if not parts or parts[-1]["type"] != kind:
            yield from self._last_words(self.open) if parts else ()
            yield self._begin_part(kind)
        parts[-1][TEXT_FIELDS[kind]] += text
        yield {"type": f"response.{kind}.delta", **self._part(self.open), "delta": text, **_extras(kind)}

    def _begin_part(self, kind: str) -> Event:
        assert self.open is not None
        noted: dict[str, Any] = {"annotations": []} if kind == "output_text" else {}
        part: dict[str, Any] = {"type": kind, TEXT_FIELDS[kind]: "", **noted, **_extras(kind)}
        self.open["content"].append(part)
        return {"type": "response.content_part.added", **self._part(self.open), "part": dict(part)}

    def _begin_call(self, at: int, call: Mapping[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        item = {
            "type": "function_call",
            "id": f"fc_{self.name}_{len(self.output)}",
            "call_id": call.get("id") or f"call_{self.name}_{at}",
            "name": function.get("name") or "",
            "arguments": "",
            "status": "in_progress",
        }
        self.calls[at] = item
        yield self._added(item)

    def _grow_call(self, item: dict[str, Any], arguments: str) -> Iterator[Event]:
        item["arguments"] += arguments
        if arguments:
            yield {"type": "response.function_call_arguments.delta", **self._at(item, named=True), "delta": arguments}

    def _added(self, item: dict[str, Any]) -> Event:
        self.output.append(item)
        self.open = item
        return {"type": "response.output_item.added", **self._at(item), "item": _copy(item)}

    def _last_words(self, item: Mapping[str, Any]) -> list[Event]:
        if item["type"] == "function_call":
            whole = {"arguments": item["arguments"], "name": item["name"]}
            return [{"type": "response.function_call_arguments.done", **self._at(item, named=True), **whole}]
        part = dict(item["content"][-1])
        kind = part["type"]
        words = {TEXT_FIELDS[kind]: part[TEXT_FIELDS[kind]]}
        return [
            {"type": f"response.{kind}.done", **self._part(item), **words, **_extras(kind)},
            {"type": "response.content_part.done", **self._part(item), "part": part},
        ]

    def _at(self, item: Mapping[str, Any], *, named: bool = False) -> dict[str, Any]:
        where = {"output_index": next(i for i, known in enumerate(self.output) if known["id"] == item["id"])}
        return {"item_id": item["id"], **where} if named else where

    def _part(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._at(item, named=True), "content_index": len(item["content"]) - 1}


def _extras(kind: str) -> dict[str, Any]:
    """What events of a text have beside its words; a refusal's have none. A list of their own each time."""
    return {"logprobs": []} if kind == "output_text" else {}


def _copy(item: Mapping[str, Any]) -> dict[str, Any]:
    """An event's own copy: the item goes on growing."""
    copy = dict(item)
    if "content" in copy:
        copy["content"] = [dict(part) for part in copy["content"]]
    return copy
