"""Format checks that read the request: JSON schema, tool calls. Pure, no network.

Faults are numbers: 0.0 = as declared, 1.0 = broken, NaN = nothing was declared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router_models.estimators.verifiers.checks.agreement import field_agreement
from router_models.estimators.verifiers.checks.schemas import matches_schema
from router_models.estimators.verifiers.checks.tool_calls import (
    CALLING_FINISHES,
    call_fault,
    calls_fault,
    declared_tools,
)
from router_models.types import Completion, FloatArray, Query
from router_models.types.exchange import FORMAT_NAMES, PREFIX_FINISH

CALLS_NOT_MEASURED = "it calls tools, and no answer that the version was certified on does"


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


def measured_formats(query: Query, completion: Completion) -> dict[str, float]:
    """Return those of the signals `FORMAT_NAMES` that are measured of an answer: none where no JSON is declared."""
    if not isinstance(query.parameters.get("response_format"), Mapping) or completion.tool_calls:
        return {}
    found = {"schema_fault": schema_fault(query, completion), "field_agreement": field_agreement(query, completion)}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def format_columns(query: Query, completion: Completion, wanted: Sequence[str]) -> dict[str, FloatArray]:
    """Return those of the signals `FORMAT_NAMES` that a verifier wants, as columns of one row; NaN = not measured.

    The beginning of an answer is no JSON yet: nothing is measured of it.
    """
    names = [name for name in FORMAT_NAMES if name in wanted]
    if not names:
        return {}
    found = {} if completion.finish_reason == PREFIX_FINISH else measured_formats(query, completion)
    return {name: np.array([found.get(name, math.nan)]) for name in names}


def tool_call_fault(query: Query, completion: Completion) -> float:
    """Return the share of the reply's tool calls that are not as declared (`tool_calls.call_fault`).

    NaN where the request declares no tools; 0 where tools are optional and none was called; 1 where one was required
    (`tool_choice` other than auto and none) and none was called.
    """
    declared = declared_tools(query)
    if not declared:
        return math.nan
    calls = completion.tool_calls
    if not calls:
        return float(declared.required)
    return sum(call_fault(call, declared) is not None for call in calls) / len(calls)


@dataclass(frozen=True, slots=True)
class AnswerReading:
    """Hold what a reply is, and what may be promised of it.

    Parameters
    ----------
    calls : int
        How many tool calls it makes; 0: it is text, which a verifier scores.
    fault : str, optional
        What it breaks of the request's declarations, in words.
    not_promised : str, optional
        Why no certificate of the version covers it, in words; None where one may.
    """

    calls: int = 0
    fault: str | None = None
    not_promised: str | None = None


def read_answer(query: Query, completion: Completion, *, knows_calls: bool = False) -> AnswerReading:
    """Read a reply of one choice: text or tool calls, with or without text beside them.

    A reply that calls tools is an answer, and its text none: `response_format` is not checked, no text score counts.
    `knows_calls`: answers that call tools were among those that the version was fitted and certified on.
    """
    if calls := completion.tool_calls:
        return AnswerReading(len(calls), calls_fault(query, completion), None if knows_calls else CALLS_NOT_MEASURED)
    if tools_declared(query) and (fault := calls_fault(query, completion)) is not None:
        return AnswerReading(0, fault)
    if completion.finish_reason in CALLING_FINISHES and not completion.text.strip():
        return AnswerReading(0, "it ends in a tool call, and holds none")
    return AnswerReading(
        0, "the answer is not the JSON that response_format asks for" if schema_fault(query, completion) > 0 else None
    )


def declares_shape(query: Query) -> bool:
    """Return whether the request declares a shape that `read_answer` can check on a whole reply."""
    declared = query.parameters.get("response_format")
    has_format = isinstance(declared, Mapping) and declared.get("type") in ("json_object", "json_schema")
    return has_format or tools_declared(query)


def tools_declared(query: Query) -> bool:
    """Return whether the request declares tools, under either name."""
    return bool(query.parameters.get("tools") or query.parameters.get("functions"))
