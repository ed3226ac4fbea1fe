"""What a request declares beside its messages, as one digest: the tools, and the schema of its format.

Engines read descriptions, names and schemas whole and in their order, and no router does: a certificate speaks of
those alone that enough of its rows had.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

SHA256 = re.compile(r"[0-9a-f]{64}")
PLAIN_FORMATS = frozenset({"", "text", "json_object"})
"""The types of formats that declare nothing else."""
MOST_DECLARED = 10_000
"""Members and items of what is declared, all together: more are not compared, which would keep others waiting."""
LONGEST_DECLARED = 256 * 1024
"""Characters of what is declared, names and digits of large numbers included, all together."""
LARGE = "large"
"""Stands for the digest of more than `MOST_DECLARED` or `LONGEST_DECLARED`, and is covered by nothing."""
_FUNCTION = {"input_schema": "parameters"}
"""How another API calls what a function has."""
_CACHE_HINTS = [{"type": "ephemeral", "ttl": ttl} for ttl in (None, "5m", "1h")]


def tools_digest(tools: Any, functions: Any = None) -> str:
    """Return the sha256 of the declared tools, in hex; empty where there are none, LARGE where there is too much.

    The order of the members of a tool itself (`name`, `description` …) does not count, nor does what says nothing
    (null, `strict: false`). That of tools, and of all members inside a schema, does: prompts are rendered in it.
    Tools in the forms of OpenAI's former `functions`, its Responses and Anthropic's Messages API are the same tools.
    """
    declared = [*_each(tools), *({"type": "function", "function": one} for one in _each(functions))]
    if not declared:
        return ""
    if not _is_short(declared):
        return LARGE
    return _sha256([_tool(one) for one in declared])


def format_digest(response_format: Any) -> str:
    """Return the sha256 of what a response format has beside a type that explains itself; empty where that is all.

    The order of members inside its schema counts: engines generate in it.
    """
    if not isinstance(response_format, Mapping):
        return ""
    if not _is_short([response_format]):
        return LARGE
    rest = _said({name: value for name, value in response_format.items() if name != "type"})
    if isinstance(schema := rest.get("json_schema"), Mapping):
        rest["json_schema"] = _said(schema)
    return _sha256(rest) if rest or response_format.get("type") not in PLAIN_FORMATS else ""


def is_cache_hint(value: Any) -> bool:
    """Tell whether a `cache_control` is as Anthropic's API has it: it changes no answer, and holds nothing else."""
    return isinstance(value, Mapping) and {**value, "ttl": value.get("ttl")} in _CACHE_HINTS


def _is_short(declared: list[Any]) -> bool:
    level: list[Any] = [declared]
    found = chars = 0
    while level:
        found += sum(map(len, level))
        if found > MOST_DECLARED:
            return False
        chars += sum(len(name) for one in level if isinstance(one, Mapping) for name in one if isinstance(name, str))
        inner = [value for one in level for value in (one.values() if isinstance(one, Mapping) else one)]
        chars += sum(map(_chars, inner))
        if chars > LONGEST_DECLARED:
            return False
        level = [one for one in inner if isinstance(one, Mapping | list | tuple)]
    return True


def _chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return value.bit_length() // 3 if isinstance(value, int) else 0


def _each(declared: Any) -> list[Any]:
    return list(declared) if isinstance(declared, list | tuple) else [declared] if declared else []


def _tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping):
        return tool
    said = _said(tool)
    function = said.get("function")
    if isinstance(function, Mapping):
        return _in_order({**said, "type": said.get("type", "function"), "function": _said(function)})
    if "name" in said and said.get("type", "function") in ("function", "custom") and "custom" not in said:
        named = {} if "parameters" in said else _FUNCTION
        flat = {named.get(name, name): value for name, value in said.items() if name != "type"}
        if said.get("type") != "custom" or "parameters" in flat:
            return {"function": _in_order(flat), "type": "function"}
        said = {"custom": flat, "type": "custom"}
    if isinstance(custom := said.get("custom"), Mapping):
        return {**said, "custom": _custom(_said(custom))}
    return said


def _custom(custom: dict[str, Any]) -> dict[str, Any]:
    """Return a custom tool with its grammar as chat has it; any text is what it takes where no format is given."""
    if not isinstance(custom.get("format"), Mapping):
        return custom
    form = _said(custom["format"])
    if form == {"type": "text"}:
        return {name: value for name, value in custom.items() if name != "format"}
    if form.get("type") == "grammar" and "grammar" not in form:
        form = {"grammar": {name: value for name, value in form.items() if name != "type"}, "type": "grammar"}
    if isinstance(grammar := form.get("grammar"), Mapping):
        form["grammar"] = _said(grammar)
    return {**custom, "format": form}


def _said(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that say something, by name: their order does not count, that of members inside them does."""
    return _in_order(
        {
            name: value
            for name, value in members.items()
            if value is not None
            and not (name == "strict" and value is False)
            and not (name == "cache_control" and is_cache_hint(value))
        }
    )


def _in_order(members: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(members.items(), key=lambda member: str(member[0])))


def _sha256(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
