"""Tool calls of a stream, put together by who they are: their ids and names, and only then their indices.

APIs that send parallel calls under one index, or without any, are as common as those that repeat a call's id or name
in every piece, or send no id at all. A new id that comes with a name is a new call; so is a name that cannot belong to
the call under way.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_READ = ("index", "id", "type", "function", "custom")


def new_call_id() -> str:
    """Return an id for a call that its API gave none, or one that another call has."""
    return f"call_{uuid.uuid4().hex[:24]}"


def arguments_of(arguments: Any) -> dict[str, Any]:
    """Return a call's arguments as an object; empty ones, of a function without parameters, are `{}`.

    What is no object is passed under `INVALID_JSON`, the key that Anthropic names for it.
    """
    try:
        found = json.loads(arguments.strip() or "{}") if isinstance(arguments, str) else arguments or {}
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": str(arguments)}


@dataclass(slots=True)
class _Call:
    """One call: the index and ids that its API gave, and what is shown of it."""

    position: int
    index: int | None
    shown: dict[str, Any]
    ids: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return str(self._inner["name"])

    @property
    def text(self) -> str:
        return str(self._inner["input" if "custom" in self.shown else "arguments"])

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are a JSON object already."""
        try:
            return isinstance(json.loads(self.text), dict)
        except ValueError:
            return False

    @property
    def _inner(self) -> dict[str, Any]:
        inner: dict[str, Any] = self.shown["custom" if "custom" in self.shown else "function"]
        return inner

    def grow(self, name: str, text: str) -> None:
        """Append to its name and its arguments."""
        inner = self._inner
        inner["name"] += name
        inner["input" if "custom" in self.shown else "arguments"] += text


class ToolCallAssembler:
    """Assemble the calls of one choice. `names` are the functions that the request declared, where known."""

    def __init__(self, names: Collection[str] = (), new_id: Callable[[], str] = new_call_id) -> None:
        self._names = names
        self._new_id = new_id
        self._calls: list[_Call] = []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls so far, as in a message."""
        return [call.shown for call in self._calls]

    def take(self, parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Add the `tool_calls` of one delta; returns them with the indices, ids and names that clients rely on."""
        parts, touched = list(parts), set[int]()
        deltas = []
        for at, part in enumerate(parts):
            call = self._call_of(part, at if len(parts) > 1 else None, touched)
            deltas.append(self._begin(part) if call is None else self._continue(call, part))
            touched.add(deltas[-1]["index"])
        return deltas

    def _call_of(self, part: Mapping[str, Any], at: int | None, touched: Collection[int]) -> _Call | None:
        """The call that a part belongs to; None where it begins another."""
        if not self._calls:
            return None
        given, index, (name, text) = part.get("id"), part.get("index"), _said(part)
        last = self._calls[-1]
        near = last if index is None else next((c for c in reversed(self._calls) if c.index == index), None)
        if given:
            known = [c for c in self._calls if given in c.ids]
            if known:
                fitting = [c for c in known if None in (index, c.index) or c.index == index]
                return fitting[-1] if fitting else near
            near = near or (last if last.index is None else None)
            if near is None:
                return None
            if not name:  # an id that comes late, or another one with every piece
                return None if near.ids and text and near.is_whole else near
            return near if not near.ids and near.name == name and not near.text else None
        if not name:
            if index is not None:
                return near or (last if last.index is None else None)
            return self._calls[at] if at is not None and at < len(self._calls) else last
        if near is None or near.position in touched:
            return None
        if near.name == name:
            return None if text and near.is_whole else near
        return near if not near.name or self._completes(near, name) else None

    def _completes(self, call: _Call, name: str) -> bool:
        """Whether a name is the next part of a declared name, or that name as far as it is known."""
        if call.text or call.name in self._names:
            return False
        return any(known.startswith((call.name + name, name)) for known in self._names if known.startswith(call.name))

    def _begin(self, part: Mapping[str, Any]) -> dict[str, Any]:
        given, (name, text) = part.get("id"), _said(part)
        taken = {call.shown["id"] for call in self._calls}
        kind = "custom" if isinstance(part.get("custom"), Mapping) else "function"
        shown: dict[str, Any] = {
            **{key: value for key, value in part.items() if key not in _READ},
            "id": given if given and given not in taken else self._new_id(),
            "type": part.get("type") or kind,
            kind: {"name": name, "input" if kind == "custom" else "arguments": text},
        }
        call = _Call(len(self._calls), part.get("index"), shown, {given} if given else set())
        self._calls.append(call)
        return {"index": call.position, **shown, kind: dict(shown[kind])}

    def _continue(self, call: _Call, part: Mapping[str, Any]) -> dict[str, Any]:
        name, text = _said(part)
        if part.get("id"):
            call.ids.add(part["id"])
        if name.startswith(call.name):  # repeated, or longer by now
            name = name[len(call.name) :]
        elif call.text:  # a name ends where arguments begin
            name = ""
        call.grow(name, text)
        extra = {key: value for key, value in part.items() if key not in _READ}
        call.shown.update(extra)
        kind = "custom" if "custom" in call.shown else "function"
        inner = {"input" if kind == "custom" else "arguments": text, **({"name": name} if name else {})}
        return {"index": call.position, **extra, kind: inner}


def _said(part: Mapping[str, Any]) -> tuple[str, str]:
    """The name and the arguments that a part adds."""
    custom = part.get("custom")
    inner = custom if isinstance(custom, Mapping) else part.get("function") or {}
    name, text = inner.get("name"), inner.get("input" if isinstance(custom, Mapping) else "arguments")
    return name if isinstance(name, str) else "", text if isinstance(text, str) else ""
