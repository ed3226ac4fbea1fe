"""The conversation with the answer as its last turn, as engines read it: its beginning is the request's own."""

from __future__ import annotations

from typing import Any

from router_models.types import Query


def with_answer(query: Query, answer: str) -> list[dict[str, Any]]:
    """Return the turns of a request as they were sent, and the answer."""
    sent = query.parameters.get("messages")
    turns = [dict(turn) for turn in sent] if sent else [{"role": m.role, "content": m.content} for m in query.messages]
    return [*turns, {"role": "assistant", "content": answer}]
