"""JSON schemas of the Messages API's replies, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

TEXT: dict[str, Any] = {"type": "string"}
MAYBE: dict[str, Any] = {"type": ["string", "null"]}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


def message_schemas() -> dict[str, Any]:
    """Return the schemas of messages, stream events, token counts and errors, by name."""
    block = {"type": "object", "properties": {"type": TEXT}, "required": ["type"]}
    usage = _required(dict.fromkeys(COUNTS, COUNT))
    message = {
        "id": TEXT,
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "model": TEXT,
        "content": {"type": "array", "items": block},
        "stop_reason": MAYBE,
        "stop_sequence": MAYBE,
        "usage": usage,
        "serve_graph": {"type": "object"},
    }
    fault = _required({"type": TEXT, "message": TEXT})
    return {
        "AnthropicMessage": _required(message),
        "AnthropicStreamEvent": _required({"type": TEXT}),
        "AnthropicTokenCount": _required({"input_tokens": COUNT}),
        "AnthropicError": _required({"type": {"const": "error"}, "error": fault, "request_id": TEXT}),
    }


def _required(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
