"""The output items of a response as they grow: reasoning, a message, function calls, each added, filled and closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Event = dict[str, Any]
TEXT_FIELDS: Mapping[str, str] = MappingProxyType(
    {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
)
"""The field that holds the text of each kind of part."""


@dataclass(frozen=True, slots=True)
class CallKind:
    """What is different between calls of functions and of custom tools: names of items, fields and events."""

    item: str
    prefix: str
    name: str
    said: str
    event: str
    told: tuple[str, ...]


FUNCTION = CallKind("function_call", "fc", "function", "arguments", "function_call_arguments", ("arguments", "name"))
CUSTOM = CallKind("custom_tool_call", "ctc", "custom", "input", "custom_tool_call_input", ("input",))
CALLS: Mapping[str, CallKind] = MappingProxyType({kind.item: kind for kind in (FUNCTION, CUSTOM)})


class Items:
    """The output of one response. `take` and `close` return events; `done` returns the output so far."""

    def __init__(self, reply_id: str) -> None:
        self.name = reply_id.removeprefix("chatcmpl-")
        self.output: list[dict[str, Any]] = []
        self.open: dict[str, Any] | None = None
        self.calls: dict[int, dict[str, Any]] = {}
        self.nameless: dict[int, Mapping[str, Any]] = {}

    def take(self, message: Mapping[str, Any]) -> list[Event]:
        """Add one message or delta; returns the events that describe it."""
        events: list[Event] = []
        if thought := message.get("reasoning_content") or message.get("reasoning") or "":
            events += self._text_events("reasoning_text", thought)
        if text := message.get("content") or "":
            events += self._text_events("output_text", text)
        if refusal := message.get("refusal") or "":  # an abstention has both text and refusal
            events += self._text_events("refusal", refusal)
        for position, call in enumerate(message.get("tool_calls") or []):
            at = position if call.get("index") is None else call["index"]
            if at not in self.calls:
                call = _joined(self.nameless.pop(at, {}), call)
                if not _name(call):
                    self.nameless[at] = call
                    continue
                events += self._close_open()
                events += self._begin_call(at, call)
            events += self._grow_call(self.calls[at], call)
        return events

    def close(self, status: str = "completed") -> list[Event]:
        """Close the last item, `incomplete` where the answer was cut; calls that never got a name are shown."""
        events: list[Event] = []
        for at, call in self.nameless.items():
            events += [*self._close_open(), *self._begin_call(at, call), *self._grow_call(self.calls[at], call)]
        self.nameless = {}
        return events + self._close_open(status)

    def _close_open(self, status: str = "completed") -> list[Event]:
        if self.open is None:
            return []
        item, self.open = self.open, None
        item["status"] = status
        return [*self._done_events(item), {"type": "response.output_item.done", **self._at(item), "item": _copy(item)}]

    def done(self) -> list[dict[str, Any]]:
        """Return the items so far; one that is not closed is still in progress."""
        return [_copy(item) for item in self.output]

    def _text_events(self, kind: str, text: str) -> Iterator[Event]:
        """Append text to the item's last part; text of another kind starts another part, reasoning another item."""
        item_type = "reasoning" if kind == "reasoning_text" else "message"
        if self.open is None or self.open["type"] != item_type:
            yield from self._close_open()
            at = f"{self.name}_{len(self.output)}"
            message: dict[str, Any] = {"type": "message", "role": "assistant", "id": f"msg_{at}"}
            thinking: dict[str, Any] = {"type": "reasoning", "id": f"rs_{at}", "summary": []}
            item = thinking if item_type == "reasoning" else message
            yield self._added(item | {"status": "in_progress", "content": []})
        assert self.open is not None
        parts = self.open["content"]
        if not parts or parts[-1]["type"] != kind:
            yield from self._done_events(self.open) if parts else ()
            yield self._begin_part(kind)
        parts[-1][TEXT_FIELDS[kind]] += text
        yield {"type": f"response.{kind}.delta", **self._part(self.open), "delta": text, **_extras(kind)}

    def _begin_part(self, kind: str) -> Event:
        assert self.open is not None
        annotations: dict[str, Any] = {"annotations": []} if kind == "output_text" else {}
        part: dict[str, Any] = {"type": kind, TEXT_FIELDS[kind]: "", **annotations, **_extras(kind)}
        self.open["content"].append(part)
        return {"type": "response.content_part.added", **self._part(self.open), "part": dict(part)}

    def _begin_call(self, at: int, call: Mapping[str, Any]) -> Iterator[Event]:
        kind = CUSTOM if call.get("type") == "custom" or call.get("custom") else FUNCTION
        item = {
            "type": kind.item,
            "id": f"{kind.prefix}_{self.name}_{len(self.output)}",
            "call_id": call.get("id") or f"call_{self.name}_{at}",
            "name": _name(call),
            kind.said: "",
            "status": "in_progress",
        }
        self.calls[at] = item
        yield self._added(item)

    def _grow_call(self, item: dict[str, Any], call: Mapping[str, Any]) -> Iterator[Event]:
        kind = CALLS[item["type"]]
        if said := (call.get(kind.name) or {}).get(kind.said):
            item[kind.said] += said
            yield {"type": f"response.{kind.event}.delta", **self._at(item, named=True), "delta": said}

    def _added(self, item: dict[str, Any]) -> Event:
        self.output.append(item)
        self.open = item
        return {"type": "response.output_item.added", **self._at(item), "item": _copy(item)}

    def _done_events(self, item: Mapping[str, Any]) -> list[Event]:
        if item["type"] in CALLS:
            kind = CALLS[item["type"]]
            whole = {name: item[name] for name in kind.told}
            return [{"type": f"response.{kind.event}.done", **self._at(item, named=True), **whole}]
        part = dict(item["content"][-1])
        kind = part["type"]
        text = {TEXT_FIELDS[kind]: part[TEXT_FIELDS[kind]]}
        return [
            {"type": f"response.{kind}.done", **self._part(item), **text, **_extras(kind)},
            {"type": "response.content_part.done", **self._part(item), "part": part},
        ]

    def _at(self, item: Mapping[str, Any], *, named: bool = False) -> dict[str, Any]:
        where = {"output_index": next(i for i, other in enumerate(self.output) if other["id"] == item["id"])}
        return {"item_id": item["id"], **where} if named else where

    def _part(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._at(item, named=True), "content_index": len(item["content"]) - 1}


def _name(call: Mapping[str, Any]) -> str:
    return str((call.get("custom") or call.get("function") or {}).get("name") or "")


def _joined(before: Mapping[str, Any], more: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a call whose name comes late: what was sent of it before, and this piece."""
    if not before:
        return more
    joined = {**before, **{name: value for name, value in more.items() if value is not None}}
    for name in ("function", "custom"):
        first, second = before.get(name) or {}, more.get(name) or {}
        if first or second:
            joined[name] = {part: (first.get(part) or "") + (second.get(part) or "") for part in {**first, **second}}
    return joined


def _extras(kind: str) -> dict[str, Any]:
    """Return the additional fields of text events, a new list each time; refusal events have none."""
    return {"logprobs": []} if kind == "output_text" else {}


def _copy(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy for an event, since the item itself keeps growing."""
    copy = dict(item)
    if "content" in copy:
        copy["content"] = [dict(part) for part in copy["content"]]
    return copy
