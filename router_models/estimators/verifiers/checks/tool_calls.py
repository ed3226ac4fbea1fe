"""Read a reply's tool calls against what the request declared. Pure, no network.

A call is as declared where its tool is, where the request lets it be called, and where its arguments are an object
that the tool's schema accepts. Arguments without any text are the empty object: APIs send both for a function without
parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router_models.estimators.verifiers.checks.schemas import matches_schema
from router_models.types import Completion, Query

CALLING_FINISHES = frozenset({"tool_calls", "function_call"})
"""The finish reasons of an answer that calls tools."""
WRITTEN_CALLS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function=", "<function_call>", "<｜tool▁call")
"""How models write calls that an engine without the right parser passes on as text."""
_CUT_OFF = frozenset({"length", "content_filter"})


@dataclass(frozen=True, slots=True)
class DeclaredTools:
    """Hold what a request says of tools.

    Parameters
    ----------
    functions : mapping of str to object
        The JSON schema of every function's arguments, None where it has none.
    others : set of str
        The names of custom tools, and the types of tools that a provider runs itself.
    required : bool
        Whether at least one call is required.
    permitted : set of str, optional
        The only names that may be called; None: all that are declared.
    several : bool
        Whether more than one call may be made at once.
    """

    functions: Mapping[str, object] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    required: bool = False
    permitted: frozenset[str] | None = None
    several: bool = True

    def __bool__(self) -> bool:
        return bool(self.functions or self.others)


def declared_tools(query: Query) -> DeclaredTools:
    """Return what a request declares under `tools` and `tool_choice`, or under the former `functions`."""
    functions: dict[str, object] = {}
    others: set[str] = set()
    for kind, tool in _entries(query):
        name = tool.get("name")
        if kind == "function" and isinstance(name, str):
            functions[name] = tool.get("parameters")
        elif kind == "custom" and isinstance(name, str):
            others.add(name)
        elif isinstance(kind, str):
            others.add(kind)
    choice = query.parameters.get("tool_choice") or query.parameters.get("function_call") or "auto"
    required, permitted = _choice(choice)
    return DeclaredTools(
        functions, frozenset(others), required, permitted, query.parameters.get("parallel_tool_calls") is not False
    )


def calls_fault(query: Query, completion: Completion) -> str | None:
    """Return what is wrong with a reply's calls, in words: the first fault, or that a call is missing.

    None where all are as declared, and where there is none and none was required. The calls are those of one choice.
    """
    declared, calls = declared_tools(query), completion.tool_calls
    if not calls:
        if declared and declared.required:
            return "a required tool call is missing"
        written = declared and any(mark in completion.text for mark in WRITTEN_CALLS)
        return "a tool call is written as text, which no client reads as a call" if written else None
    if completion.finish_reason in _CUT_OFF:
        return "a tool call was cut off"
    if not declared.several and len(calls) > 1:
        return f"{len(calls)} tool calls where parallel_tool_calls is false"
    return next((fault for call in calls if (fault := call_fault(call, declared)) is not None), None)


def call_fault(call: Mapping[str, Any], declared: DeclaredTools) -> str | None:
    """Return what is wrong with one call, in words; None where it is as declared. Nothing of the call is quoted."""
    kind = call.get("type") or "function"
    if kind not in ("function", "custom"):
        return (
            None
            if isinstance(kind, str) and kind in declared.others
            else "a tool call of a kind that was not declared"
        )
    called = call.get(kind)
    name = called.get("name") if isinstance(called, Mapping) else None
    known = declared.functions if kind == "function" else declared.others
    if not isinstance(called, Mapping) or not isinstance(name, str) or name not in known:
        return "a tool call names no declared tool"
    if declared.permitted is not None and name not in declared.permitted:
        return "a tool call names a tool that tool_choice does not permit"
    if kind == "custom":
        return None if isinstance(called.get("input"), str) else "a custom tool call has no input"
    try:
        arguments = _arguments(called.get("arguments"))
    except (ValueError, RecursionError):
        return "a tool call's arguments do not parse"
    if not isinstance(arguments, Mapping):
        return "a tool call's arguments are no object"
    return None if matches_schema(arguments, declared.functions[name]) else "a tool call breaks its tool's schema"


def _arguments(given: object) -> object:
    if given is None or (isinstance(given, str) and not given.strip()):
        return {}
    return json.loads(given, parse_constant=_no_number) if isinstance(given, str) else given


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _entries(query: Query) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield (type, fields) of every declared tool; a tool's fields lie under its type, or beside it."""
    for tool in _mappings(query.parameters.get("tools")):
        kind = tool.get("type") or "function"
        inner = tool.get(kind) if isinstance(kind, str) else None
        yield kind, inner if isinstance(inner, Mapping) else tool
    for function in _mappings(query.parameters.get("functions")):
        yield "function", function


def _choice(choice: object) -> tuple[bool, frozenset[str] | None]:
    """Return whether a call is required, and which names alone are permitted (None: all)."""
    if not isinstance(choice, Mapping):
        return choice not in ("auto", "none"), frozenset() if choice == "none" else None
    if choice.get("type") == "allowed_tools":
        inner = choice.get("allowed_tools")
        allowed = inner if isinstance(inner, Mapping) else choice
        names = {_name(tool) for tool in _mappings(allowed.get("tools"))}
        return allowed.get("mode") == "required", frozenset(name for name in names if name is not None)
    name = _name(choice)
    return True, None if name is None else frozenset({name})


def _name(tool: Mapping[str, Any]) -> str | None:
    kind = tool.get("type")
    inner = tool.get(kind) if isinstance(kind, str) else None
    name = (inner if isinstance(inner, Mapping) else tool).get("name")
    return name if isinstance(name, str) else None


def _mappings(value: object) -> Sequence[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []
