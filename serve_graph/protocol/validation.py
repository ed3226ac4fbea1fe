"""What is said of a request that does not validate, and what becomes of its unknown fields."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_graph.errors import RequestError
from serve_graph.protocol.bounds import MAX_CHOICES, MAX_FAULTS, first_items
from serve_graph.protocol.fields import CHAT_FIELDS

_TYPE = re.compile(r"(?:constrained-)?(?:str|int|float|bool)|[a-z-]+\[.*\]", re.S)


def explain(error: ValidationError) -> RequestError:
    """Return the exception that names the first wrong field; an unknown one goes before all others."""
    first = _first(error)
    path = ".".join(str(part) for part in first["loc"] if not _is_type(part)) or None
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


def explain_some(kind: type[BaseModel], data: dict[str, Any]) -> RequestError:
    """Return the exception that names the first of more than MAX_FAULTS faults, if it is among the first items."""
    try:
        kind.model_validate(first_items(data))
    except ValidationError as error:
        if error.error_count() <= MAX_FAULTS:
            return explain(error)
    message = f"more than {MAX_FAULTS} of the request's fields are unknown, or not of their types"
    return RequestError(message, code="invalid_value")


def _first(error: ValidationError) -> ErrorDetails:
    """The first wrong field; where it may be of several types, what is wrong by the one that the value nearly is."""
    errors = error.errors()
    first = min(errors, key=lambda e: len(e["loc"]) if e["type"] != "extra_forbidden" else 0)
    if not first["loc"] or not _is_type(first["loc"][-1]):
        return first
    place = first["loc"][:-1]
    near = [e for e in errors if e["loc"][: len(place)] == place]
    return max(near, key=lambda e: (len(e["loc"]), not e["type"].endswith("_type")))


def _is_type(part: int | str) -> bool:
    """Whether a step of an error's place is the name of a type, which the data does not have."""
    return isinstance(part, str) and _TYPE.fullmatch(part) is not None


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
