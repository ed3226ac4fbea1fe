"""Format checks that read the request: JSON schema, tool calls. Pure, no network.

Faults are numbers: 0.0 = as asked, 1.0 = broken, NaN = nothing was asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from router_models.estimators.verifiers.checks.schemas import matches_schema
from router_models.types import Completion, Query


def schema_fault(query: Query, completion: Completion) -> float:
    """Check the reply against OpenAI's `response_format`: 1 where it is not the JSON that was asked for.

    `json_object` asks for an object, `json_schema` for a value of that schema. A schema that is itself invalid
    checks nothing but that the reply is JSON: the fault is the client's, not the answer's.
    """
    wanted = query.parameters.get("response_format")
    if not isinstance(wanted, Mapping) or wanted.get("type") not in ("json_object", "json_schema"):
        return math.nan
    try:
        value = json.loads(completion.text)
    except (ValueError, RecursionError):
        return 1.0
    if wanted["type"] == "json_object":
        return float(not isinstance(value, dict))
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return float(not matches_schema(value, schema))


def tool_call_fault(query: Query, completion: Completion) -> float:
    """Share of the reply's tool calls that name no declared tool, do not parse, or break its schema.

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
    """What the request declared and the reply breaks, in words; None where nothing is broken or declared.

    A reply that calls tools is not held to `response_format`: the JSON is asked of the answer, not of the calls.
    """
    if tool_call_fault(query, completion) > 0:
        return "a tool call names no declared tool, does not parse or breaks its schema, or a required call is missing"
    if not _calls(completion.payload) and schema_fault(query, completion) > 0:
        return "the answer is not the JSON that response_format asks for"
    return None


def declares_shape(query: Query) -> bool:
    """Whether the request declares a shape that `broken_shape` can hold a whole reply to."""
    wanted = query.parameters.get("response_format")
    asked = isinstance(wanted, Mapping) and wanted.get("type") in ("json_object", "json_schema")
    return asked or bool(_declared(query.parameters.get("tools")))


def _declared(tools: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for tool in tools if isinstance(tools, list | tuple) else ():
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            found[function["name"]] = function.get("parameters")
    return found


def _calls(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tool calls of OpenAI's chat.completion; [] where there are none or the shape is another."""
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
