"""Tool-call ids that remember their tier, so that a tool loop can stay where it began without anything being stored.

A call leaves as `sg<signature><length of the tier's name><tier>_<the engine's id>`, of letters, digits, `_` and `-`
alone; it comes back in the next request's messages and is restored before an engine sees it. The signature keeps
callers from choosing a tier by writing ids of their own; it is made with a secret that all ingress replicas share, for
one access key and one question: elsewhere a tag is a plain id, so that nobody takes a tier to another conversation.

Within its question a tag can be used again, as often as its key's limits let it: nothing is stored that could count
uses. That gives nobody more than `quality_floor: 1` gives every key, the last tier at its price; on any tier below the
verdict stands in the way as ever. A key that is promised a quality floor of its own is pinned by no tag.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from router_models.types import Query

_SIGNATURE = 12
RESULTS_IN_TURN = "tool_results_in_turn"
"""A query's parameter for APIs in which results of tools and words of the user can be one turn; no engine gets it."""


class ToolAffinity:
    """Write and read the tags. A secret that changed makes old tags plain ids: those loops are routed anew."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def tag(self, tier: str, call_id: str, bound: str = "") -> str:
        """An engine's call id as the caller sees it; `bound` is what the tag is valid for (see the function)."""
        return f"sg{self._signature(tier, call_id, bound)}{len(tier):02x}{tier}_{call_id}"

    def read(self, call_id: str, bound: str = "") -> tuple[str | None, str]:
        """The tier and the engine's own id; (None, the id as it is) where it carries no tag that is valid here."""
        signature, rest = call_id[2 : 2 + _SIGNATURE], call_id[2 + _SIGNATURE :]
        try:
            length = int(rest[:2], 16)
        except ValueError:
            return None, call_id
        tier, original = rest[2 : 2 + length], rest[3 + length :]
        if not call_id.startswith("sg") or rest[2 + length : 3 + length] != "_":
            return None, call_id
        if not hmac.compare_digest(signature.encode(), self._signature(tier, original, bound).encode()):
            return None, call_id
        return tier, original

    def tag_calls(self, tier: str, calls: Iterable[Mapping[str, Any]], bound: str = "") -> list[dict[str, Any]]:
        """Tool calls (whole or in pieces) with their ids tagged; pieces without an id stay as they are."""
        return [{**call, "id": self.tag(tier, call["id"], bound)} if call.get("id") else dict(call) for call in calls]

    def untag(self, query: Query, key: str | None = None) -> tuple[Query, str | None]:
        """The query with the engines' own ids, and the tier of the loop that is under way; `key` is the caller's name.

        None where the last turn holds no tool's result: what a loop has led to does not bind the next question.
        """
        parameters = dict(query.parameters)
        in_turn = parameters.pop(RESULTS_IN_TURN, False)
        messages = parameters.get("messages") or []
        if not messages:
            return query, None
        began: str | None = None
        known: dict[str, tuple[str | None, str]] = {}
        plain = []
        holds = bound(messages[:0], key)
        for position, message in enumerate(messages):
            copy = dict(message)
            if copy.get("role") == "user":
                holds = bound(messages[position : position + 1], key)
            if isinstance(copy.get("tool_calls"), list):
                known |= {call_id: self.read(call_id, holds) for call_id in map(_id, copy["tool_calls"]) if call_id}
                copy["tool_calls"] = [_with_id(call, known) for call in copy["tool_calls"]]
            if isinstance(copy.get("tool_call_id"), str):
                found = known.get(copy["tool_call_id"]) or self.read(copy["tool_call_id"], holds)
                tier, copy["tool_call_id"] = found
                began = tier or began
            plain.append(copy)
        under_way = in_turn or messages[-1].get("role") == "tool"
        return replace(query, parameters={**parameters, "messages": plain}), began if under_way else None

    def _signature(self, tier: str, call_id: str, bound: str) -> str:
        text = f"{bound}\0{tier}\0{call_id}".encode("utf-8", "replace")
        return hmac.new(self.secret, text, hashlib.sha256).hexdigest()[:_SIGNATURE]


def bound(messages: Sequence[Mapping[str, Any]], key: str | None) -> str:
    """What a tag made after these messages is valid for: the caller's key, and the last thing a user said."""
    asked = next((message.get("content") for message in reversed(messages) if message.get("role") == "user"), None)
    return hashlib.sha256(f"{key}\0{asked!r}".encode("utf-8", "replace")).hexdigest()


def _id(call: Any) -> str | None:
    found = call.get("id") if isinstance(call, Mapping) else None
    return found if isinstance(found, str) else None


def _with_id(call: Any, known: Mapping[str, tuple[str | None, str]]) -> Any:
    """A call with its engine's own id, where that is known."""
    call_id = _id(call)
    return {**call, "id": known[call_id][1]} if call_id else call
