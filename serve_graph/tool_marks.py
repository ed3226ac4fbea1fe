"""Tool-call ids that remember their tier, so that a tool loop can stay where it began without anything being stored.

A call leaves as `sg<signature><length of the tier's name><tier>_<the engine's id>`, of letters, digits, `_` and `-`
alone; it comes back in the next request's messages and is restored before an engine sees it. The signature keeps
callers from choosing a tier by writing ids of their own; it is made with a secret that all ingress replicas share.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from router_models.types import Query

_SIGNATURE = 12


class ToolMarks:
    """Write and read the marks. A secret that changed makes old marks plain ids: those loops are routed anew."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def marked(self, tier: str, call_id: str) -> str:
        """An engine's call id as the caller sees it."""
        return f"sg{self._signature(tier, call_id)}{len(tier):02x}{tier}_{call_id}"

    def read(self, call_id: str) -> tuple[str | None, str]:
        """The tier and the engine's own id; (None, the id as it is) where it carries no mark of ours."""
        signature, rest = call_id[2 : 2 + _SIGNATURE], call_id[2 + _SIGNATURE :]
        try:
            length = int(rest[:2], 16)
        except ValueError:
            return None, call_id
        tier, original = rest[2 : 2 + length], rest[3 + length :]
        if not call_id.startswith("sg") or rest[2 + length : 3 + length] != "_":
            return None, call_id
        if not hmac.compare_digest(signature.encode(), self._signature(tier, original).encode()):
            return None, call_id
        return tier, original

    def mark_calls(self, tier: str, calls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Tool calls (whole or in pieces) with their ids marked; pieces without an id stay as they are."""
        return [{**call, "id": self.marked(tier, call["id"])} if call.get("id") else dict(call) for call in calls]

    def restored(self, query: Query) -> tuple[Query, str | None]:
        """The query with the engines' own ids, and the tier of the loop that is under way.

        None where the last message is no tool's result: what a loop has led to does not bind the next question.
        """
        messages = query.parameters.get("messages")
        if not messages or not any("tool_calls" in m or "tool_call_id" in m for m in messages):
            return query, None
        began: str | None = None
        plain = []
        for message in messages:
            copy = dict(message)
            if isinstance(copy.get("tool_call_id"), str):
                tier, copy["tool_call_id"] = self.read(copy["tool_call_id"])
                began = tier or began
            if isinstance(copy.get("tool_calls"), list):
                copy["tool_calls"] = [self._restored_call(call) for call in copy["tool_calls"]]
            plain.append(copy)
        under_way = messages[-1].get("role") == "tool"
        return replace(query, parameters={**query.parameters, "messages": plain}), began if under_way else None

    def _restored_call(self, call: Any) -> Any:
        if not isinstance(call, Mapping) or not isinstance(call.get("id"), str):
            return call
        return {**call, "id": self.read(call["id"])[1]}

    def _signature(self, tier: str, call_id: str) -> str:
        text = f"{tier}\0{call_id}".encode("utf-8", "replace")
        return hmac.new(self.secret, text, hashlib.sha256).hexdigest()[:_SIGNATURE]
