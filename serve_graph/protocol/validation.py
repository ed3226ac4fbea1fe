"""What is said of a request that does not validate, and what becomes of its unknown fields."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from serve_graph.errors import RequestError
from serve_graph.protocol.bounds import MAX_CHOICES
from serve_graph.protocol.fields import CHAT_FIELDS


def explain(error: ValidationError) -> RequestError:
    """Return the exception that names the first wrong field; an unknown one goes before all others."""
    first = min(error.errors(), key=lambda e: len(e["loc"]) if e["type"] != "extra_forbidden" else 0)
    path = ".".join(str(part) for part in first["loc"]) or None
    param = str(first["loc"][0]) if first["loc"] else None
    if first["type"] == "extra_forbidden":
        hint = "; policy.unknown_fields may ignore or forward it" if param == path and param not in CHAT_FIELDS else ""
        return RequestError(f"unrecognized request argument: {path}{hint}", param, "unknown_field")
    if first["type"] == "none_required":
        return RequestError(f"{path} is not supported here: leave it out, or null", param, "unsupported_value")
    if first["type"] == "unsupported":
        return RequestError(f"{path}: {first['msg']}", param, "unsupported_value")
    if first["type"] == "missing":
        return RequestError(f"missing required field: {path}", param, "missing_field")
    if param == "n":
        return RequestError(f"n must be 1 to {MAX_CHOICES}", param, "unsupported_value")
    return RequestError(f"{path}: {first['msg']}", param, "invalid_value")


def take_unknown(data: dict[str, Any], places: list[tuple[int | str, ...]]) -> dict[str, Any]:
    """Remove unknown fields, nested ones too, and return those of the top level."""
    taken: dict[str, Any] = {}
    for *path, name in places:
        if not path and name not in CHAT_FIELDS:
            taken[str(name)] = data.pop(str(name))
        if not path or path[0] == "serve_graph":
            continue
        node: Any = data
        for step in path:  # the names of a union's members are steps too, which the data does not have
            inside = step in node if isinstance(node, dict) else isinstance(node, list) and isinstance(step, int)
            node = node[step] if inside else node
        if isinstance(node, dict):
            node.pop(name, None)
    return taken
