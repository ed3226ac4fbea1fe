"""When a stream has begun to speak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def says_something(chunk: Mapping[str, Any]) -> bool:
    """Whether a chunk holds more than an opening: any text, tool call, refusal or finish reason."""
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        if choice.get("finish_reason") or any(value for key, value in delta.items() if key != "role"):
            return True
    return False
