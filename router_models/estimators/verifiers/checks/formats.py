"""Format checks that read the request: JSON schema, tool calls. Pure, no network.

Faults are numbers: 0.0 = as declared, 1.0 = broken, NaN = nothing was declared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from router_models.estimators.verifiers.checks.schemas import matches_schema
from router_models.types import Completion, Query


def schema_fault(query: Query, completion: Completion) -> float:
    """Return 1 where the reply is not the JSON that `response_format` declares, 0 where it is, NaN without one.

    `json_object` asks for an object, `json_schema` for a value of that schema. A schema that is itself invalid
    checks nothing but that the reply is JSON: the fault is the client's, not the answer's.
    """
    declared = query.parameters.get("response_format")
    if not isinstance(declared, Mapping) or declared.get("type") not in ("json_object", "json_schema"):
        return math.nan
    try:
        value = json.loads(completion.text)
    except (ValueError, RecursionError):
        return 1.0
    if declared["type"] == "json_object":
        return float(not isinstance(value, dict))
    inner = declared.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return float(not matches_schema(value, schema))


def tool_call_fault(query: Query, completion: Completion) -> float:
    """Return the share of the reply's tool calls that name no declared tool, do not parse, or break its schema.

    NaN where the request declares no tools; 0 where tools are optional and none was called; 1 where one was required
    (`tool_choice` other than auto and none) and none was called.
    """
    declared = _declared(query.parameters.get("tools"))
    if not declared:
        return math.nan
    calls = _calls(completion.payload)
    if not calls:
        return float(query.parameters.get("tool_choice", "auto") not in ("auto", "none"))
    return sum(not _call_is_valid(call, declared) for call in calls) / len(calls)


def broken_shape(query: Query, completion: Completion) -> str | None:
    """Return what the reply breaks of the request's declarations, in words; None where nothing is broken or declared.

    `response_format` is not checked on a reply that calls tools: it describes the answer, not the calls.
    """
    if tool_call_fault(query, completion) > 0:
        return "a tool call names no declared tool, does not parse or breaks its schema, or a required call is missing"
    if not _calls(completion.payload) and schema_fault(query, completion) > 0:
        return "the answer is not the JSON that response_format asks for"
    return None


def declares_shape(query: Query) -> bool:
    """Return whether the request declares a shape that `broken_shape` can check on a whole reply."""
    declared = query.parameters.get("response_format")
    has_format = isinstance(declared, Mapping) and declared.get("type") in ("json_object", "json_schema")
    return has_format or bool(_declared(query.parameters.get("tools")))


def _declared(tools: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for tool in tools if isinstance(tools, list | tuple) else ():
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            found[function["name"]] = function.get("parameters")
    return found


def _calls(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tool calls of OpenAI's chat.completion; [] where there are none or the shape is another."""
    try:
        calls = payload["choices"][0]["message"]["tool_calls"]
    except (KeyError, IndexError, TypeError):
        return []
    return [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list | tuple) else []


def _call_is_valid(call: Mapping[str, Any], declared: Mapping[str, object]) -> bool:
    function = call.get("function")
    if not isinstance(function, Mapping) or function.get("name") not in declared:
        return False
    try:
        arguments = json.loads(str(function.get("arguments", "")))
    except (ValueError, RecursionError):
        return False
    return isinstance(arguments, dict) and matches_schema(arguments, declared[function["name"]])
