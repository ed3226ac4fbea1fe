"""The columns of outcomes that say under which conditions a row was asked, and what their cells say. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from router_models.types.declared import LARGE, SHA256

CONDITION_COLUMNS = (
    "decoding",
    "max_tokens",
    "system_prompt",
    "turns",
    "tools",
    "response_format",
    "tool_loop",
    "prefilled",
    "unread",
    "declared_tools",
    "format_schema",
)
"""The columns of outcomes that say under which conditions a row was asked; empty or absent: the plain case."""
HASHED = frozenset({"system_prompt", "declared_tools", "format_schema"})
"""Those that hold a sha256."""
DECLARED_IN: Mapping[str, str] = {"declared_tools": "tools", "format_schema": "response_format"}
"""The columns that may hold the JSON of a request, and so say what these are the digests of."""
PLAIN_WORDS: Mapping[str, str] = {
    "decoding": "the tiers' own",
    "max_tokens": "the tiers' own",
    "system_prompt": "none",
    "turns": "1",
    "tools": "no",
    "response_format": "text",
    "tool_loop": "no",
    "prefilled": "no",
    "unread": "nothing",
    "declared_tools": "none",
    "format_schema": "none",
}
"""What an empty cell of each of these columns says."""


def cell_of(value: bool) -> str:
    """Return what a cell says of a condition that holds, or does not."""
    return "yes" if value else ""


def cell_is_yes(name: str, text: str) -> bool:
    """Read a cell that says yes or no, or holds the JSON of what there is; ValueError for anything else."""
    word = text.strip().casefold()
    if word in ("yes", "true", "1", "1.0"):
        return True
    if word in ("", "no", "false", "0", "0.0", "null", "none"):
        return False
    declared = cell_json(word)
    if not isinstance(declared, list | dict):
        raise ValueError(f"{name} must be yes or no, found {text[:60]!r}")
    return bool(declared)


def cell_format(text: str) -> str:
    """Read a response format, by its type or as JSON; ValueError where it has no type."""
    declared = cell_json(text) if text.startswith("{") else text
    kind = declared.get("type") if isinstance(declared, dict) else declared
    if not isinstance(kind, str):
        raise ValueError(f"response_format must be a type such as json_object, found {text[:60]!r}")
    return "" if kind == "text" else kind


def cell_sha256(text: str) -> str:
    """Return a text's sha256 in hex; one that is a sha256 stays as it is, and an empty one empty."""
    return (
        text
        if not text or SHA256.fullmatch(text)
        else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    )


def cell_digest(row: Mapping[str, str], name: str, digest: Callable[[Any], str]) -> str:
    """Read a digest; where the column has the JSON itself, or the one that it is declared in, take its digest."""
    text = row.get(name, "").strip()
    if SHA256.fullmatch(text) or text == LARGE:
        return text
    declared = cell_json(text)
    if text and not isinstance(declared, list | dict):
        raise ValueError(f"{name} must be a sha256 in hex or the JSON that was sent, found {text[:60]!r}")
    if not text:
        declared = cell_json(row.get(DECLARED_IN[name], "").strip())
    return digest(declared) if isinstance(declared, list | dict) else ""


def cell_json(text: str) -> Any:
    """Read JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
