"""Anthropic's signed reasoning in chat messages: `thinking_blocks`, which its API wants to have again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def signed_thoughts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the `thinking_blocks` of a message or delta."""
    blocks = message.get("thinking_blocks")
    return [dict(block) for block in blocks if isinstance(block, Mapping)] if isinstance(blocks, list) else []


def with_thoughts(before: list[dict[str, Any]], value: Any) -> list[dict[str, Any]]:
    """Return a message's blocks with those of one delta: some APIs send a block in pieces, its signature last."""
    blocks = list(before)
    for block in signed_thoughts({"thinking_blocks": value}):
        last = blocks[-1] if blocks else {}
        if block.get("type") == last.get("type") == "thinking" and not last.get("signature"):
            joined = {name: f"{last.get(name) or ''}{block.get(name) or ''}" for name in ("thinking", "signature")}
            blocks[-1] = {**last, **joined}
        else:
            blocks.append(block)
    return blocks


def thought_deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the deltas of a message's signed reasoning: the blocks one by one, each after its text."""
    for block in signed_thoughts(message):
        if isinstance(text := block.get("thinking"), str) and text:
            yield {"reasoning_content": text}
        yield {"thinking_blocks": [block]}
