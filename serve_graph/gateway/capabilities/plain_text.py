"""Which requests need nothing but text, so that what tiers declare need not be compared."""

from __future__ import annotations

from router_models.types import Query

NOT_PLAIN = frozenset(
    {"tools", "functions", "response_format", "reasoning_effort", "reasoning", "thinking", "modalities", "audio"}
)
"""The parameters that may need more of a tier than text."""
PLAIN_FIELDS = frozenset({"role", "content", "name"})


def is_plain_text(query: Query) -> bool:
    """Whether a request sends and wants nothing but text, as most do: what it needs is not read any further then."""
    if not NOT_PLAIN.isdisjoint(query.parameters):
        return False
    messages = query.parameters.get("messages")
    if messages is None:
        return not any(";base64," in message.content for message in query.messages)
    return all(
        PLAIN_FIELDS.issuperset(message)
        and isinstance(content := message.get("content"), str)
        and ";base64," not in content
        and message.get("role") not in ("tool", "function")
        for message in messages
    )
